//! Records and an output for the tests of everything that takes some.
//! Must not stand in a build that runs.
//! Called by the tests of telemetry and admin.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use super::record::{DecisionRecord, End, Entry, Shown, TunnelRecord};
use crate::name::{Host, HostName, Port};
use crate::policy::rule::{CollectionKind, CollectionRef, Position};
use crate::policy::{Generation, Reason, Stage};

/// A CONNECT that `no_rule` refused.
pub(crate) fn denied(id: u64) -> DecisionRecord {
    DecisionRecord {
        at: "2026-03-01T12:00:01.25Z".parse().unwrap(),
        id,
        generation: Generation(7),
        listener: "proxy".into(),
        entry: Entry::Connect,
        source: "10.1.2.3:5555".parse().unwrap(),
        workload: Some("trips".into()),
        own_port: false,
        host: Some(Host::parse(b"api.example.com").unwrap()),
        port: Some(Port::HTTPS),
        method: None,
        path: None,
        seen: None,
        sni: None,
        ech: false,
        allowed: false,
        reason: Reason::NoRule,
        would_deny: None,
        stage: Stage::Request,
        rule: None,
        rule_at: None,
        collection: None,
        needed_by: Vec::new(),
        address: None,
        refused: Vec::new(),
        aliases: Vec::new(),
        stale: false,
        detail: None,
        took: Duration::from_micros(213),
    }
}

/// Where a rule stands.
pub(crate) fn at(file: &str, line: u32) -> Position {
    Position {
        file: file.into(),
        line,
    }
}

/// The collection of a rule.
pub(crate) fn collection() -> Arc<CollectionRef> {
    Arc::new(CollectionRef {
        name: "AppRC2".into(),
        group: Some("BaseRCG2".into()),
        kind: CollectionKind::Application,
        priority: 1200,
    })
}

/// A CONNECT that a rule allowed.
pub(crate) fn allowed(id: u64) -> DecisionRecord {
    DecisionRecord {
        allowed: true,
        reason: Reason::Rule,
        stage: Stage::Hello,
        seen: Some(Shown::Hello),
        sni: Some(HostName::parse(b"api.example.com").unwrap()),
        rule: Some("payments".into()),
        rule_at: Some(at("policy.yaml", 12)),
        address: Some("203.0.113.7".parse().unwrap()),
        aliases: vec![HostName::parse(b"edge.example.net").unwrap()],
        ..denied(id)
    }
}

pub(crate) fn closed(id: u64) -> TunnelRecord {
    TunnelRecord {
        at: "2026-03-01T12:00:09.5Z".parse().unwrap(),
        id,
        generation: Generation(7),
        listener: "proxy".into(),
        entry: Entry::Connect,
        source: "10.1.2.3:5555".parse().unwrap(),
        workload: Some("trips".into()),
        host: Host::parse(b"api.example.com").unwrap(),
        port: Port::HTTPS,
        sni: Some(HostName::parse(b"api.example.com").unwrap()),
        address: "203.0.113.7".parse().unwrap(),
        up: 517,
        down: 48213,
        lasted: Duration::from_millis(8250),
        end: End::Finished,
    }
}

/// An output that keeps what it is given.
#[derive(Clone, Default)]
pub(crate) struct Collected(Arc<Mutex<Vec<u8>>>);

impl Collected {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    /// The thread holds the only other clone.
    pub(crate) fn wait_for_end(&self) {
        let end = Instant::now() + PATIENCE;
        while Arc::strong_count(&self.0) > 1 && Instant::now() < end {
            thread::yield_now();
        }
    }
}

impl Write for Collected {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Long enough for a busy machine; nothing waits for it when all is well.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
