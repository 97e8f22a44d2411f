//! A network namespace that a test makes, enters with a thread, and removes.
//! Must not outlive its test, and must not be linked to any namespace but those of the same test.
//! Called by the rings `lab` and `image`.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

#[derive(Debug)]
pub struct Netns {
    pub name: String,
}

impl Netns {
    pub fn new(label: &str) -> Self {
        let name = format!("sluicegate-{}-{label}", std::process::id());
        command("ip", &["netns", "add", &name]);
        let netns = Self { name };
        netns.ip(&["link", "set", "lo", "up"]);
        netns
    }

    /// A name for the namespace of a process, which lives as long as something runs in it.
    pub fn of_process(label: &str, pid: &str) -> Self {
        let name = format!("sluicegate-{}-{label}", std::process::id());
        command("ip", &["netns", "attach", &name, pid]);
        Self { name }
    }

    /// A pair of devices, one here and one in `other`.
    pub fn link(&self, device: &str, other: &Self, its: &str) {
        let other_name = other.name.as_str();
        self.ip(&[
            "link", "add", device, "type", "veth", "peer", "name", its, "netns", other_name,
        ]);
        self.ip(&["link", "set", device, "up"]);
        other.ip(&["link", "set", its, "up"]);
    }

    pub fn ip(&self, arguments: &[&str]) {
        command("ip", &[&["-n", &self.name], arguments].concat());
    }

    /// A program in here, which must succeed.
    pub fn exec(&self, arguments: &[&str]) -> String {
        command("ip", &[&["netns", "exec", &self.name], arguments].concat())
    }

    /// Loads a set of nftables rules.
    pub fn nft(&self, rules: &str) {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), rules).unwrap();
        self.exec(&["nft", "-f", file.path().to_str().unwrap()]);
    }

    pub fn sysctl(&self, setting: &str) {
        self.exec(&["sysctl", "-q", "-w", setting]);
    }

    /// A file that programs started in here see in `/etc`.
    pub fn file(&self, name: &str, text: &str) {
        fs::create_dir_all(self.etc()).unwrap();
        fs::write(self.etc().join(name), text).unwrap();
    }

    /// Does something in here; threads and processes that it starts stay here.
    pub fn run<R: Send>(&self, body: impl FnOnce() -> R + Send) -> R {
        let netns = File::open(format!("/run/netns/{}", self.name)).unwrap();
        thread::scope(|scope| {
            let inside = scope.spawn(move || {
                move_into_link_name_space(netns.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
                body()
            });
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    fn etc(&self) -> PathBuf {
        PathBuf::from("/etc/netns").join(&self.name)
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        let _ = Command::new("ip")
            .args(["netns", "del", &self.name])
            .stderr(Stdio::null())
            .status();
        let _ = fs::remove_dir_all(self.etc());
    }
}

fn command(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
    said
}
