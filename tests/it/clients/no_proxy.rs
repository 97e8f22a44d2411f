//! `NO_PROXY` as it is generated, read by real clients: in-cluster names go straight, everything else through the proxy.
//! Must not ask any DNS server: each client is told that every name is this machine.
//! Called by `tests/run`, like the other clients.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use serde_json::Value;

use super::{bare, run, script, tools};
use crate::support::origin::{Origin, Reply};

#[test]
fn curl_reads_it() {
    let hosts: Vec<_> = ALL
        .iter()
        .chain(&ADDRESSES)
        .chain(&[IN_RANGE_DIRECT])
        .copied()
        .collect();
    judge(&hosts, |here, hosts| {
        let one = |host: &&str| {
            let port = here.origin.port();
            let mut curl = here.client("curl");
            curl.args(["--silent", "--show-error", "--max-time", "10"])
                .args(["--resolve", &format!("{host}:{port}:127.0.0.1")])
                .arg(format!("http://{host}:{port}/"));
            format!("{host} {}\n", run(curl).text.trim())
        };
        hosts.iter().map(one).collect()
    });
}

#[test]
fn requests_reads_it() {
    python("requests", IN_RANGE_DIRECT);
}

#[test]
fn httpx_reads_it() {
    python("httpx", IN_RANGE_PROXY);
}

#[test]
fn urllib_reads_it() {
    python("urllib", IN_RANGE_PROXY);
}

#[test]
fn undici_reads_it() {
    judge(&ALL, |here, hosts| {
        let mut node = here.client("node");
        node.env("TOOLS", tools())
            .arg("--no-warnings")
            .arg(script("no_proxy.mjs"));
        node.arg(here.origin.port().to_string()).args(hosts);
        run(node).text
    });
}

fn python(library: &str, in_range: Case) {
    let hosts: Vec<_> = ALL.iter().chain(&ADDRESSES).chain(&[in_range]).copied().collect();
    judge(&hosts, |here, hosts| {
        let mut python = here.client(tools().join("venv/bin/python").to_str().unwrap());
        python.arg(script("no_proxy.py")).arg(library);
        python.arg(here.origin.port().to_string()).args(hosts);
        run(python).text
    });
}

/// One server is everything: what it is asked for tells whether it was taken for the proxy.
struct Here {
    origin: Origin,
    folder: tempfile::TempDir,
}

impl Here {
    /// A client with the variables as they are generated, but for the proxy's address.
    fn client(&self, program: &str) -> Command {
        let mut command = bare(program, self.folder.path());
        for name in ["HTTP_PROXY", "http_proxy"] {
            command.env(name, format!("http://{}", self.origin.address));
        }
        for name in ["NO_PROXY", "no_proxy"] {
            command.env(name, generated(name));
        }
        command
    }
}

fn judge(cases: &[Case], client: impl Fn(&Here, &[&str]) -> String) {
    let here = Here {
        origin: Origin::http_at(
            "127.0.0.1:0",
            Arc::new(|request| {
                let through = request.target().starts_with("http://");
                Reply::ok(if through { "proxy" } else { "direct" })
            }),
        ),
        folder: tempfile::tempdir().unwrap(),
    };
    let hosts: Vec<_> = cases.iter().map(|(host, _)| *host).collect();
    let text = client(&here, &hosts);
    let expected: Vec<_> = cases.iter().map(|(host, way)| format!("{host} {way}")).collect();
    assert_eq!(text.lines().collect::<Vec<_>>(), expected);
}

fn generated(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/kubernetes/cilium/workload-env/trips/env.yaml");
    let map: Value = serde_saphyr::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    map["data"][name].as_str().unwrap().to_owned()
}

/// A host, and how it is reached.
type Case = (&'static str, &'static str);

const ALL: [Case; 11] = [
    ("localhost", "direct"),
    ("127.0.0.1", "direct"),
    ("poi.geo.svc", "direct"),
    ("poi.geo.svc.cluster.local", "direct"),
    ("kubernetes.default.svc", "direct"),
    ("api.stripe.com", "proxy"),
    ("notsvc", "proxy"),
    ("evilcluster.local", "proxy"),
    ("svc.example.com", "proxy"),
    ("poi.geo.svc.example.com", "proxy"),
    // No suffix can catch these: the README says to write in-cluster names to the end.
    ("poi.geo", "proxy"),
];
/// Exact ones; Node would really dial them.
const ADDRESSES: [Case; 2] = [("10.1.2.4", "direct"), ("10.1.2.40", "proxy")];
/// Ranges are a bonus, for who reads them.
const IN_RANGE_DIRECT: Case = ("10.244.7.7", "direct");
const IN_RANGE_PROXY: Case = ("10.244.7.7", "proxy");
