//! The Deployment of `deploy/base` with the real image, as podman runs it: its rights, its mounts, a policy that changes.
//! Must not change of it but what podman cannot do, and says what that is.
//! Called by `tests/run` as root, with podman.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::{Value, json};

use super::assert_no_rights;
use super::podman::{IMAGE, Podman};
use crate::deploy::{objects, one, root};
use crate::lab::netns::Netns;
use crate::support::DEADLINE;
use crate::support::client::Client;
use crate::support::origin::Origin;
use crate::support::proxy::{fetch, write_whole};

#[test]
fn the_deployment_runs_as_it_says_and_reads_its_config_map_again() {
    let podman = Podman::new();
    podman.build();
    let file = podman.folder.path().join("deployment.yaml");
    fs::write(&file, manifest(podman.folder.path())).unwrap();
    podman.run(&["kube", "play", "--network=none", file.to_str().unwrap()]);
    let names = podman.run(&["ps", "--filter=name=sluicegate-pod-", "--format={{.Names}}"]);
    let replicas: Vec<_> = names.lines().map(|name| Replica::new(&podman, name)).collect();
    assert_eq!(replicas.len(), 2, "{names}");
    for replica in &replicas {
        replica.assert_confined();
        replica.netns.run(|| podman.wait_ready(&replica.name));
    }
    let before = replicas[0].metric(FINGERPRINT);
    assert_eq!(replicas[1].metric(FINGERPRINT), before);

    let volume = podman.run(&["volume", "inspect", "--format={{.Mountpoint}}", "sluicegate-policy"]);
    let policy = PathBuf::from(volume).join("policy.yaml");
    replicas[0].netns.run(|| {
        let echo = Origin::echo();
        let target = format!("127.0.0.1:{}", echo.port());
        let (_, denied) = Client::connect_request(PROXY, &target);
        assert_eq!(denied.line(), "HTTP/1.1 403 Denied by sluicegate (ip_literal)");
        write_whole(&policy, &format!("allow: [\"tcp://{target}\"]\n"));
        replicas[0].wait(|| replicas[0].metric(FINGERPRINT) != before);
        let mut tunnel = Client::tunnel(PROXY, &target);
        tunnel.send("through");
        assert_eq!(tunnel.read_exact(7), b"through");
    });
    replicas[1].wait(|| replicas[1].metric(FINGERPRINT) == replicas[0].metric(FINGERPRINT));

    for replica in &replicas {
        podman.run(&["stop", "--time=20", &replica.name]);
        let code = podman.run(&["inspect", "--format={{.State.ExitCode}}", &replica.name]);
        assert_eq!(code, "0", "{}", replica.name);
    }
}

struct Replica {
    name: String,
    pid: String,
    netns: Netns,
    /// As podman has understood it, in bytes.
    memory: String,
}

impl Replica {
    fn new(podman: &Podman, name: &str) -> Self {
        let inspect = |what: &str| podman.run(&["inspect", "--format", what, name]);
        let pid = inspect("{{.State.Pid}}");
        assert_ne!(pid, "0", "it has ended:\n{}", podman.run(&["logs", name]));
        Self {
            name: name.to_owned(),
            netns: Netns::of_process(name, &pid),
            memory: inspect("{{.HostConfig.Memory}}"),
            pid,
        }
    }

    fn assert_confined(&self) {
        assert_no_rights(&self.pid);
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap();
        assert!(
            status.contains("\nSeccomp:\t2\n"),
            "no filter of system calls:\n{status}"
        );
        let mounts = fs::read_to_string(format!("/proc/{}/mounts", self.pid)).unwrap();
        for folder in ["/", "/etc/sluicegate", "/etc/sluicegate-policy"] {
            let mount = mounts.lines().find(|line| line.split(' ').nth(1) == Some(folder));
            let options = mount.unwrap_or_else(|| panic!("{folder} is not mounted:\n{mounts}"));
            assert!(options.split([' ', ',']).any(|option| option == "ro"), "{options}");
        }
        let base = objects("deploy/base");
        let container = &one(&base, "Deployment")["spec"]["template"]["spec"]["containers"][0];
        assert_eq!(container["resources"]["limits"]["memory"], "1Gi");
        assert_eq!(self.memory, (1_u64 << 30).to_string());
    }

    fn metric(&self, name: &str) -> String {
        let text = self.netns.run(|| fetch(HEALTH, "http://127.0.0.1/metrics").text());
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no {name}:\n{text}")).to_owned()
    }

    fn wait(&self, done: impl Fn() -> bool) {
        let end = Instant::now() + DEADLINE;
        while !done() {
            assert!(Instant::now() < end, "{} holds on to its policy", self.name);
        }
    }
}

/// The objects as kustomize would put them together, changed where podman 4.3 leaves no choice.
fn manifest(folder: &Path) -> String {
    let base = objects("deploy/base");
    let mut deployment = one(&base, "Deployment").clone();
    let pod = &mut deployment["spec"]["template"]["spec"];
    let container = &mut pod["containers"][0];
    container["image"] = json!(IMAGE);
    container["imagePullPolicy"] = json!("Never");
    // It would publish each on the host.
    remove(container, "ports");
    // It would run curl in the container for them.
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        remove(container, probe);
    }
    // A kubelet writes this file for every pod; podman only for those in a network of its own.
    let resolv = folder.join("resolv.conf");
    fs::write(&resolv, "nameserver 127.0.0.1\n").unwrap();
    let mount = json!({"name": "resolv", "mountPath": "/etc/resolv.conf", "readOnly": true});
    container["volumeMounts"].as_array_mut().unwrap().push(mount);
    let volume = json!({"name": "resolv", "hostPath": {"path": resolv, "type": "File"}});
    pod["volumes"].as_array_mut().unwrap().push(volume);

    let settings = fs::read_to_string(root().join("deploy/base/sluicegate.yaml")).unwrap();
    let config_map = |name: &str, file: &str, text: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {file: text}});
    let documents = [
        config_map("sluicegate-settings", "sluicegate.yaml", &settings),
        config_map("sluicegate-policy", "policy.yaml", "allow: []\n"),
        one(&base, "ServiceAccount").clone(),
        one(&base, "Service").clone(),
        deployment,
    ];
    documents.map(|document| document.to_string()).join("\n---\n")
}

fn remove(object: &mut Value, key: &str) {
    let removed = object.as_object_mut().unwrap().remove(key);
    assert!(removed.is_some(), "it has no {key}");
}

const PROXY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 3128);
const HEALTH: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9091);
const FINGERPRINT: &str = "sluicegate_policy_fingerprint";
