//! `verify` in a cluster that is locked, and in clusters whose lock is broken in one way each.
//! Must not help the command: it runs in pods, as it does in the Jobs, and what it says is all that counts.
//! Called by `tests/run` as root.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use serde_json::Value;
use tempfile::TempDir;

use super::cluster::{Cluster, LOAD_BALANCER, NODE, OTHER_NODE, RESOLVER, RESOLVER6};
use crate::clients::bare;
use crate::netpol::Engine;
use crate::support::setup::BINARY;

#[test]
fn a_locked_cluster_is_proven() {
    for engine in [Engine::Cilium, Engine::Calico] {
        let cluster = Cluster::start(engine);
        let _proxy = cluster.proxy_in("proxy");
        cluster.enforce(&cluster.generated());
        let proof = Proof::of(&cluster);
        assert_eq!(proof.failing(), [""; 0], "{engine:?}:\n{}", proof.text());
        assert!(proof.holds);
        let own_node = match engine {
            Engine::Cilium => "holds",
            _ => "residual",
        };
        // What cannot be covered is said, and does not count as proof.
        for (id, verdict) in [
            ("L05 own node kubelet 10250", own_node),
            ("L12 names api.allowed.test", "residual"),
            ("L11 GRE and SCTP", "not-covered"),
            ("L16 pods with hostNetwork", "not-covered"),
        ] {
            assert_eq!(proof.verdict(id), verdict, "{engine:?} {id}");
        }
    }
}

/// Each way to get it wrong makes it fail, for that reason and no other.
#[test]
fn a_broken_lock_is_found_out() {
    let cluster = Cluster::start(Engine::Calico);
    let _proxy = cluster.proxy_in("proxy");
    let policies = cluster.generated();
    let extra = |to: &str| {
        format!(
            "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: extra, namespace: api}}\nspec: \
             {{podSelector: {{}}, policyTypes: [Egress], egress: [{to}]}}\n"
        )
    };
    let with = |to: &str| [policies.clone(), vec![extra(to)]].concat();

    // L21: an engine that ignores policies.
    let proof = Proof::of(&cluster);
    for id in [
        "L01 tcp 1.1.1.1:443",
        "L02 dns/udp 1.1.1.1:53",
        "L03 metadata 169.254.169.254:80",
    ] {
        assert_eq!(proof.verdict(id), "open", "{}", proof.text());
    }
    assert_eq!(proof.verdict("L07 orders orders.geo.svc.cluster.local:8080"), "open");
    assert!(!proof.holds);

    // The pod lost the label by which its ways are opened.
    let mut unlabelled = cluster.model.clone();
    unlabelled
        .pods
        .iter_mut()
        .find(|pod| pod.name == "trips")
        .unwrap()
        .labels
        .clear();
    cluster.enforce_on(&policies, &unlabelled);
    let proof = Proof::of(&cluster);
    for id in [
        "L07 poi poi.geo.svc.cluster.local:8080",
        "direct 10.1.2.4:1433",
        "L08 proxy port 3201",
    ] {
        assert_eq!(proof.verdict(id), "broken", "{}", proof.text());
    }
    assert!(
        !proof.failing().iter().any(|line| line.starts_with("open")),
        "{}",
        proof.text()
    );
    assert!(!proof.holds);

    // One allow too many.
    cluster.enforce(&with("{to: [{ipBlock: {cidr: 0.0.0.0/0}}], ports: [{port: 443}]}"));
    let proof = Proof::of(&cluster);
    let expected = [
        "open L01 tcp 1.1.1.1:443",
        "open L06 API server by Service 10.0.0.1:443",
        "open L06 API server by address 20.50.1.2:443",
        "open L06 API server by name myaks.hcp.westeurope.azmk8s.io:443",
        "open L13 early 1.1.1.1:443",
        "open L18 hairpin 52.1.2.3:443",
    ];
    assert_eq!(proof.failing(), expected, "{}", proof.text());

    // DNS to anywhere.
    cluster.enforce(&with("{ports: [{port: 53, protocol: UDP}, {port: 53}]}"));
    let proof = Proof::of(&cluster);
    let expected = ["open L02 dns/tcp 1.1.1.1:53", "open L02 dns/udp 1.1.1.1:53"];
    assert_eq!(proof.failing(), expected, "{}", proof.text());

    // The proxy's own policy was left out: anyone may come in on any port.
    let without: Vec<_> = policies
        .iter()
        .map(|text| without_namespace(text, "sluicegate"))
        .collect();
    assert_ne!(without, policies);
    cluster.enforce(&without);
    let proof = Proof::of(&cluster);
    let failing = proof.failing();
    assert!(
        failing.contains(&"open L08 proxy port 3201".to_owned()),
        "{}",
        proof.text()
    );
    assert!(
        failing.contains(&"open L08 proxy port 9091".to_owned()),
        "{}",
        proof.text()
    );
    assert!(
        failing.iter().all(|line| line.starts_with("open L08 proxy port ")),
        "{}",
        proof.text()
    );

    // Another namespace lets anyone in, whom this workload may call or not.
    let anyone = "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: extra, namespace: geo}\nspec: \
                  {podSelector: {}, policyTypes: [Ingress], ingress: [{from: [{namespaceSelector: {}}]}]}\n";
    cluster.enforce(&[policies.clone(), vec![anyone.to_owned()]].concat());
    let proof = Proof::of(&cluster);
    let expected = [
        "open L07 orders orders.geo.svc.cluster.local:8080",
        "open L07 poi poi.geo.svc.cluster.local:8080",
    ];
    assert_eq!(proof.failing(), expected, "{}", proof.text());

    // Nothing at all gets out: that is no proof of a lock.
    cluster.enforce(&policies);
    cluster.node.ip(&["link", "set", "world", "down"]);
    let proof = Proof::of(&cluster);
    assert_eq!(proof.verdict("L01 tcp 1.1.1.1:443"), "not-proven", "{}", proof.text());
    assert_eq!(proof.verdict("L03 metadata 169.254.169.254:80"), "not-proven");
    assert!(!proof.holds);
}

/// The documents of one namespace taken out.
fn without_namespace(text: &str, namespace: &str) -> String {
    let line = format!("\n  namespace: {namespace}\n");
    let kept: Vec<_> = text
        .split("---\n")
        .filter(|document| !document.contains(&line))
        .collect();
    kept.join("---\n")
}

/// What two pods saw, and what `verify` makes of it.
struct Proof {
    folder: TempDir,
    report: Value,
    holds: bool,
}

impl Proof {
    fn of(cluster: &Cluster) -> Self {
        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join("policy.yaml"), &cluster.policy).unwrap();
        thread::scope(|scope| {
            for (file, pod, workload) in [
                ("inside", "trips", "trips"),
                ("control", "open", "trips"),
                ("orders", "orders", "orders"),
            ] {
                let folder = folder.path();
                scope.spawn(move || {
                    let output = observe(cluster, pod, workload, folder).output().unwrap();
                    let said = String::from_utf8_lossy(&output.stderr);
                    assert!(output.status.success(), "{pod}: {said}");
                    fs::write(folder.join(file), output.stdout).unwrap();
                });
            }
        });
        let output = judge(folder.path(), "json").output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        Self {
            report: serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {said}")),
            holds: output.status.success(),
            folder,
        }
    }

    fn lines(&self) -> &[Value] {
        self.report["lines"].as_array().unwrap()
    }

    /// Verdict and id of every line that fails, sorted.
    fn failing(&self) -> Vec<String> {
        let failing = self.lines().iter().filter(|line| line["fails"] == true);
        let mut failing: Vec<_> = failing
            .map(|line| format!("{} {}", line["verdict"].as_str().unwrap(), line["id"].as_str().unwrap()))
            .collect();
        failing.sort_unstable();
        failing
    }

    fn verdict(&self, id: &str) -> &str {
        let found = self.lines().iter().find(|line| line["id"] == id);
        found.unwrap_or_else(|| panic!("no line {id}:\n{}", self.text()))["verdict"]
            .as_str()
            .unwrap()
    }

    fn text(&self) -> String {
        let output = judge(self.folder.path(), "text").output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }
}

fn observe(cluster: &Cluster, pod: &str, workload: &str, folder: &Path) -> Command {
    let netns = cluster.pod(pod);
    // What containerd sets for every pod.
    netns.sysctl("net.ipv4.ping_group_range=0 2147483647");
    let mut command = bare("ip", Path::new("/"));
    command
        .args([
            "netns",
            "exec",
            &netns.name,
            "setpriv",
            "--reuid=65532",
            "--regid=65532",
            "--clear-groups",
            BINARY,
        ])
        .args([
            "verify",
            "--observe",
            "--as",
            workload,
            "--timeout",
            "1s",
            "--early",
            "3",
            "--policy",
        ])
        .arg(policy(folder))
        .args([
            "--public",
            &format!("{RESOLVER}:443"),
            "--public-dns",
            &format!("{RESOLVER}:53"),
        ])
        .args([
            "--public-ntp",
            &format!("{RESOLVER}:123"),
            "--public-v6",
            &format!("[{RESOLVER6}]:443"),
        ])
        .args([
            "--node",
            OTHER_NODE,
            "--node",
            &format!("{OTHER_NODE}:30080"),
            "--hairpin",
            &format!("{LOAD_BALANCER}:443"),
        ])
        .args(["--outside-name", "api.allowed.test"])
        .env("KUBERNETES_SERVICE_HOST", "10.0.0.1")
        .env("KUBERNETES_SERVICE_PORT", "443")
        .env("NODE_IP", NODE);
    command
}

fn judge(folder: &Path, output: &str) -> Command {
    let mut command = bare(BINARY, folder);
    command.args([
        "verify",
        "--inside",
        "inside",
        "--control",
        "control",
        "--also",
        "orders",
        "--output",
        output,
    ]);
    command.arg("--policy").arg(policy(folder));
    command
}

fn policy(folder: &Path) -> PathBuf {
    folder.join("policy.yaml")
}
