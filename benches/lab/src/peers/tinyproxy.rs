//! tinyproxy: a thread per connection; names from the C library.
//! Must find the lab's DNS server in /etc/resolv.conf, which `benches/isolated` sees to.
//! Called by the cast of CONNECT and pages.

use std::process::Command;

use super::{CONNECTIONS, Peer, allowlist, version};
use crate::lab::Lab;
use crate::process::free_port;

pub(crate) async fn tinyproxy(lab: &Lab) -> anyhow::Result<Peer> {
    let version = version("tinyproxy", "-v")?;
    let address = free_port().await?;
    let allowed: Vec<_> = allowlist().map(|zone| format!("*.{zone}")).collect();
    let filter = lab.write("tinyproxy.filter", &allowed.join("\n"))?;
    let settings = lab.write(
        "tinyproxy.conf",
        &format!(
            "Port {proxy}\n\
             Listen 127.0.0.1\n\
             Timeout 600\n\
             MaxClients {CONNECTIONS}\n\
             LogLevel Critical\n\
             ConnectPort {origin}\n\
             FilterType fnmatch\n\
             FilterDefaultDeny Yes\n\
             Filter \"{filter}\"\n",
            proxy = address.port(),
            origin = lab.origin.address.port(),
            filter = filter.display(),
        ),
    )?;
    let mut command = Command::new("tinyproxy");
    command.arg("-d").arg("-c").arg(&settings);
    Peer::start("tinyproxy", version, &mut command, Some(address), None).await
}
