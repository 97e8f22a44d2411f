//! The fixture most tests share: names, origins, one policy over them, and a proxy in front.
//! Must not grow special cases; a test that needs another policy starts from [`World::origins`] and writes its own.
//! Called by the tests of the fronts.

use super::ca::Ca;
use super::client::Client;
use super::dns::Dns;
use super::origin::Origin;
use super::proxy::{Outcome, Proxy};
use super::record::Record;
use super::setup::Setup;

/// Names and what they lead to, all on loopback.
#[derive(Debug)]
pub struct Origins {
    pub dns: Dns,
    pub ca: Ca,
    /// `api.allowed.test`, `*.wild.test` and `denied.test`, over TLS.
    pub https: Origin,
    /// `plain.allowed.test`, `other.allowed.test` and `denied.test`.
    pub http: Origin,
    /// `echo.allowed.test`.
    pub echo: Origin,
}

/// A proxy in front of them.
#[derive(Debug)]
pub struct World {
    pub origins: Origins,
    pub proxy: Proxy,
}

impl Origins {
    pub fn start() -> Self {
        let dns = Dns::start();
        for name in ["*.allowed.test", "*.wild.test", "denied.test", "*.denied.test"] {
            dns.set(name, [[127, 0, 0, 1]]);
        }
        let ca = Ca::new("sluicegate tests");
        let https = Origin::https(ca.server_config(&["api.allowed.test", "*.wild.test", "denied.test"]));
        Self {
            dns,
            ca,
            https,
            http: Origin::http(),
            echo: Origin::echo(),
        }
    }

    /// The policy of `bypass-cases`, with the origins' ports.
    pub fn policy(&self) -> String {
        format!(
            r#"
allow:
  - {{name: exact, to: ["https://api.allowed.test:{tls}"], addresses: [127.0.0.0/8]}}
  - {{name: wild, to: ["https://*.wild.test:{tls}"], addresses: [127.0.0.0/8]}}
  - {{name: plain, to: ["http://plain.allowed.test:{http}", "http://other.allowed.test:{http}"], addresses: [127.0.0.0/8]}}
  - {{name: echo, to: ["tcp://echo.allowed.test:{echo}"], addresses: [127.0.0.0/8]}}
deny:
  - {{name: bad, to: [bad.wild.test, "*.bad.wild.test"]}}
"#,
            tls = self.https.port(),
            http = self.http.port(),
            echo = self.echo.port(),
        )
    }

    /// `name:port` of the TLS origin.
    pub fn tls_target(&self, name: &str) -> String {
        format!("{name}:{}", self.https.port())
    }

    /// `http://name:port/path` of the plain origin.
    pub fn url(&self, name: &str, path: &str) -> String {
        format!("http://{name}:{}{path}", self.http.port())
    }

    pub fn echo_target(&self) -> String {
        format!("echo.allowed.test:{}", self.echo.port())
    }
}

impl World {
    pub fn start() -> Self {
        Self::with(|setup, _| setup)
    }

    /// With other settings.
    pub fn with(change: impl FnOnce(Setup, &Origins) -> Setup) -> Self {
        let origins = Origins::start();
        let setup = Setup::new(&origins.policy()).dns(&origins.dns);
        let proxy = change(setup, &origins).start();
        Self { origins, proxy }
    }

    /// A tunnel to the echo server.
    pub fn echo_tunnel(&self) -> Client {
        Client::tunnel(self.proxy.address(), &self.origins.echo_target())
    }

    pub fn connect(&self, target: &str) -> (Client, super::http::Message) {
        Client::connect_request(self.proxy.address(), target)
    }

    /// Ends the proxy and checks that its only decision was this one: `deny no_rule`, for example.
    pub fn only_verdict(self, expected: &str) -> Record {
        let outcome = self.proxy.stop();
        assert_eq!(outcome.verdicts(), [expected], "{:#?}", outcome.decisions);
        outcome.decisions.into_iter().next().unwrap()
    }

    pub fn stop(self) -> Outcome {
        self.proxy.stop()
    }
}
