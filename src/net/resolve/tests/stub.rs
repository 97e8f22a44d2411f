//! A DNS server on loopback, UDP and TCP on one port, that answers as a function says and remembers what it was asked.
//! Must not answer anything by itself; the function decides.
//! Called by the resolver's tests over the wire.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, AAAA, CNAME, SOA};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::AbortHandle;

/// A question as it stood on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    /// With its final dot.
    pub(super) name: String,
    pub(super) kind: RecordType,
    pub(super) tcp: bool,
}

/// The messages that a question gets, in this order; none is silence.
pub(super) type Replies = Vec<Vec<u8>>;

pub(super) struct Stub {
    pub(super) address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    tasks: [AbortHandle; 2],
}

impl Stub {
    pub(super) async fn start(replies: impl Fn(&Message, bool) -> Replies + Send + Sync + 'static) -> Self {
        Self::start_on("127.0.0.1", replies).await
    }

    pub(super) async fn start_on(
        host: &str,
        replies: impl Fn(&Message, bool) -> Replies + Send + Sync + 'static,
    ) -> Self {
        let (udp, tcp) = bind(host).await;
        let address = udp.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let replies = {
            let asked = asked.clone();
            Arc::new(move |bytes: &[u8], tcp: bool| {
                let query = Message::from_vec(bytes).unwrap();
                let question = &query.queries[0];
                asked.lock().unwrap().push(Asked {
                    name: question.name().to_ascii(),
                    kind: question.query_type(),
                    tcp,
                });
                replies(&query, tcp)
            })
        };
        let udp = tokio::spawn(serve_udp(udp, replies.clone()));
        let tcp = tokio::spawn(serve_tcp(tcp, replies));
        Self {
            address,
            asked,
            tasks: [udp.abort_handle(), tcp.abort_handle()],
        }
    }

    pub(super) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

/// One port that is free for both.
async fn bind(host: &str) -> (UdpSocket, TcpListener) {
    loop {
        let tcp = TcpListener::bind((host, 0)).await.unwrap();
        if let Ok(udp) = UdpSocket::bind(tcp.local_addr().unwrap()).await {
            return (udp, tcp);
        }
    }
}

async fn serve_udp(socket: UdpSocket, replies: Arc<impl Fn(&[u8], bool) -> Replies>) {
    let mut buffer = vec![0; 4096];
    loop {
        let (length, peer) = socket.recv_from(&mut buffer).await.unwrap();
        for reply in replies(&buffer[..length], false) {
            socket.send_to(&reply, peer).await.unwrap();
        }
    }
}

async fn serve_tcp(listener: TcpListener, replies: Arc<impl Fn(&[u8], bool) -> Replies + Send + Sync + 'static>) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let replies = replies.clone();
        tokio::spawn(async move {
            while let Ok(length) = stream.read_u16().await {
                let mut query = vec![0; length.into()];
                stream.read_exact(&mut query).await.unwrap();
                for reply in replies(&query, true) {
                    stream.write_u16(reply.len().try_into().unwrap()).await.unwrap();
                    stream.write_all(&reply).await.unwrap();
                }
            }
        });
    }
}

/// An answer with records as zone files have them: `a.test. 300 A 192.0.2.1`.
pub(super) fn answer(query: &Message, records: &[&str]) -> Vec<u8> {
    message(query, ResponseCode::NoError, records, &[]).to_vec().unwrap()
}

/// An answer with that code, and an SOA record whose minimum is `ttl`, if given.
pub(super) fn refusal(query: &Message, code: ResponseCode, ttl: Option<u32>) -> Vec<u8> {
    let soa = ttl.map(|ttl| format!("test. 86400 SOA {ttl}"));
    let soa: Vec<&str> = soa.as_deref().into_iter().collect();
    message(query, code, &[], &soa).to_vec().unwrap()
}

pub(super) fn message(query: &Message, code: ResponseCode, answers: &[&str], authorities: &[&str]) -> Message {
    let mut message = query.clone().into_response();
    message.metadata.response_code = code;
    message.metadata.recursion_available = true;
    message.add_answers(answers.iter().map(|line| record(line)));
    message.add_authorities(authorities.iter().map(|line| record(line)));
    message
}

fn record(line: &str) -> Record {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [name, ttl, kind, data] = words[..] else {
        panic!("{line}")
    };
    let absolute = |text: &str| Name::from_ascii(text).unwrap();
    let data_of = match kind {
        "A" => RData::A(A(data.parse().unwrap())),
        "AAAA" => RData::AAAA(AAAA(data.parse().unwrap())),
        "CNAME" => RData::CNAME(CNAME(absolute(data))),
        "SOA" => {
            let minimum = data.parse().unwrap();
            RData::SOA(SOA::new(
                absolute("ns.test."),
                absolute("root.test."),
                1,
                1,
                1,
                1,
                minimum,
            ))
        }
        _ => panic!("{line}"),
    };
    Record::from_rdata(absolute(name), ttl.parse().unwrap(), data_of)
}
