//! nginx with its stream module: TLS by server name, a master and two workers.
//! Must have no more names than its map, and close what is not in it.
//! Called by the cast of transparent TLS.

use std::process::Command;

use super::{Peer, allowlist, version};
use crate::lab::Lab;
use crate::process::free_port;

pub(crate) async fn nginx(lab: &Lab) -> anyhow::Result<Peer> {
    let version = version("nginx", "-v")?;
    let address = free_port().await?;
    let allowed: Vec<_> = allowlist().map(|zone| format!("    .{zone} origin;\n")).collect();
    let settings = lab.write(
        "nginx.conf",
        &format!(
            "load_module /usr/lib/nginx/modules/ngx_stream_module.so;\n\
             user root;\n\
             daemon off;\n\
             worker_processes 2;\n\
             pid {dir}/nginx.pid;\n\
             error_log /dev/null crit;\n\
             events {{ worker_connections 20000; }}\n\
             stream {{\n\
             access_log off;\n\
             map $ssl_preread_server_name $upstream {{\n\
             hostnames;\n\
             {allowed}\
             default \"\";\n\
             }}\n\
             upstream origin {{ server {origin}; }}\n\
             server {{\n\
             listen {address} backlog=4096 reuseport;\n\
             ssl_preread on;\n\
             proxy_pass $upstream;\n\
             proxy_timeout 1h;\n\
             }}\n\
             }}\n",
            allowed = allowed.concat(),
            dir = lab.dir.path().display(),
            origin = lab.origin.address,
        ),
    )?;
    let mut command = Command::new("nginx");
    command.arg("-c").arg(&settings).args(["-e", "/dev/null"]);
    Peer::start("nginx", version, &mut command, None, Some(address)).await
}
