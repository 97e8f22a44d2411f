//! Real clients through the real binary: each gets what is allowed, and shows why the rest is denied.
//! Must not use a network: index, registry, repository and package source are files of the test's own origin.
//! Called by `tests/run`, which installs the clients.

pub mod explicit;
mod files;
mod no_proxy;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use crate::support::ca::Ca;
use crate::support::dns::Dns;
use crate::support::origin::{Origin, Site};
use crate::support::proxy::Proxy;
use crate::support::setup::Setup;

/// A site over TLS, a proxy that allows `api.allowed.test` and not `denied.test`, and a trusted authority in a file.
pub struct Shop {
    pub origin: Origin,
    pub proxy: Proxy,
    /// The authority's certificate, as PEM.
    pub bundle: PathBuf,
}

/// What a client left.
pub struct Run {
    pub ok: bool,
    /// Standard output, then standard error.
    pub text: String,
}

impl Shop {
    pub fn start(site: Site) -> Self {
        let (dns, ca) = (Dns::start(), Ca::new("clients"));
        let names = ["api.allowed.test", "denied.test"];
        dns.set("api.allowed.test", [[127, 0, 0, 1]]);
        let origin = Origin::https_at("127.0.0.1:0", ca.server_config(&names), site);
        let policy = format!(
            "allow:\n  - {{to: [\"https://api.allowed.test:{}\"], addresses: [127.0.0.0/8]}}\n",
            origin.port()
        );
        let proxy = Setup::new(&policy).dns(&dns).start();
        let bundle = proxy.path("ca.pem");
        fs::write(&bundle, ca.pem()).unwrap();
        Self { origin, proxy, bundle }
    }

    pub fn files(files: files::Files) -> Self {
        Self::start(Arc::new(move |request| files.reply(request)))
    }

    pub fn url(&self, host: &str, path: &str) -> String {
        format!("https://{host}:{}{path}", self.origin.port())
    }

    /// A client with the proxy in its environment, and nothing else of ours.
    pub fn client(&self, program: &str) -> Command {
        let proxy = format!("http://{}", self.proxy.address());
        let mut command = bare(program, self.proxy.folder.path());
        for name in ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"] {
            command.env(name, &proxy);
        }
        for name in [
            "SSL_CERT_FILE",
            "CURL_CA_BUNDLE",
            "REQUESTS_CA_BUNDLE",
            "GIT_SSL_CAINFO",
            "PIP_CERT",
            "NODE_EXTRA_CA_CERTS",
        ] {
            command.env(name, &self.bundle);
        }
        command
    }

    /// Runs a client against the allowed and the denied name. What it fetches must hold `expected`, and its error must
    /// hold each of `shown`.
    pub fn both(self, client: impl Fn(&Self, &str) -> Command, expected: &str, shown: &[&str]) {
        let allowed = run(client(&self, "api.allowed.test"));
        assert!(
            allowed.ok && allowed.text.contains(expected),
            "allowed: {}",
            allowed.text
        );
        let before = self.origin.accepted();
        let denied = run(client(&self, "denied.test"));
        assert!(!denied.ok, "denied, and yet: {}", denied.text);
        for part in shown {
            assert!(denied.text.contains(part), "{part:?} is not in:\n{}", denied.text);
        }
        assert_eq!(self.origin.accepted(), before, "the denied call reached the origin");
        let record = self.proxy.decision(|record| record.host() == "denied.test");
        assert_eq!(record.verdict(), "deny no_rule");
    }
}

/// A command with a home of its own and nothing of this process's environment but the path.
pub fn bare(program: &str, home: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("PATH", std::env::var("PATH").unwrap())
        .env("HOME", home)
        .current_dir(home)
        .env("LANG", "C.UTF-8");
    // Where version managers put programs behind shims, they need their own variables.
    for name in ["PYENV_ROOT", "JAVA_HOME"] {
        if let Ok(value) = std::env::var(name) {
            command.env(name, value);
        }
    }
    command
}

pub fn run(mut command: Command) -> Run {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}; run tests/run to install it"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    Run {
        ok: output.status.success(),
        text,
    }
}

/// Where `tests/run` put the client libraries.
pub fn tools() -> PathBuf {
    let default = || concat!(env!("CARGO_MANIFEST_DIR"), "/target/test-tools").into();
    std::env::var_os("SLUICEGATE_TEST_TOOLS").map_or_else(default, PathBuf::from)
}

/// A script of this folder.
pub fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/it/clients")
        .join(name)
}
