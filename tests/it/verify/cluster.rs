//! A proxy with two workloads, everything around it on loopback, and `verify` run against it.
//! Must not enforce anything: there is no lock here.
//! Called by the tests of `verify`.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::origin::Origin;
use crate::support::proxy::{Proxy, free_port};
use crate::support::setup::{BINARY, Setup};
use crate::support::world::Origins;

/// A proxy with two workloads, what stands around it, and the files that `verify` reads.
pub(super) struct Cluster {
    pub(super) origins: Origins,
    /// Plays the API server's Service, a node and metadata: it answers HTTP, and TLS with what it takes for an error.
    pub(super) inner: Origin,
    pub(super) proxy: Proxy,
    pub(super) trips: u16,
}

#[derive(Debug)]
pub(super) struct Ended {
    pub(super) code: i32,
    pub(super) out: String,
    pub(super) err: String,
}

impl Cluster {
    pub(super) fn start() -> Self {
        let origins = Origins::start();
        origins.dns.set("proxy.sluicegate.test", [[127, 0, 0, 1]]);
        origins.dns.set("api.cluster.test", [[127, 0, 0, 1]]);
        let inner = Origin::http();
        let (trips, poi) = (free_port(), free_port());
        let policy = format!(
            r#"
cluster: {{api_server: api.cluster.test}}
workloads:
  trips: {{namespace: api, pods: {{app: trips}}, port: {trips}, calls: [poi], direct: ["127.0.0.1:{inner}"], identity: workload}}
  poi: {{namespace: geo, pods: {{app: poi}}, port: {poi}, ports: [8080]}}
  maps: {{namespace: geo, pods: {{app: maps}}, ports: [8080]}}
allow:
  - {{name: exact, to: ["https://api.allowed.test:{tls}"], addresses: [127.0.0.0/8]}}
  - {{name: plain, to: ["http://plain.allowed.test:{http}"], addresses: [127.0.0.0/8]}}
  - {{name: nowhere, to: ["https://nowhere.allowed.test:{inner}"], addresses: [127.0.0.0/8]}}
  - {{name: wide, to: ["*.cluster.test"], addresses: [127.0.0.0/8]}}
  - {{name: login, to: ["https://login.wild.test:{tls}"], addresses: [127.0.0.0/8], from: [trips]}}
expect:
  - {{from: trips, allow: ["https://api.allowed.test:{tls}", "http://plain.allowed.test:{http}"]}}
  - {{from: trips, deny: ["https://denied.test", "http://plain.allowed.test:{tls}"]}}
"#,
            inner = inner.port(),
            tls = origins.https.port(),
            http = origins.http.port(),
        );
        let proxy = Setup::new(&policy).dns(&origins.dns).start();
        // Where the proxy listens, as its own settings would say with ports written out.
        let settings = format!(
            "listeners: [{{name: proxy, mode: explicit, bind: \"{}\"}}]\nadmin: {{bind: \"{}\"}}\nhealth: {{bind: \"{}\"}}\n",
            proxy.address(),
            proxy.at("admin"),
            proxy.at("health"),
        );
        fs::write(proxy.path("verify.yaml"), settings).unwrap();
        Self {
            origins,
            inner,
            proxy,
            trips,
        }
    }

    /// Every target is on loopback; `words` come last.
    pub(super) fn verify(&self, words: &[&str], environment: &[(&str, &str)]) -> Ended {
        let inner = self.inner.address.to_string();
        let (dns, closed) = (
            self.origins.dns.address.to_string(),
            format!("127.0.0.1:{}", free_port()),
        );
        let api = self.origins.https.address;
        let flags = format!(
            "verify -c verify.yaml --policy policy.yaml --as trips --proxy proxy.sluicegate.test --dns {dns} --timeout 2s \
             --early 3 --public {inner} --public-dns {dns} --public-ntp {closed} --public-v6 [::1]:9 --metadata {inner} \
             --wire-server 127.0.0.1 --api-server {api} --node {inner} --outside-name denied.test --target poi={inner} \
             --target maps={inner}"
        );
        let words: Vec<_> = flags.split_whitespace().chain(words.iter().copied()).collect();
        self.run(&words, environment)
    }

    pub(super) fn run(&self, words: &[&str], environment: &[(&str, &str)]) -> Ended {
        run(self.proxy.folder.path(), words, environment)
    }

    pub(super) fn observe(&self, environment: &[(&str, &str)]) -> Value {
        let ended = self.verify(&["--observe"], environment);
        assert_eq!(ended.code, 0, "{ended:?}");
        serde_json::from_str(&ended.out).unwrap_or_else(|error| panic!("{error}: {ended:?}"))
    }

    /// The verdict on observations, as JSON.
    pub(super) fn judge(&self, inside: &Value, control: &Value) -> (i32, Value) {
        fs::write(self.proxy.path("inside.json"), inside.to_string()).unwrap();
        fs::write(self.proxy.path("control.json"), control.to_string()).unwrap();
        let ended = self.run(
            &[
                "verify",
                "--policy",
                "policy.yaml",
                "--inside",
                "inside.json",
                "--control",
                "control.json",
                "--output",
                "json",
            ],
            &[],
        );
        let report = serde_json::from_str(&ended.out).unwrap_or_else(|error| panic!("{error}: {ended:?}"));
        (ended.code, report)
    }
}

/// The command in a directory, with nothing else in its environment.
pub(super) fn run(folder: &Path, words: &[&str], environment: &[(&str, &str)]) -> Ended {
    let mut command = Command::new(BINARY);
    command.args(words).current_dir(folder).env_clear();
    let output = command.envs(environment.iter().copied()).output().unwrap();
    Ended {
        code: output.status.code().expect("it was killed"),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}
