//! squid: one process, as Debian starts it.
//! Must keep 20,000 names in its cache of addresses as the others do; its default of 1,024 would measure DNS.
//! Called by the cast of CONNECT and pages.

use std::process::Command;

use super::{Peer, allowlist, version};
use crate::lab::Lab;
use crate::process::free_port;

pub(crate) async fn squid(lab: &Lab) -> anyhow::Result<Peer> {
    let version = version("squid", "-v")?;
    let address = free_port().await?;
    let allowed: Vec<_> = allowlist().map(|zone| format!(".{zone}")).collect();
    let settings = lab.write(
        "squid.conf",
        &format!(
            "http_port {address}\n\
             acl allowed dstdomain {allowed}\n\
             acl tls port {port}\n\
             acl web port {web}\n\
             http_access allow CONNECT allowed tls\n\
             http_access deny CONNECT\n\
             http_access allow allowed web\n\
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
             dns_nameservers {dns}\n\
             ipcache_size 30000\n\
             fqdncache_size 30000\n\
             max_filedescriptors 20000\n\
             shutdown_lifetime 0 seconds\n",
            allowed = allowed.join(" "),
            port = lab.origin.address.port(),
            web = lab.origin.web.port(),
            dns = lab.dns.ip(),
        ),
    )?;
    let mut command = Command::new("squid");
    command.args(["-N", "-f"]).arg(&settings);
    Peer::start("squid", version, &mut command, Some(address), None).await
}
