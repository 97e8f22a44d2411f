//! podman for one test: a store of its own, and settings that work where hard limits cannot be raised.
//! Must not touch what the machine's own podman holds, nor the network outside the test's namespaces.
//! Called by the tests of the image.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use tempfile::TempDir;

use crate::support::DEADLINE;
use crate::support::proxy::fetch;

/// podman with a store of its own, which goes with the test.
pub struct Podman {
    pub folder: TempDir,
}

impl Podman {
    pub fn new() -> Self {
        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join("containers.conf"), CONFIGURATION).unwrap();
        Self { folder }
    }

    /// Packs the files that `tests/run` has had built, by the Dockerfile.
    pub fn build(&self) {
        let context = format!("build={}", rootfs().display());
        let repository = env!("CARGO_MANIFEST_DIR");
        self.run(&[
            "build",
            "--quiet",
            "--pull=never",
            "--network=none",
            "--build-context",
            &context,
            "-t",
            IMAGE,
            repository,
        ]);
    }

    /// What it prints. It must succeed.
    pub fn run(&self, words: &[&str]) -> String {
        let output = self.command(words).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "podman {words:?}: {said}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn command(&self, words: &[&str]) -> Command {
        let path = |name: &str| self.folder.path().join(name);
        let mut command = Command::new("podman");
        command.env("CONTAINERS_CONF", path("containers.conf"));
        command
            .arg("--root")
            .arg(path("root"))
            .arg("--runroot")
            .arg(path("runroot"));
        command
            .args(["--storage-driver=vfs", "--cgroup-manager=cgroupfs"])
            .args(words);
        command
    }

    pub fn wait_ready(&self, container: &str) {
        let health = "127.0.0.1:9091".parse().unwrap();
        let end = Instant::now() + DEADLINE;
        let is_open = || std::net::TcpStream::connect_timeout(&health, DEADLINE).is_ok();
        while !is_open() || fetch(health, "http://127.0.0.1/readyz").status() != 200 {
            assert!(
                Instant::now() < end,
                "it is never ready:\n{}",
                self.run(&["logs", container])
            );
            std::thread::park_timeout(std::time::Duration::from_millis(20));
        }
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        let _ = self.command(&["pod", "rm", "--all", "--force", "--time=0"]).output();
        let _ = self.command(&["rm", "--all", "--force", "--time=0"]).output();
        let _ = self.command(&["rmi", "--all", "--force"]).output();
    }
}

/// The files of the image, as `tests/run` has had them built.
fn rootfs() -> PathBuf {
    let tools = std::env::var_os("SLUICEGATE_TEST_TOOLS").expect("tests/run says where it puts what tests need");
    let folder = PathBuf::from(tools).join("image");
    assert!(
        folder.join("out/sluicegate").is_file(),
        "tests/run has not built {}",
        folder.display()
    );
    folder
}

pub const IMAGE: &str = "localhost/sluicegate:test";
/// Works where hard limits cannot be raised and where control groups are of both versions.
const CONFIGURATION: &str = "\
[containers]
default_ulimits = [\"nofile=4096:4096\", \"nproc=4096:4096\"]
[engine]
runtime = \"runc\"
";
