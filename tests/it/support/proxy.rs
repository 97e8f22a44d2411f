//! The proxy under test: the real binary in a process of its own, with a settings file, a policy file and free ports.
//! Must not look inside; it knows what the process prints, answers and returns, and nothing else.
//! Called by every test; dropping it ends the process.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use super::DEADLINE;
use super::client::{Client, get};
use super::event::Events;
use super::http::Message;
use super::record::Record;
use super::setup::{Output, plain};

/// A running proxy.
#[derive(Debug)]
pub struct Proxy {
    pub folder: TempDir,
    child: Child,
    pub log: Events<String>,
    pub records: Events<Record>,
    lines: Events<String>,
    /// Standard output that nobody reads; held so that it stays open.
    unread: Option<ChildStdout>,
    listening: Vec<(String, SocketAddr)>,
    readers: Vec<thread::JoinHandle<()>>,
}

/// What was left of a proxy that ended.
#[derive(Debug)]
pub struct Outcome {
    pub status: ExitStatus,
    pub decisions: Vec<Record>,
    pub tunnels: Vec<Record>,
}

impl Proxy {
    /// Starts `command`, which will listen `count` times, and waits until it is ready.
    pub fn start(mut command: Command, output: Output, count: usize, folder: TempDir) -> Self {
        let mut child = command.spawn().unwrap();
        let (stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let mut proxy = Self {
            folder,
            child,
            log: Events::default(),
            records: Events::default(),
            lines: Events::default(),
            unread: None,
            listening: Vec::new(),
            readers: vec![],
        };
        proxy.readers.push(read_lines(stderr, proxy.log.clone(), plain));
        match output {
            Output::Records => proxy.readers.push(read_lines(stdout, proxy.records.clone(), record)),
            Output::Lines => proxy.readers.push(read_lines(stdout, proxy.lines.clone(), |line| line)),
            Output::Unread => proxy.unread = Some(stdout),
        }
        let found = proxy.log.wait(DEADLINE, |lines| {
            let found: Vec<_> = lines.iter().filter_map(|line| listening(line)).collect();
            (found.len() >= count).then_some(found)
        });
        let Some(found) = found else {
            panic!("it does not listen:\n{}", proxy.log_text())
        };
        proxy.listening = found;
        proxy.wait_ready();
        proxy
    }

    /// Where a listener is bound; `admin` and `health` too.
    pub fn at(&self, name: &str) -> SocketAddr {
        let found = self.listening.iter().find(|(listener, _)| listener == name);
        found
            .unwrap_or_else(|| panic!("no listener {name}:\n{}", self.log_text()))
            .1
    }

    /// The explicit listener.
    pub fn address(&self) -> SocketAddr {
        self.at("proxy")
    }

    pub fn log_text(&self) -> String {
        self.log.with(|lines| lines.join("\n"))
    }

    pub fn expect_log(&self, part: &str) -> String {
        let found = self
            .log
            .wait(DEADLINE, |lines| lines.iter().find(|line| line.contains(part)).cloned());
        found.unwrap_or_else(|| panic!("the log never says {part:?}:\n{}", self.log_text()))
    }

    /// Waits for the first decision that `wanted` picks.
    pub fn decision(&self, wanted: impl Fn(&Record) -> bool) -> Record {
        self.record(|record| record.is_decision() && wanted(record))
    }

    /// Waits for decision number `number`, from 0.
    pub fn nth_decision(&self, number: usize) -> Record {
        let found = self.records.wait(DEADLINE, |all| {
            all.iter().filter(|one| one.is_decision()).nth(number).cloned()
        });
        found.unwrap_or_else(|| panic!("no decision {number}: {:#?}\n{}", self.all_records(), self.log_text()))
    }

    /// Waits for the tunnel record of `id`.
    pub fn tunnel(&self, id: &str) -> Record {
        self.record(|record| record.is_tunnel() && record.id() == id)
    }

    pub fn record(&self, wanted: impl Fn(&Record) -> bool) -> Record {
        let found = self
            .records
            .wait(DEADLINE, |all| all.iter().find(|one| wanted(one)).cloned());
        found.unwrap_or_else(|| panic!("no such record: {:#?}\n{}", self.all_records(), self.log_text()))
    }

    /// Waits for a line of standard output, where [`Setup::raw`] keeps them.
    pub fn raw_line(&self, wanted: impl Fn(&str) -> bool) -> String {
        let found = self
            .lines
            .wait(DEADLINE, |all| all.iter().find(|line| wanted(line)).cloned());
        found.unwrap_or_else(|| panic!("no such line: {:#?}", self.lines.with(<[String]>::to_vec)))
    }

    /// Begins to read the standard output that nobody has read so far.
    pub fn hear(&mut self) {
        let unread = self.unread.take().expect("nobody reads it yet");
        let records = self.records.clone();
        self.readers.push(read_lines(unread, records, record));
    }

    pub fn all_records(&self) -> Vec<Record> {
        self.records.with(<[Record]>::to_vec)
    }

    /// GET on the admin or health listener.
    pub fn page(&self, listener: &str, path: &str) -> Message {
        self.try_page(listener, path)
            .unwrap_or_else(|error| panic!("{path}: {error}\n{}", self.log_text()))
    }

    pub fn json(&self, path: &str) -> Value {
        let page = self.page("admin", path);
        assert_eq!(page.status(), 200, "{path}: {}", page.text());
        serde_json::from_slice(&page.body).unwrap()
    }

    /// The sum of all samples of a metric whose labels include these; for those that count whole things.
    pub fn metric(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        let text = self.page("health", "/metrics").text();
        let samples = text.lines().filter(|line| {
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']))
                && labels
                    .iter()
                    .all(|(key, value)| line.contains(&format!("{key}=\"{value}\"")))
        });
        samples
            .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
            .sum()
    }

    /// Asks again and again until `done`; each turn is one scrape.
    pub fn wait_metric(&self, name: &str, labels: &[(&str, &str)], done: impl Fn(u64) -> bool) -> u64 {
        let end = Instant::now() + DEADLINE;
        loop {
            let value = self.metric(name, labels);
            if done(value) {
                return value;
            }
            assert!(
                Instant::now() < end,
                "{name} {labels:?} stays {value}\n{}",
                self.log_text()
            );
            thread::park_timeout(TURN);
        }
    }

    /// The generation in force, as `/policy` says.
    pub fn generation(&self) -> u64 {
        self.json("/policy")["generation"].as_u64().unwrap()
    }

    /// Waits until a generation of at least this number is in force.
    pub fn wait_generation(&self, number: u64) {
        let end = Instant::now() + DEADLINE;
        while self.generation() < number {
            assert!(
                Instant::now() < end,
                "generation {number} never comes:\n{}",
                self.log_text()
            );
            thread::park_timeout(TURN);
        }
    }

    pub fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    /// Writes the policy anew, by a rename.
    pub fn rewrite(&self, file: &str, text: &str) {
        write_whole(&self.path(file), text);
    }

    /// Another policy in `policy.yaml`, in force when this returns.
    pub fn reload(&self, policy: &str) {
        let before = self.generation();
        self.rewrite("policy.yaml", policy);
        self.wait_generation(before + 1);
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Ends it by SIGTERM and collects everything it wrote.
    pub fn stop(mut self) -> Outcome {
        if self.is_running() {
            self.signal(Signal::TERM);
        }
        self.wait_end()
    }

    /// Waits until it has ended by itself.
    pub fn wait_end(mut self) -> Outcome {
        let status = self
            .wait_status(DEADLINE + DEADLINE)
            .unwrap_or_else(|| panic!("it runs on:\n{}", self.log_text()));
        drop(self.unread.take());
        for reader in std::mem::take(&mut self.readers) {
            reader.join().expect("every line of standard output is a record");
        }
        let log = self.log_text();
        assert!(!log.contains("panicked at"), "{log}");
        let all = self.all_records();
        let (decisions, tunnels) = all.into_iter().partition(Record::is_decision);
        Outcome {
            status,
            decisions,
            tunnels,
        }
    }

    fn wait_status(&mut self, limit: Duration) -> Option<ExitStatus> {
        let end = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return Some(status);
            }
            if Instant::now() > end {
                return None;
            }
            thread::park_timeout(TURN);
        }
    }

    fn wait_ready(&self) {
        let end = Instant::now() + DEADLINE;
        while !self
            .try_page("health", "/readyz")
            .is_ok_and(|page| page.status() == 200)
        {
            assert!(Instant::now() < end, "it is never ready:\n{}", self.log_text());
            thread::park_timeout(TURN);
        }
    }

    fn try_page(&self, listener: &str, path: &str) -> std::io::Result<Message> {
        let address = self.at(listener);
        let mut stream = std::net::TcpStream::connect_timeout(&address, DEADLINE)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        get(&mut stream, &address.to_string(), path)
    }
}

impl Drop for Proxy {
    #[expect(clippy::print_stderr, reason = "what the proxy said explains a failed test")]
    fn drop(&mut self) {
        if self.is_running() {
            self.signal(Signal::TERM);
            // Tests that end early leave tunnels open; they need not drain.
            if self.wait_status(Duration::from_millis(500)).is_none() {
                let _ = self.child.kill();
                let _ = self.child.wait();
            }
        }
        if thread::panicking() {
            let mut text = self.log_text();
            for record in self.all_records() {
                let _ = write!(text, "\n{}", record.0);
            }
            eprintln!("--- the proxy said ---\n{text}");
        }
    }
}

impl Outcome {
    /// Verdicts of all decisions, in order.
    pub fn verdicts(&self) -> Vec<String> {
        self.decisions.iter().map(Record::verdict).collect()
    }
}

/// A port that was free a moment ago, for the few places where a number must be written. Below the range that the
/// kernel hands out for port 0, so that no other test gets it meanwhile.
pub fn free_port() -> u16 {
    static TURN: AtomicU32 = AtomicU32::new(0);
    let start = std::process::id().wrapping_mul(7919);
    (0..1000)
        .map(|_| start.wrapping_add(TURN.fetch_add(1, Ordering::Relaxed)) % 20_000 + 10_000)
        .filter_map(|port| u16::try_from(port).ok())
        .find(|port| TcpListener::bind(("0.0.0.0", *port)).is_ok())
        .expect("one of a thousand ports is free")
}

pub fn write_whole(path: &Path, text: &str) {
    let whole = path.with_extension("new");
    fs::write(&whole, text).unwrap();
    fs::rename(whole, path).unwrap();
}

/// A connection to the proxy that is refused at once; `None` while it is accepted.
pub fn is_open(address: SocketAddr) -> bool {
    std::net::TcpStream::connect_timeout(&address, DEADLINE).is_ok()
}

/// A plain request through the proxy, on a connection of its own.
pub fn fetch(proxy: SocketAddr, url: &str) -> Message {
    let host = url.trim_start_matches("http://").split('/').next().unwrap();
    let mut client = Client::connect(proxy);
    client.send(format!(
        "GET {url} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    ));
    client.response()
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "lines are given away to whoever makes something of them"
)]
fn record(line: String) -> Record {
    Record(serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}")))
}

fn read_lines<T: Send + 'static>(
    stream: impl Read + Send + 'static,
    events: Events<T>,
    read: impl Fn(String) -> T + Send + 'static,
) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        for line in BufReader::new(stream).lines() {
            events.push(read(line.unwrap()));
        }
    })
}

/// `name` and `address` of a line that says what is listened on.
fn listening(line: &str) -> Option<(String, SocketAddr)> {
    let (_, rest) = line.split_once("listening")?;
    let value = |key: &str| {
        let found = rest
            .split_whitespace()
            .find_map(|word| word.strip_prefix(key)?.strip_prefix('='))?;
        Some(found.trim_matches('"'))
    };
    Some((value("name")?.to_owned(), value("address")?.parse().ok()?))
}

/// Between two looks at something that only a question can tell.
const TURN: Duration = Duration::from_millis(10);
