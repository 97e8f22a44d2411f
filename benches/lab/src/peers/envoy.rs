//! envoy, from `PyPI`: CONNECT and pages by a dynamic forward proxy, TLS by server name; one process with two workers.
//! Must keep 20,000 names in its cache, and refuse by its own tables what is on no list.
//! Called by both casts.

use std::net::SocketAddr;
use std::process::{Command, Stdio};

use super::{Peer, allowlist, version};
use crate::lab::Lab;
use crate::process::free_port;

pub(crate) async fn envoy(lab: &Lab) -> anyhow::Result<Peer> {
    let version = version("envoy", "--version")?;
    let (explicit, tls) = (free_port().await?, free_port().await?);
    let settings = lab.write("envoy.yaml", &settings(lab, explicit, tls))?;
    let mut command = Command::new("envoy");
    command
        .args([
            "--concurrency",
            "2",
            "--disable-hot-restart",
            "--log-level",
            "critical",
            "-c",
        ])
        .arg(&settings)
        .stderr(Stdio::null());
    Peer::start("envoy", version, &mut command, Some(explicit), Some(tls)).await
}

fn settings(lab: &Lab, explicit: SocketAddr, tls: SocketAddr) -> String {
    let (port, web) = (lab.origin.address.port(), lab.origin.web.port());
    let domains: Vec<_> = allowlist()
        .flat_map(|zone| [format!("\"*.{zone}:{port}\""), format!("\"*.{zone}:{web}\"")])
        .collect();
    let names: Vec<_> = allowlist().map(|zone| format!("\"*.{zone}\"")).collect();
    SETTINGS
        .replace("EXPLICIT", &explicit.port().to_string())
        .replace("TLS", &tls.port().to_string())
        .replace("ORIGIN", &port.to_string())
        .replace("DOMAINS", &domains.join(", "))
        .replace("NAMES", &names.join(", "))
        .replace("DNS", &lab.dns.port().to_string())
}

const SETTINGS: &str = include_str!("envoy.yaml");
