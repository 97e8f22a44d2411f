//! The image that the Dockerfile makes: what is in it, and that it runs with as little as a cluster will give it.
//! Must not build the program: `tests/run` has, by the script that the Dockerfile's first stage calls; it takes the
//! place of that stage. Called by `tests/run` as root, with podman.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

mod deployment;
mod podman;

use podman::{IMAGE, Podman};

use crate::lab::netns::Netns;
use crate::support::client::Client;
use crate::support::dns::Dns;
use crate::support::origin::Origin;

#[test]
fn the_image_holds_three_files_and_runs_without_any_right() {
    let podman = Podman::new();
    podman.build();

    let mounted = PathBuf::from(podman.run(&["image", "mount", IMAGE]));
    let mut files = BTreeSet::new();
    files_below(&mounted, &mounted, &mut files);
    let expected = [
        "etc/sluicegate/sluicegate.yaml",
        "etc/ssl/certs/ca-certificates.crt",
        "sluicegate",
    ];
    assert_eq!(files.iter().map(String::as_str).collect::<Vec<_>>(), expected);
    podman.run(&["image", "unmount", IMAGE]);
    let inspect = |what: &str| podman.run(&["image", "inspect", "--format", what, IMAGE]);
    let size: u64 = inspect("{{.Size}}").parse().unwrap();
    assert!(size < 20 << 20, "{size} bytes");
    assert_eq!(inspect("{{.Config.User}}"), "65532:65532");

    let netns = Netns::new("image");
    netns.run(|| serve(&podman, &netns));
}

fn serve(podman: &Podman, netns: &Netns) {
    let dns = Dns::start_at("127.0.0.1:53".parse().unwrap());
    dns.set("echo.allowed.test", [[127, 0, 0, 1]]);
    let echo = Origin::echo();
    let policy = format!(
        "allow:\n  - {{to: [\"tcp://echo.allowed.test:{}\"], addresses: [127.0.0.0/8]}}\n",
        echo.port()
    );
    let mount = |name: &str, text: &str, at: &str| {
        let file = podman.folder.path().join(name);
        fs::write(&file, text).unwrap();
        format!("{}:{at}:ro", file.display())
    };
    let policy = mount("policy.yaml", &policy, "/etc/sluicegate/policy.yaml");
    let resolv = mount("resolv.conf", "nameserver 127.0.0.1\n", "/etc/resolv.conf");
    let network = format!("--network=ns:/run/netns/{}", netns.name);
    let rights = [
        "--read-only",
        "--read-only-tmpfs=false",
        "--cap-drop=all",
        "--security-opt=no-new-privileges",
        "--user=65532:65532",
    ];
    let words = [
        "run",
        "--detach",
        "--pull=never",
        &network,
        "-v",
        &policy,
        "-v",
        &resolv,
    ];
    let container = podman.run(&[&words[..], &rights, &[IMAGE]].concat());
    podman.wait_ready(&container);

    let pid = podman.run(&["inspect", "--format", "{{.State.Pid}}", &container]);
    assert_no_rights(&pid);

    let proxy = "127.0.0.1:3128".parse().unwrap();
    let target = format!("echo.allowed.test:{}", echo.port());
    let mut tunnel = Client::tunnel(proxy, &target);
    tunnel.send("through");
    assert_eq!(tunnel.read_exact(7), b"through");
    drop(tunnel);
    let (_, denied) = Client::connect_request(proxy, "echo.denied.test:443");
    assert_eq!(denied.line(), "HTTP/1.1 403 Denied by sluicegate (no_rule)");

    // As process 1 it has to mind the signal itself.
    podman.run(&["stop", "--time=20", &container]);
    assert_eq!(
        podman.run(&["inspect", "--format", "{{.State.ExitCode}}", &container]),
        "0"
    );
}

/// A process of the image's user that can do nothing which that user may not.
fn assert_no_rights(pid: &str) {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = |name: &str| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .unwrap()
            .trim()
            .to_owned()
    };
    assert_eq!(line("Uid:"), ["65532"; 4].join("\t"));
    assert_eq!(line("NoNewPrivs:"), "1");
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
        assert_eq!(line(set), "0000000000000000", "{set}");
    }
}

fn files_below(folder: &Path, root: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.symlink_metadata().unwrap().is_dir() {
            files_below(&path, root, found);
        } else {
            found.insert(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
        }
    }
}
