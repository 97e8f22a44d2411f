//! The proxies that we stand beside: squid and tinyproxy, as Debian packages them.
//! Must be as cheap as their own settings make them: a small allowlist, no access log, no cache, no helpers.
//! Called by the question of what a CONNECT costs.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};

use crate::lab::{Lab, ZONE};
use crate::process::{Process, free_port};

/// A running peer.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    pub(crate) version: String,
    pub(crate) process: Process,
    pub(crate) address: SocketAddr,
}

/// squid, one process, names from a hosts file of its own.
pub(crate) async fn squid(lab: &Lab) -> anyhow::Result<Peer> {
    let version = version("squid", "-v")?;
    let address = free_port().await?;
    let hosts = hosts(lab, "squid.hosts", "")?;
    let settings = lab.dir.path().join("squid.conf");
    let allowed: Vec<_> = allowlist().map(|zone| format!(".{zone}")).collect();
    let text = format!(
        "http_port {address}\n\
         acl allowed dstdomain {allowed}\n\
         acl origin port {port}\n\
         http_access allow CONNECT allowed origin\n\
         http_access deny all\n\
         access_log none\n\
         cache_log /dev/null\n\
         cache_store_log none\n\
         cache deny all\n\
         cache_mem 0 MB\n\
         pinger_enable off\n\
         netdb_filename none\n\
         pid_filename none\n\
         coredump_dir none\n\
         hosts_file {hosts}\n\
         shutdown_lifetime 0 seconds\n",
        allowed = allowed.join(" "),
        port = lab.origin.address.port(),
    );
    fs::write(&settings, text)?;
    let mut command = Command::new("squid");
    command.args(["-N", "-f"]).arg(&settings);
    Peer::start("squid", version, &mut command, address).await
}

/// tinyproxy, whose names come from /etc/hosts: it gets one of its own in a mount namespace.
pub(crate) async fn tinyproxy(lab: &Lab) -> anyhow::Result<Peer> {
    let version = version("tinyproxy", "-v")?;
    ensure!(
        rustix::process::geteuid().is_root(),
        "tinyproxy needs a hosts file of its own, and that needs root"
    );
    let address = free_port().await?;
    let hosts = hosts(lab, "tinyproxy.hosts", "127.0.0.1 localhost\n")?;
    let filter = lab.dir.path().join("tinyproxy.filter");
    let allowed: Vec<_> = allowlist().map(|zone| format!("*.{zone}")).collect();
    fs::write(&filter, allowed.join("\n"))?;
    let settings = lab.dir.path().join("tinyproxy.conf");
    let text = format!(
        "Port {proxy}\n\
         Listen 127.0.0.1\n\
         Timeout 600\n\
         MaxClients 1000\n\
         LogLevel Critical\n\
         ConnectPort {origin}\n\
         FilterType fnmatch\n\
         FilterDefaultDeny Yes\n\
         Filter \"{filter}\"\n",
        proxy = address.port(),
        origin = lab.origin.address.port(),
        filter = filter.display(),
    );
    fs::write(&settings, text)?;
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "sh", "-c"])
        .arg("mount --bind \"$1\" /etc/hosts && exec tinyproxy -d -c \"$2\"")
        .arg("sh")
        .arg(hosts)
        .arg(&settings);
    Peer::start("tinyproxy", version, &mut command, address).await
}

impl Peer {
    async fn start(
        name: &'static str,
        version: String,
        command: &mut Command,
        address: SocketAddr,
    ) -> anyhow::Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let mut process = Process::spawn(name, command)?;
        process.wait_listening(address).await?;
        Ok(Self {
            name,
            version,
            process,
            address,
        })
    }
}

/// Ten zones; ours is the last.
fn allowlist() -> impl Iterator<Item = String> {
    let others = (1..10).map(|number| format!("other-{number}.example"));
    others.chain([ZONE.to_owned()])
}

fn hosts(lab: &Lab, file: &str, before: &str) -> anyhow::Result<String> {
    let path = lab.dir.path().join(file);
    let names = lab.names.iter().map(|name| format!("127.0.0.1 {name}\n"));
    fs::write(&path, before.to_owned() + &names.collect::<String>())?;
    text(&path)
}

fn text(path: &Path) -> anyhow::Result<String> {
    Ok(path.to_str().context("a path that is not UTF-8")?.to_owned())
}

fn version(program: &str, argument: &str) -> anyhow::Result<String> {
    let output = Command::new(program)
        .arg(argument)
        .output()
        .with_context(|| format!("{program} is not installed (apt-get install {program})"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().next().unwrap_or_default().trim().to_owned())
}
