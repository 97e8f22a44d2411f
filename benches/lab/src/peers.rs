//! The proxies that we stand beside, as package managers install them, with a small allowlist each.
//! Must be as cheap as their own settings make them in production: no access log, no cache, no helpers, two workers.
//! Called by the cast.

mod envoy;
mod haproxy;
mod nginx;
mod squid;
mod tinyproxy;

use std::net::SocketAddr;
use std::process::{Command, Stdio};

use anyhow::Context;

use crate::lab::ZONE;
use crate::process::Process;

pub(crate) use envoy::envoy;
pub(crate) use haproxy::haproxy;
pub(crate) use nginx::nginx;
pub(crate) use squid::squid;
pub(crate) use tinyproxy::tinyproxy;

/// A running peer.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    pub(crate) version: String,
    pub(crate) process: Process,
    /// Where it takes CONNECT and requests for pages.
    pub(crate) explicit: Option<SocketAddr>,
    /// Where it takes TLS.
    pub(crate) tls: Option<SocketAddr>,
}

impl Peer {
    async fn start(
        name: &'static str,
        version: String,
        command: &mut Command,
        explicit: Option<SocketAddr>,
        tls: Option<SocketAddr>,
    ) -> anyhow::Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let mut process = Process::spawn(name, command)?;
        for address in [explicit, tls].into_iter().flatten() {
            process.wait_listening(address).await?;
        }
        Ok(Self {
            name,
            version,
            process,
            explicit,
            tls,
        })
    }
}

/// Ten zones; ours is the last.
fn allowlist() -> impl Iterator<Item = String> {
    let others = (1..10).map(|number| format!("other-{number}.example"));
    others.chain([ZONE.to_owned()])
}

/// The first line of what a program says of its version, wherever it says it.
fn version(program: &str, argument: &str) -> anyhow::Result<String> {
    let output = Command::new(program)
        .arg(argument)
        .output()
        .with_context(|| format!("{program} is not installed (benches/run does it)"))?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let line = text.lines().find(|line| line.chars().any(|c| c.is_ascii_digit()));
    let line = line.unwrap_or_default().trim();
    // Some begin with where they are installed.
    let (_, line) = line.split_once(&format!("/{program} ")).unwrap_or(("", line));
    Ok(line.trim().to_owned())
}

/// Enough for 9,000 tunnels below a limit of 20,000 files.
const CONNECTIONS: usize = 9_400;
