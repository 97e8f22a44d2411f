//! The DNS servers of the system, for settings that name none.
//! Must not take anything else from the system: no search list, no options, no hosts file.
//! Called once, when the resolver is made.

use std::net::{IpAddr, SocketAddr};
use std::{fs, io};

use hickory_resolver::net::NetError;
use thiserror::Error;

/// Why there is nobody to ask.
#[derive(Debug, Error)]
pub enum BadServers {
    #[error("`dns.servers` is empty and {SYSTEM_FILE} cannot be read ({0}); {ADVICE}")]
    Unreadable(#[from] io::Error),
    #[error("`dns.servers` is empty and {SYSTEM_FILE} names no server; {ADVICE}")]
    None,
    #[error("{SYSTEM_FILE}:{line}: `{written}` is not an IP address; correct it, or {ADVICE}")]
    Line { line: usize, written: String },
    #[error("the DNS client cannot be set up: {0}")]
    Client(NetError),
}

/// The servers that /etc/resolv.conf names; at least one.
pub(super) fn servers() -> Result<Vec<SocketAddr>, BadServers> {
    read(&fs::read_to_string(SYSTEM_FILE)?)
}

/// The servers of a resolv.conf, and nothing else of it: a search list, `ndots` and all options are for names that are
/// not absolute. A server that cannot be read is an error: asking only the others is not what was written.
fn read(text: &str) -> Result<Vec<SocketAddr>, BadServers> {
    let mut servers = Vec::new();
    for (place, line) in text.lines().enumerate() {
        let mut words = line.split_whitespace();
        if words.next() != Some("nameserver") {
            continue;
        }
        let written = words.next().unwrap_or_default();
        let address: IpAddr = written.parse().map_err(|_| BadServers::Line {
            line: place + 1,
            written: written.to_owned(),
        })?;
        servers.push(SocketAddr::new(address, DNS_PORT));
    }
    if servers.is_empty() {
        return Err(BadServers::None);
    }
    Ok(servers)
}

const SYSTEM_FILE: &str = "/etc/resolv.conf";
const ADVICE: &str = "write at least one server into the settings, such as `servers: [\"10.0.0.10:53\"]`";
const DNS_PORT: u16 = 53;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_servers_of_a_resolv_conf_count() {
        let text = "# of kubelet\nsearch a.svc.cluster.local -- broken!name\nnameserver 10.0.0.10\n\
                    options ndots:5\n nameserver\tfd00::10 # the second\n;nameserver 192.0.2.1\n#nameserver 192.0.2.2\n";
        let expected = ["10.0.0.10:53", "[fd00::10]:53"].map(|text| text.parse().unwrap());
        assert_eq!(read(text).unwrap(), expected);
    }

    #[test]
    fn a_resolv_conf_without_readable_servers_is_an_error() {
        let none = read("search test\n").unwrap_err().to_string();
        assert!(
            none.starts_with("`dns.servers` is empty and /etc/resolv.conf names no server; write"),
            "{none}"
        );
        let line = read("nameserver 10.0.0.10\nnameserver fe80::1%eth0\n")
            .unwrap_err()
            .to_string();
        assert!(
            line.starts_with("/etc/resolv.conf:2: `fe80::1%eth0` is not an IP address"),
            "{line}"
        );
        assert!(read("nameserver").is_err());
    }
}
