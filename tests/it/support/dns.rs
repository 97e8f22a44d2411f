//! A DNS server of a test's own: scripted answers over UDP and TCP, and a count of every question.
//! Must not resolve anything by itself: what no script names does not exist (NXDOMAIN).
//! Called by tests that need names; the proxy under test asks it as its only server.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use super::event::Events;

/// A running server; it ends with the process.
#[derive(Clone, Debug)]
pub struct Dns {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

/// What a name answers. Fields that a script does not set answer plainly.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    pub addresses: Vec<IpAddr>,
    /// Owner and target of each alias, in order; the addresses belong to the last target.
    pub aliases: Vec<String>,
    pub ttl: u32,
    pub rcode: u8,
    /// Over UDP only: no records and TC set.
    pub truncate: bool,
    /// No answer at all.
    pub silent: bool,
    pub delay: Duration,
    pub spoil: Spoil,
}

/// What is wrong with an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Spoil {
    #[default]
    Nothing,
    /// The id is another one.
    Id,
    /// The question that is echoed is another one.
    Question,
    /// Sent from another port.
    Port,
    /// Extra address records, of a name nobody asked for.
    Stranger(Ipv4Addr),
    /// The name of the answer is a compression pointer to itself.
    Loop,
}

#[derive(Debug, Default)]
struct Shared {
    /// Answers by name, used one after the other; the last one stays.
    scripts: Mutex<HashMap<String, Vec<Answer>>>,
    questions: Events<Question>,
    dead: Mutex<bool>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    pub name: String,
    pub kind: u16,
    pub tcp: bool,
}

impl Answer {
    pub fn of<A: Into<IpAddr>>(addresses: impl IntoIterator<Item = A>) -> Self {
        let addresses = addresses.into_iter().map(Into::into).collect();
        Self {
            addresses,
            ttl: 60,
            ..Self::default()
        }
    }

    pub fn rcode(rcode: u8) -> Self {
        Self {
            rcode,
            ..Self::default()
        }
    }
}

impl Dns {
    /// On a free port of 127.0.0.1.
    pub fn start() -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap())
    }

    pub fn start_at(bind: SocketAddr) -> Self {
        let (udp, tcp) = bind_both(bind);
        let address = udp.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let server = Self { address, shared };
        let (over_udp, over_tcp) = (server.clone(), server.clone());
        thread::spawn(move || over_udp.serve_udp(&udp));
        thread::spawn(move || over_tcp.serve_tcp(&tcp));
        server
    }

    /// `name` answers with these addresses from now on. A leading `*.` stands for any names below.
    pub fn set<A: Into<IpAddr>>(&self, name: &str, addresses: impl IntoIterator<Item = A>) {
        self.script(name, [Answer::of(addresses)]);
    }

    /// `name` answers with each of these in turn, by record type, and stays with the last.
    pub fn script(&self, name: &str, answers: impl IntoIterator<Item = Answer>) {
        let answers = answers.into_iter().collect();
        self.shared.scripts.lock().unwrap().insert(name.to_owned(), answers);
    }

    /// From now on nothing is answered, or everything again.
    pub fn kill(&self, dead: bool) {
        *self.shared.dead.lock().unwrap() = dead;
    }

    /// How often `name` was asked for, in any record type.
    pub fn asked(&self, name: &str) -> usize {
        self.shared
            .questions
            .with(|all| all.iter().filter(|one| one.name == name).count())
    }

    pub fn questions(&self) -> Vec<Question> {
        self.shared.questions.with(<[Question]>::to_vec)
    }

    fn serve_udp(&self, socket: &UdpSocket) {
        let mut buffer = [0; 4096];
        while let Ok((len, peer)) = socket.recv_from(&mut buffer) {
            let query = buffer[..len].to_vec();
            let (server, socket) = (self.clone(), socket.try_clone().unwrap());
            thread::spawn(move || {
                let Some((answer, reply)) = server.reply(&query, false) else {
                    return;
                };
                if answer.spoil == Spoil::Port {
                    let stranger = UdpSocket::bind((socket.local_addr().unwrap().ip(), 0)).unwrap();
                    let _ = stranger.send_to(&reply, peer);
                } else {
                    let _ = socket.send_to(&reply, peer);
                }
            });
        }
    }

    fn serve_tcp(&self, listener: &TcpListener) {
        for stream in listener.incoming() {
            let server = self.clone();
            thread::spawn(move || server.serve_stream(stream.unwrap()));
        }
    }

    fn serve_stream(&self, mut stream: TcpStream) {
        loop {
            let mut len = [0; 2];
            if stream.read_exact(&mut len).is_err() {
                return;
            }
            let mut query = vec![0; usize::from(u16::from_be_bytes(len))];
            if stream.read_exact(&mut query).is_err() {
                return;
            }
            let Some((_, reply)) = self.reply(&query, true) else {
                return;
            };
            let mut message = u16::try_from(reply.len()).unwrap().to_be_bytes().to_vec();
            message.extend(reply);
            if stream.write_all(&message).is_err() {
                return;
            }
        }
    }

    fn reply(&self, query: &[u8], tcp: bool) -> Option<(Answer, Vec<u8>)> {
        let (name, kind, end) = read_question(query)?;
        let before = self.shared.questions.update(|all| {
            let before = all
                .iter()
                .filter(|one| one.name == name && one.kind == kind && one.tcp == tcp)
                .count();
            all.push(Question {
                name: name.clone(),
                kind,
                tcp,
            });
            before
        });
        if *self.shared.dead.lock().unwrap() {
            return None;
        }
        let answer = self.answer(&name, before);
        if answer.silent {
            return None;
        }
        // The stub plays a slow server; nothing waits for this to end.
        thread::park_timeout(answer.delay);
        let reply = encode(query, &name, kind, end, &answer, tcp);
        Some((answer, reply))
    }

    fn answer(&self, name: &str, turn: usize) -> Answer {
        let scripts = self.shared.scripts.lock().unwrap();
        let below = name.match_indices('.').map(|(dot, _)| format!("*{}", &name[dot..]));
        let script = std::iter::once(name.to_owned())
            .chain(below)
            .find_map(|key| scripts.get(&key));
        match script.map(Vec::as_slice) {
            None | Some([]) => Answer::rcode(NXDOMAIN),
            Some(answers) => answers[turn.min(answers.len() - 1)].clone(),
        }
    }
}

/// UDP and TCP on the same port, which may have to be tried for.
fn bind_both(bind: SocketAddr) -> (UdpSocket, TcpListener) {
    for _ in 0..100 {
        let udp = UdpSocket::bind(bind).unwrap();
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()) {
            return (udp, tcp);
        }
    }
    panic!("no port is free for UDP and TCP at {bind}");
}

/// Name (lower case), type, and where the question ends.
fn read_question(query: &[u8]) -> Option<(String, u16, usize)> {
    let (mut at, mut labels) = (HEADER, Vec::new());
    loop {
        let len = usize::from(*query.get(at)?);
        at += 1;
        if len == 0 {
            break;
        }
        labels.push(String::from_utf8_lossy(query.get(at..at + len)?).to_ascii_lowercase());
        at += len;
    }
    let kind = u16::from_be_bytes([*query.get(at)?, *query.get(at + 1)?]);
    Some((labels.join("."), kind, at + 4))
}

fn encode(query: &[u8], name: &str, kind: u16, end: usize, answer: &Answer, tcp: bool) -> Vec<u8> {
    let mut records = Vec::new();
    let truncated = answer.truncate && !tcp;
    if !truncated {
        let mut owner = name.to_owned();
        for alias in &answer.aliases {
            records.push(record(&owner, CNAME, answer.ttl, &encode_name(alias)));
            alias.clone_into(&mut owner);
        }
        for address in &answer.addresses {
            match address {
                IpAddr::V4(address) if kind == A => records.push(record(&owner, A, answer.ttl, &address.octets())),
                IpAddr::V6(address) if kind == AAAA => {
                    records.push(record(&owner, AAAA, answer.ttl, &address.octets()));
                }
                _ => {}
            }
        }
    }
    let mut question = query[HEADER..end].to_vec();
    let mut id = [query[0], query[1]];
    match answer.spoil {
        Spoil::Id => id[0] ^= 0xff,
        Spoil::Question => question[1] = if question[1] == b'z' { b'y' } else { b'z' },
        Spoil::Stranger(address) => records.push(record("stranger.invalid", A, answer.ttl, &address.octets())),
        Spoil::Loop => {
            let at = u16::try_from(end).unwrap() | 0xc000;
            records = vec![[&at.to_be_bytes()[..], &record(".", A, 60, &[1, 2, 3, 4])[1..]].concat()];
        }
        Spoil::Nothing | Spoil::Port => {}
    }
    let flags = 0x8180_u16 | u16::from(answer.rcode) | if truncated { 0x0200 } else { 0 };
    let mut reply = id.to_vec();
    for number in [flags, 1, u16::try_from(records.len()).unwrap(), 0, 0] {
        reply.extend(number.to_be_bytes());
    }
    reply.extend(question);
    reply.extend(records.concat());
    reply
}

fn record(owner: &str, kind: u16, ttl: u32, data: &[u8]) -> Vec<u8> {
    let mut record = encode_name(owner);
    record.extend(kind.to_be_bytes());
    record.extend(1_u16.to_be_bytes());
    record.extend(ttl.to_be_bytes());
    record.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
    record.extend(data);
    record
}

fn encode_name(name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        bytes.push(u8::try_from(label.len()).unwrap());
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    bytes
}

pub const SERVFAIL: u8 = 2;
pub const NXDOMAIN: u8 = 3;
pub const REFUSED: u8 = 5;
pub const A: u16 = 1;
pub const AAAA: u16 = 28;
const CNAME: u16 = 5;
const HEADER: usize = 12;
