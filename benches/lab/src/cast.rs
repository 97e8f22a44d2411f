//! All that are measured side by side: the floor, sluicegate, the peers; each with its process and its way to the origin.
//! Must let nobody in who lets a name through that is on no list.
//! Called by the questions.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, ensure};
use clap::ValueEnum;

use crate::client::Entry;
use crate::floor::Mode;
use crate::lab::Lab;
use crate::peers::{self, Peer};
use crate::process::{Cpu, Memory, Process};
use crate::report::fact;
use crate::sluicegate::{Sluicegate, write_settings};

/// What the client sees of the proxy.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    /// A proxy that is asked by CONNECT.
    Connect,
    /// One that takes TLS as if it were the origin.
    Tls,
    /// One that is asked for pages.
    Web,
}

impl Kind {
    /// As it stands in tables.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Connect => "CONNECT",
            Self::Tls => "TLS",
            Self::Web => "HTTP",
        }
    }
}

#[derive(Debug)]
pub(crate) struct Contender {
    pub(crate) name: &'static str,
    pub(crate) entry: Entry,
    who: Who,
    /// Tunnels or pages that it has served; ours must have a record of each.
    served: AtomicUsize,
}

#[derive(Debug)]
enum Who {
    /// The origin itself.
    Nobody,
    Floor(Process),
    Ours(Box<Sluicegate>),
    Peer(Peer),
}

/// Everybody that can do this; the floor is the first, ours the second.
pub(crate) async fn cast(lab: &Lab, binary: &Path, kind: Kind, rules: usize) -> anyhow::Result<Vec<Contender>> {
    let settings = write_settings(lab, rules)?;
    let mut all = vec![
        floor(lab, kind)?,
        Contender::ours(Sluicegate::start(binary, &settings).await?, kind),
    ];
    let peers = match kind {
        Kind::Connect | Kind::Web => vec![
            peers::squid(lab).await?,
            peers::envoy(lab).await?,
            peers::tinyproxy(lab).await?,
        ],
        Kind::Tls => vec![
            peers::nginx(lab).await?,
            peers::haproxy(lab).await?,
            peers::envoy(lab).await?,
        ],
    };
    fact("sluicegate", &format!("{rules} rules, records to a file, metrics on"));
    for peer in peers {
        fact(
            peer.name,
            &format!("{}, ten allowed zones, no access log", peer.version),
        );
        all.push(Contender::peer(peer, kind)?);
    }
    for contender in all.iter().skip(1) {
        contender.refuses(lab, kind).await?;
    }
    Ok(all)
}

/// The relay that does nothing else.
pub(crate) fn floor(lab: &Lab, kind: Kind) -> anyhow::Result<Contender> {
    let (mode, origin) = match kind {
        Kind::Connect => (Mode::Connect, lab.origin.address),
        Kind::Tls => (Mode::Forward, lab.origin.address),
        Kind::Web => (Mode::Forward, lab.origin.web),
    };
    let mode = mode.to_possible_value().context("a mode without a name")?;
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args(["floor", "--mode", mode.get_name(), "--origin", &origin.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut process = Process::spawn("floor", &mut command)?;
    let mut line = String::new();
    BufReader::new(process.take_stdout()?).read_line(&mut line)?;
    let address = line
        .trim()
        .strip_prefix("listening ")
        .context("the floor does not listen")?;
    Ok(Contender::new(
        "floor",
        entry(kind, address.parse()?),
        Who::Floor(process),
    ))
}

impl Contender {
    /// No proxy at all.
    pub(crate) fn direct(lab: &Lab) -> Self {
        Self::new("direct", Entry::Plain(lab.origin.address), Who::Nobody)
    }

    /// One of several of ours; the name says what is different.
    pub(crate) async fn variant(lab: &Lab, name: &'static str, ours: Sluicegate, kind: Kind) -> anyhow::Result<Self> {
        let variant = Self {
            name,
            ..Self::ours(ours, kind)
        };
        variant.refuses(lab, kind).await?;
        Ok(variant)
    }

    fn ours(ours: Sluicegate, kind: Kind) -> Self {
        let address = if kind == Kind::Tls { ours.tls } else { ours.proxy };
        Self::new("sluicegate", entry(kind, address), Who::Ours(Box::new(ours)))
    }

    fn peer(peer: Peer, kind: Kind) -> anyhow::Result<Self> {
        let address = if kind == Kind::Tls { peer.tls } else { peer.explicit };
        let address = address.with_context(|| format!("{} cannot do {kind:?}", peer.name))?;
        Ok(Self::new(peer.name, entry(kind, address), Who::Peer(peer)))
    }

    fn new(name: &'static str, entry: Entry, who: Who) -> Self {
        Self {
            name,
            entry,
            who,
            served: AtomicUsize::new(0),
        }
    }

    pub(crate) fn sluicegate(&self) -> Option<&Sluicegate> {
        match &self.who {
            Who::Ours(ours) => Some(ours),
            _ => None,
        }
    }

    pub(crate) fn is_peer(&self) -> bool {
        matches!(self.who, Who::Peer(_))
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.entry.address()
    }

    pub(crate) fn cpu(&self) -> anyhow::Result<Cpu> {
        self.process().map_or_else(|| Ok(Cpu::default()), Process::cpu)
    }

    pub(crate) fn memory(&self) -> anyhow::Result<Memory> {
        self.process().context("nobody has no memory")?.memory()
    }

    fn process(&self) -> Option<&Process> {
        match &self.who {
            Who::Nobody => None,
            Who::Floor(process) => Some(process),
            Who::Ours(ours) => Some(&ours.process),
            Who::Peer(peer) => Some(&peer.process),
        }
    }

    pub(crate) fn served(&self) -> usize {
        self.served.load(Ordering::Relaxed)
    }

    pub(crate) fn has_served(&self, units: usize) {
        self.served.fetch_add(units, Ordering::Relaxed);
    }

    /// For ours: every unit has been decided, and has left all its records, or ours did less than it says. What is missed.
    pub(crate) async fn settle(&self, records_each: usize) -> anyhow::Result<Option<String>> {
        let Some(ours) = self.sluicegate() else { return Ok(None) };
        let served = self.served();
        ours.wait_metric("sluicegate_decisions_total", "action=\"allow\"", served)
            .await?;
        // And one of what it has refused.
        let records = records_each * served + 1;
        let dropped = ours.metric("sluicegate_records_dropped_total", "").await?;
        if dropped > 0.0 {
            return Ok(Some(format!("{dropped} of {records} records were dropped; none")));
        }
        ours.wait_records(records).await?;
        Ok(None)
    }

    async fn refuses(&self, lab: &Lab, kind: Kind) -> anyhow::Result<()> {
        let refused = if kind == Kind::Web {
            lab.denied.page_is_refused(self.address()).await?
        } else {
            lab.denied.is_refused(self.entry).await?
        };
        ensure!(refused, "{} lets through what it must refuse", self.name);
        Ok(())
    }
}

fn entry(kind: Kind, address: SocketAddr) -> Entry {
    match kind {
        Kind::Connect => Entry::Connect(address),
        Kind::Tls | Kind::Web => Entry::Plain(address),
    }
}
