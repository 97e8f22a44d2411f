//! A listener with pages behind it, and what the pages show.
//! Must not assert more than that an answer came.
//! Called by the tests of the pages.

use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::admin::*;
use crate::name::{HostPattern, Port};
use crate::policy::compiled::Parts;
use crate::policy::problem::{At, Place};
use crate::policy::rule::{Effect, From, Hits, HostMatch, Peer, Position, Rule, SniCheck};
use crate::policy::{Destination, Generation, Policy, Scheme, Workload};
use crate::settings::{Log, LogFormat, LoggedDecisions};
use crate::telemetry::samples::{self, Collected, PATIENCE};
use crate::telemetry::{Colour, Entry};

pub(super) struct Server {
    pub(super) pages: Pages,
    pub(super) address: SocketAddr,
    pub(super) stop: CancellationToken,
    pub(super) task: JoinHandle<()>,
}

impl Server {
    pub(super) async fn health() -> Self {
        let (pages, listener, stop) = Self::parts().await;
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(serve_health(pages.clone(), listener, stop.clone()));
        Self {
            pages,
            address,
            stop,
            task,
        }
    }

    pub(super) async fn admin() -> Self {
        let (pages, listener, stop) = Self::parts().await;
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(serve_admin(pages.clone(), listener, stop.clone()));
        Self {
            pages,
            address,
            stop,
            task,
        }
    }

    async fn parts() -> (Pages, TcpListener, CancellationToken) {
        let now = at("2026-03-01T12:00:00Z");
        let log = Log {
            format: LogFormat::Json,
            decisions: LoggedDecisions::All,
            required: false,
        };
        let pages = Pages {
            state: Arc::new(State::new(policy(), now)),
            telemetry: Telemetry::new(&log, Metrics::new(now), Collected::default(), Colour::Never).unwrap(),
            readiness: Readiness::default(),
            tunnels: Arc::new(|| (1..=3).map(tunnel).collect()),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        (pages, listener, CancellationToken::new())
    }

    pub(super) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// The whole answer to these bytes; they have to ask for the connection's end.
    pub(super) async fn send(&self, request: &str) -> String {
        let mut stream = self.connect().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        timeout(PATIENCE, stream.read_to_string(&mut answer))
            .await
            .expect("an answer")
            .unwrap();
        answer
    }

    pub(super) async fn get(&self, path: &str) -> String {
        self.send(&format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
            self.address
        ))
        .await
    }

    /// Status and body.
    pub(super) async fn read(&self, path: &str) -> (u16, String) {
        let answer = self.get(path).await;
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        (status_of(&answer), body.to_owned())
    }

    pub(super) async fn json(&self, path: &str) -> Value {
        let (status, body) = self.read(path).await;
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap()
    }
}

pub(super) fn status_of(answer: &str) -> u16 {
    answer.get(9..12).unwrap_or(answer).parse().expect(answer)
}

pub(super) fn names(page: &Value) -> Vec<&str> {
    let rules = page["rules"].as_array().unwrap();
    rules.iter().map(|rule| rule["name"].as_str().unwrap()).collect()
}

pub(super) fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn policy() -> Policy {
    let parts = Parts {
        rules: (0..RULES).map(rule).collect(),
        workloads: vec![Workload {
            name: "trips".into(),
            port: Port::new(3201).map(|value| At {
                value,
                at: Place::default(),
            }),
            cidrs: Vec::new(),
        }],
        files: vec!["policy.yaml".into()],
        ..Parts::default()
    };
    Policy::new(parts, Generation(1))
}

fn rule(number: u32) -> Rule {
    Rule {
        name: format!("rule {number}").into(),
        effect: Effect::Allow,
        collection: (number == 0).then(samples::collection),
        at: Position {
            file: "policy.yaml".into(),
            line: number + 1,
        },
        from: From::Any([Peer::Workload("trips".into())].into_iter().collect()),
        to: Destination {
            scheme: Some(Scheme::Tls),
            host: HostMatch::Name(HostPattern::parse(&format!("host{number}.example.com")).unwrap()),
            ports: 443..=443,
        }
        .into(),
        until: None,
        owner: None,
        why: None,
        addresses: Box::default(),
        sni: SniCheck::Strict,
        no_sni: false,
        ech_outer: false,
        report: false,
        hits: Hits::default(),
    }
}

fn tunnel(id: u64) -> LiveTunnel {
    let closed = samples::closed(id);
    LiveTunnel {
        id,
        listener: closed.listener,
        entry: Entry::Connect,
        source: format!("10.1.2.{id}:5555").parse().unwrap(),
        workload: closed.workload,
        host: closed.host,
        port: closed.port,
        sni: closed.sni,
        address: closed.address,
        rule: Some("payments".into()),
        up: closed.up,
        down: closed.down,
        since: at(&format!("2026-03-01T12:00:0{id}Z")),
        idle: Duration::from_millis(1500),
    }
}

pub(super) const RULES: u32 = 120;
