//! Start, readiness, shutdown, exit codes, and what is refused before anything starts.
//! Must not test commands other than `run`; those have no sockets.
//! Called by `tests/run`.

use std::io::Read;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use crate::support::client::{Client, Ending};
use crate::support::origin::Origin;
use crate::support::proxy::{free_port, is_open};
use crate::support::setup::Setup;
use crate::support::world::{Origins, World};

#[test]
fn health_says_what_it_knows() {
    let world = World::start();
    assert_eq!(world.proxy.page("health", "/healthz").status(), 200);
    assert_eq!(world.proxy.page("health", "/readyz").status(), 200);
    assert_eq!(world.proxy.page("admin", "/metrics").status(), 200);
    assert_eq!(world.proxy.page("health", "/policy").status(), 404);
    assert_eq!(world.proxy.page("health", "/tunnels").status(), 404);
    let metrics = world.proxy.page("health", "/metrics");
    assert!(metrics.text().contains("# HELP sluicegate_mode"), "{}", metrics.text());
}

#[test]
fn k09_a_signal_drains_and_exits_0() {
    let world = World::with(|setup, _| setup.set("timeouts.drain", json!("2s")));
    let mut tunnels: Vec<_> = (0..100).map(|_| world.echo_tunnel()).collect();
    let started = Instant::now();
    world.proxy.signal(Signal::TERM);
    // Not ready any more, or already gone; never a yes.
    let end = Instant::now() + Duration::from_secs(5);
    while is_open(world.proxy.address()) {
        assert!(Instant::now() < end, "it still accepts");
    }
    assert_eq!(world.proxy.page("health", "/readyz").status(), 503);
    // What is open goes on.
    for client in &mut tunnels {
        client.send("x");
        assert_eq!(client.read_exact(1), b"x");
    }
    // Half of them end by themselves, the rest at the deadline.
    tunnels.truncate(50);
    for client in &mut tunnels {
        assert_ne!(client.read_to_end().1, Ending::Open);
    }
    let outcome = world.proxy.wait_end();
    assert_eq!(outcome.status.code(), Some(0));
    assert!(
        started.elapsed() >= Duration::from_millis(1800) && started.elapsed() < Duration::from_secs(10),
        "{:?}",
        started.elapsed()
    );
    let ends = |end: &str| {
        outcome
            .tunnels
            .iter()
            .filter(|tunnel| tunnel.text("end") == end)
            .count()
    };
    assert_eq!(
        (outcome.decisions.len(), outcome.tunnels.len(), ends("drain")),
        (100, 100, 50)
    );
}

#[test]
fn without_tunnels_the_end_is_at_once() {
    let world = World::start();
    let idle = Client::connect(world.proxy.address());
    let started = Instant::now();
    let outcome = world.stop();
    assert_eq!(outcome.status.code(), Some(0));
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    assert_eq!((outcome.decisions.len(), outcome.tunnels.len()), (0, 0));
    drop(idle);
}

#[test]
fn what_waits_for_a_verdict_when_the_drain_ends_says_so() {
    let origins = Origins::start();
    let silent = Origin::start("127.0.0.1:0", |tap| tap.read_to_end(&mut Vec::new()).map(drop));
    let policy = format!(
        "allow: [{{to: [\"{}\", \"http://silent.allowed.test:{}\"], addresses: [127.0.0.0/8]}}]\n",
        origins.tls_target("api.allowed.test"),
        silent.port()
    );
    let proxy = Setup::new(&policy)
        .dns(&origins.dns)
        .listener(json!({"name": "tls", "mode": "tls", "bind": "127.0.0.1:0", "port": 443}))
        .set("timeouts.drain", json!("500ms"))
        .set("timeouts.head", json!("60s"))
        .start();
    let mut tunnel = Client::tunnel(proxy.address(), &origins.tls_target("api.allowed.test"));
    let mut transparent = Client::connect(proxy.at("tls"));
    transparent.send([0x16]);
    let mut exchange = Client::connect(proxy.address());
    exchange.get(&format!("http://silent.allowed.test:{}/", silent.port()));
    proxy.decision(|record| record.reason() == "rule");
    proxy.signal(Signal::TERM);
    for client in [&mut tunnel, &mut transparent, &mut exchange] {
        assert_ne!(client.read_to_end().1, Ending::Open);
    }
    let outcome = proxy.wait_end();
    assert_eq!(outcome.verdicts(), ["allow rule", "deny drain", "deny drain"]);
    assert_eq!(outcome.tunnels.len(), 1);
    assert_eq!(outcome.tunnels[0].text("end"), "drain");
}

#[test]
fn records_that_cannot_be_written_at_the_end_are_missed_aloud() {
    let origins = Origins::start();
    let proxy = Setup::new(&origins.policy()).dns(&origins.dns).deaf().start();
    let end = Instant::now() + Duration::from_mins(1);
    while proxy.metric("sluicegate_records_dropped_total", &[]) == 0 {
        assert!(Instant::now() < end, "nothing was ever dropped");
        for _ in 0..200 {
            Client::connect_request(proxy.address(), "denied.test:443");
        }
    }
    proxy.signal(Signal::TERM);
    proxy.expect_log("the last records were not written");
    assert_eq!(proxy.wait_end().status.code(), Some(0));
}

#[test]
fn a_second_signal_does_not_wait() {
    let world = World::with(|setup, _| setup.set("timeouts.drain", json!("60s")));
    let _open = world.echo_tunnel();
    let started = Instant::now();
    world.proxy.signal(Signal::INT);
    let end = Instant::now() + Duration::from_secs(5);
    while is_open(world.proxy.address()) {
        assert!(Instant::now() < end, "it still accepts");
    }
    world.proxy.signal(Signal::TERM);
    let outcome = world.proxy.wait_end();
    assert!(started.elapsed() < Duration::from_secs(20));
    assert_eq!(outcome.tunnels.len(), 1);
}

#[test]
fn two_listeners_on_one_address_are_an_error_before_anything_starts() {
    let port = free_port();
    let bind = format!("127.0.0.1:{port}");
    let (code, said) = Setup::new("allow: []\n")
        .listener(json!({"name": "one", "mode": "explicit", "bind": bind}))
        .listener(json!({"name": "two", "mode": "http", "bind": bind, "port": 80}))
        .fails();
    assert_ne!(code, 0);
    assert!(
        said.contains("one") && said.contains("two") && said.contains(&bind),
        "{said}"
    );
    // A wildcard covers every address of its port.
    let (code, said) = Setup::new("allow: []\n")
        .listener(json!({"name": "one", "mode": "explicit", "bind": format!("0.0.0.0:{port}")}))
        .set("health.bind", json!(bind))
        .fails();
    assert_ne!(code, 0, "{said}");
}

#[test]
fn a_taken_address_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let bind = taken.local_addr().unwrap().to_string();
    let (code, said) = Setup::new("allow: []\n")
        .listener(json!({"name": "late", "mode": "explicit", "bind": bind}))
        .fails();
    assert_ne!(code, 0);
    assert!(said.contains("late") && said.contains(&bind), "{said}");
}

#[test]
fn an_invalid_policy_is_exit_code_1_and_names_every_problem() {
    let policy = "allow:\n  - *.example.com\n  - \"https://ok.test:0443\"\n";
    let (code, said) = Setup::new(policy).fails();
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("policy.yaml:2"), "{said}");
    let policy = "allow:\n  - \"https://ok.test:0443\"\n  - \"*\"\n  - {to: []}\nalow: []\n";
    let (code, said) = Setup::new(policy).fails();
    assert_eq!(code, 1, "{said}");
    for place in ["policy.yaml:2", "policy.yaml:3", "policy.yaml:4", "policy.yaml:5"] {
        assert!(said.contains(place), "{place} is missing:\n{said}");
    }
}

#[test]
fn wrong_settings_are_exit_code_1_and_say_what_is_right() {
    let (code, said) = Setup::new("allow: []\n").set("timeouts.hed", json!("1s")).fails();
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("hed"), "{said}");
    let (code, said) = Setup::new("allow: []\n").set("timeouts.head", json!("soon")).fails();
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("soon") && said.contains("500ms"), "{said}");
}

#[test]
fn the_environment_overrides_the_file() {
    let world = World::with(|setup, _| setup.environment("SLUICEGATE__LIMITS__CONNECTIONS", "1"));
    let _held = world.echo_tunnel();
    assert_eq!(world.connect("denied.test:443").1.status(), 503);
}
