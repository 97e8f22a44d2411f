//! haproxy in TCP mode: TLS by server name, one process with two threads.
//! Must refuse a name that is not on the list before it dials.
//! Called by the cast of transparent TLS.

use std::process::Command;

use super::{CONNECTIONS, Peer, allowlist, version};
use crate::lab::Lab;
use crate::process::free_port;

pub(crate) async fn haproxy(lab: &Lab) -> anyhow::Result<Peer> {
    let version = version("haproxy", "-v")?;
    let address = free_port().await?;
    let allowed: Vec<_> = allowlist().map(|zone| format!(".{zone}")).collect();
    let settings = lab.write(
        "haproxy.cfg",
        &format!(
            "global\n  nbthread 2\n  maxconn {CONNECTIONS}\n  maxpipes 128\n\
             defaults\n  mode tcp\n  option splice-auto\n  timeout connect 5s\n  timeout client 1h\n  timeout server 1h\n\
             frontend tls\n  bind {address}\n\
             \x20 acl allowed req.ssl_sni -i -m end {allowed}\n\
             \x20 tcp-request inspect-delay 5s\n\
             \x20 tcp-request content reject if {{ req.ssl_hello_type 1 }} !allowed\n\
             \x20 tcp-request content accept if {{ req.ssl_hello_type 1 }}\n\
             \x20 tcp-request content reject\n\
             \x20 default_backend origin\n\
             backend origin\n  server origin {origin}\n",
            allowed = allowed.join(" "),
            origin = lab.origin.address,
        ),
    )?;
    let mut command = Command::new("haproxy");
    command.arg("-db").arg("-f").arg(&settings);
    Peer::start("haproxy", version, &mut command, None, Some(address)).await
}
