//! The effective settings as one compact block, as they are printed at start.
//! Must not decide anything, and shows no secret: there is none in the settings.
//! Called by `run`.

use std::fmt;
use std::time::Duration;

use super::{Listener, Log, LogFormat, LoggedDecisions, Mode, Settings, UpstreamPort};

impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for listener in &self.listeners {
            writeln!(f, "listener {listener}")?;
        }
        writeln!(f, "pages    admin on {}, health on {}", self.admin, self.health)?;
        if let Some(presets) = &self.presets {
            writeln!(f, "presets  from {}, and built in", presets.display())?;
        }
        let dns = &self.dns;
        let servers: Vec<_> = dns.servers.iter().map(ToString::to_string).collect();
        let servers = if servers.is_empty() {
            "/etc/resolv.conf".to_owned()
        } else {
            servers.join(", ")
        };
        let [timeout, min_ttl, max_ttl, stale] = [dns.timeout, dns.min_ttl, dns.max_ttl, dns.stale].map(Short);
        writeln!(
            f,
            "dns      {servers}   timeout {timeout}, cache {}, ttl {min_ttl} to {max_ttl}, stale {stale}",
            dns.cache
        )?;
        let t = &self.timeouts;
        let [head, connect, half_close] = [t.head, t.connect, t.half_close].map(Short);
        let [idle, lifetime, drain] = [t.idle, t.lifetime, t.drain].map(Short);
        writeln!(
            f,
            "timeouts head {head}, connect {connect}, half_close {half_close}, idle {idle}, lifetime {lifetime}, drain {drain}"
        )?;
        writeln!(
            f,
            "limits   {} connections, {} per source",
            self.limits.connections, self.limits.per_source
        )?;
        writeln!(f, "reload   grace {}", Short(self.reload.grace))?;
        write!(f, "log      {}", self.log)
    }
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {}: ", self.name, self.bind)?;
        match &self.mode {
            Mode::Explicit { tls: None } => write!(f, "proxy (CONNECT and plain HTTP)"),
            Mode::Explicit { tls: Some(tls) } => {
                let clients = if tls.client_ca.is_some() {
                    ", client certificates required"
                } else {
                    ""
                };
                write!(f, "proxy over TLS{clients}")
            }
            Mode::Tls { port } => write!(f, "transparent TLS, {port}"),
            Mode::Http { port } => write!(f, "transparent HTTP, {port}"),
            Mode::Tcp { to: (host, port) } => write!(f, "TCP to {host}:{port}"),
        }
    }
}

impl fmt::Display for UpstreamPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(port) => write!(f, "to port {port}"),
            Self::Redirect => f.write_str("to the port before REDIRECT"),
            Self::Tproxy => f.write_str("to the port before TPROXY"),
        }
    }
}

impl fmt::Display for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let format = match self.format {
            LogFormat::Json => "json",
            LogFormat::Text => "text",
            LogFormat::Azure => "azure",
        };
        let decisions = match self.decisions {
            LoggedDecisions::All => "all decisions",
            LoggedDecisions::Denied => "denied decisions",
        };
        let required = if self.required { ", required" } else { "" };
        write!(f, "{format}, {decisions}{required}")
    }
}

/// A duration as the settings write it.
struct Short(Duration);

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        let units = [("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];
        if millis == 0 {
            return f.write_str("0s");
        }
        let mut rest = millis;
        for (unit, size) in units {
            if rest >= size {
                write!(f, "{}{unit}", rest / size)?;
                rest %= size;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Inputs, load};
    use super::*;

    #[test]
    fn a_person_sees_every_value() {
        let shown = load(&Inputs::default()).unwrap().to_string();
        let expected = "\
listener proxy on 127.0.0.1:3128: proxy (CONNECT and plain HTTP)
listener tls on 127.0.0.1:8443: transparent TLS, to port 443
listener http on 127.0.0.1:8080: transparent HTTP, to port 80
pages    admin on 127.0.0.1:9090, health on 127.0.0.1:9091
dns      /etc/resolv.conf   timeout 2s, cache 50000, ttl 1s to 1h, stale 30s
timeouts head 10s, connect 10s, half_close 1m, idle 1h, lifetime 0s, drain 30s
limits   50000 connections, 5000 per source
reload   grace 5s
log      json, all decisions";
        assert_eq!(shown, expected);
        let long = Duration::from_millis(3_661_250);
        assert_eq!(Short(long).to_string(), "1h1m1s250ms");
    }
}
