//! Reloads under load: 200 swaps of a mounted folder while clients never stop asking.
//! Must not measure speed; it counts what may not happen at all.
//! Called by `tests/run`, alone on the machine.

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use serde_json::json;

use crate::support::DEADLINE;
use crate::support::client::Client;
use crate::support::proxy::{Outcome, Proxy, fetch};
use crate::support::setup::Setup;
use crate::support::world::Origins;

/// A folder as Kubernetes mounts a ConfigMap.
struct Mount {
    folder: PathBuf,
    policy: String,
}

/// Clients that ask without pause, and count.
struct Load<'a> {
    proxy: &'a Proxy,
    origins: &'a Origins,
    running: AtomicBool,
    allowed: AtomicU64,
    denied: AtomicU64,
}

#[test]
fn two_hundred_swaps_lose_no_allowed_and_pass_no_denied_request() {
    let origins = Origins::start();
    let setup = Setup::new("").dns(&origins.dns).set("policy", json!(["mounted"]));
    let setup = setup.set("reload.grace", json!("100ms"));
    let mount = Mount::new(setup.folder.path().join("mounted"), origins.policy());
    let proxy = setup.start();
    let load = Load::new(&proxy, &origins);
    let mut kept = Client::tunnel(proxy.address(), &origins.echo_target());
    std::thread::scope(|scope| {
        scope.spawn(|| load.requests());
        scope.spawn(|| load.requests_on_one_connection());
        scope.spawn(|| load.tunnels());
        scope.spawn(|| load.denied());
        for number in 1..=SWAPS {
            mount.swap_and_wait(number, &proxy);
            if number % 20 == 0 {
                kept.send("y");
                assert_eq!(kept.read_exact(1), b"y");
            }
        }
        load.running.store(false, Ordering::Relaxed);
    });
    let end = Instant::now() + DEADLINE;
    while !proxy.json("/policy").to_string().contains(&format!("\"v{SWAPS}\"")) {
        assert!(Instant::now() < end, "the last version never comes into force");
    }
    let generations = proxy.generation();
    let (allowed, denied) = (load.allowed.into_inner(), load.denied.into_inner());
    drop(kept);
    judge(&proxy.stop(), allowed, denied, generations);
}

fn judge(outcome: &Outcome, allowed: u64, denied: u64, generations: u64) {
    assert!(
        allowed > 200 && denied > 100 && generations > 120,
        "too little happened: {allowed} allowed, {denied} denied, {generations} generations"
    );
    let mut newest = 0;
    for record in &outcome.decisions {
        let generation = record.number("generation");
        assert!((1..=generations).contains(&generation), "{}", record.0);
        let wrong = ["denied.test", "bad.wild.test"].contains(&record.host());
        assert_eq!(
            record.text("action"),
            if wrong { "deny" } else { "allow" },
            "{}",
            record.0
        );
        newest = newest.max(generation);
    }
    assert!(newest > 100, "the newest generation in a record is {newest}");
    // Two for each turn of the denying client, and one for the tunnel that was kept.
    assert_eq!(outcome.decisions.len() as u64, allowed + denied * 2 + 1);
    assert!(outcome.tunnels.iter().all(|tunnel| tunnel.text("end") != "reload"));
}

impl Mount {
    fn new(folder: PathBuf, policy: String) -> Self {
        let mount = Self { folder, policy };
        mount.swap(0);
        symlink("..data/policy.yaml", mount.folder.join("policy.yaml")).unwrap();
        mount
    }

    /// Every version allows the same, in other words; every eighth is broken.
    fn swap(&self, number: u32) {
        let data = self.folder.join(format!("..2026_{number}"));
        fs::create_dir_all(&data).unwrap();
        let end = if number % 8 == BROKEN { "allow: [twice]\n" } else { "" };
        let text = format!(
            "{}  - {{name: v{number}, to: [v{number}.bad.wild.test]}}\n{end}",
            self.policy
        );
        fs::write(data.join("policy.yaml"), text).unwrap();
        symlink(&data, self.folder.join("..data_tmp")).unwrap();
        fs::rename(self.folder.join("..data_tmp"), self.folder.join("..data")).unwrap();
    }

    /// Some swaps come faster than they can be taken; the others are waited for.
    fn swap_and_wait(&self, number: u32, proxy: &Proxy) {
        let before = proxy.generation();
        self.swap(number);
        match number % 8 {
            BROKEN => drop(proxy.wait_metric("sluicegate_policy_load_failed", &[], |failed| failed == 1)),
            4 | 5 => {}
            _ => proxy.wait_generation(before + 1),
        }
    }
}

impl<'a> Load<'a> {
    fn new(proxy: &'a Proxy, origins: &'a Origins) -> Self {
        let (running, allowed, denied) = (AtomicBool::new(true), AtomicU64::new(0), AtomicU64::new(0));
        Self {
            proxy,
            origins,
            running,
            allowed,
            denied,
        }
    }

    fn goes_on(&self) -> bool {
        self.running.load(Ordering::Relaxed)
    }

    fn url(&self) -> String {
        self.origins.url("plain.allowed.test", "/")
    }

    fn requests(&self) {
        while self.goes_on() {
            assert_eq!(fetch(self.proxy.address(), &self.url()).status(), 200);
            self.allowed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Its upstream connections end with each generation, its requests do not.
    fn requests_on_one_connection(&self) {
        let url = self.url();
        let host = url.split('/').nth(2).unwrap();
        let mut client = Client::connect(self.proxy.address());
        while self.goes_on() {
            write!(client.stream, "GET {url} HTTP/1.1\r\nHost: {host}\r\n\r\n").unwrap();
            assert_eq!(client.response().status(), 200);
            self.allowed.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn tunnels(&self) {
        while self.goes_on() {
            let mut client = Client::tunnel(self.proxy.address(), &self.origins.echo_target());
            client.send("x");
            assert_eq!(client.read_exact(1), b"x");
            self.allowed.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn denied(&self) {
        while self.goes_on() {
            let url = self.origins.url("bad.wild.test", "/");
            assert_eq!(fetch(self.proxy.address(), &url).status(), 403);
            let (_, answer) = Client::connect_request(self.proxy.address(), "denied.test:443");
            assert_eq!(answer.status(), 403);
            self.denied.fetch_add(1, Ordering::Relaxed);
        }
    }
}

const SWAPS: u32 = 200;
/// What is left of a broken version's number by eight.
const BROKEN: u32 = 3;
