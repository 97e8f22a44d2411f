//! What surrounds a measured proxy: a directory for its files, a DNS server, an origin, names and clients for them.
//! Must not run in the proxy's process, and must be able to hold as many descriptors as the proxy.
//! Called by the questions.

use std::fs::{self, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, ensure};
use rustix::process::{Resource, getrlimit, setrlimit};
use tempfile::TempDir;

use crate::client::Target;
use crate::dns;
use crate::hello::Wish;
use crate::origin::Origin;

#[derive(Debug)]
pub(crate) struct Lab {
    pub(crate) dir: TempDir,
    pub(crate) dns: SocketAddr,
    pub(crate) origin: Origin,
    /// One that no allowlist has.
    pub(crate) denied: Target,
}

impl Lab {
    /// `tunnels` is how many are open at the same time: each is two descriptors in this process and in the proxy.
    pub(crate) async fn start(tunnels: usize) -> anyhow::Result<Self> {
        let descriptors = raise_descriptors().context("cannot raise the limit of open files")?;
        ensure!(
            descriptors >= 2 * tunnels as u64 + SLACK,
            "{tunnels} tunnels do not fit into a limit of {descriptors} open files (ulimit -Hn)"
        );
        let dir = TempDir::with_prefix("sluicegate-bench-")?;
        // Some proxies give up root before they read their files.
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755))?;
        let origin = Origin::start().await?;
        let denied = Target::new(
            "host-0.denied.example",
            origin.address.port(),
            origin.web.port(),
            Wish::Echo,
        )?;
        Ok(Self {
            dir,
            dns: dns::start().await?,
            origin,
            denied,
        })
    }

    /// What clients send for that many names, all of them allowed.
    pub(crate) fn targets(&self, names: usize, wish: Wish) -> anyhow::Result<Arc<[Target]>> {
        let (port, web) = (self.origin.address.port(), self.origin.web.port());
        (0..names)
            .map(|number| Target::new(&format!("host-{number}.{ZONE}"), port, web, wish))
            .collect()
    }

    /// Writes a file of a proxy's.
    pub(crate) fn write(&self, name: &str, text: &str) -> anyhow::Result<PathBuf> {
        let path = self.dir.path().join(name);
        fs::write(&path, text)?;
        Ok(path)
    }
}

/// Raises the soft limit of open files to the hard one and returns it; proxies that are started later have it too.
fn raise_descriptors() -> rustix::io::Result<u64> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit)?;
    Ok(limit.current.unwrap_or(u64::MAX))
}

/// All names of the lab end in it.
pub(crate) const ZONE: &str = "bench.example";
/// How many of them are asked for again and again.
pub(crate) const NAMES: usize = 10;
/// Descriptors for all that is not a tunnel.
const SLACK: u64 = 256;
