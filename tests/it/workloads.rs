//! Workload ports: opened, closed and handed over by reload; coming in there is the identity.
//! Must not test who a `from` means in general; that is the gate's.
//! Called by `tests/run`.

use std::time::Instant;

use rustix::process::Signal;

use crate::support::client::Client;
use crate::support::proxy::{free_port, is_open};
use crate::support::setup::Setup;
use crate::support::world::Origins;
use crate::support::{DEADLINE, QUIET};

fn policy(origins: &Origins, workloads: &str, from: &str) -> String {
    format!(
        "workloads:\n{workloads}allow:\n  - {{name: own, from: [{from}], to: [\"tcp://echo.allowed.test:{}\"], addresses: \
         [127.0.0.0/8]}}\n",
        origins.echo.port()
    )
}

fn workload(name: &str, port: u16) -> String {
    format!("  {name}: {{namespace: {name}, pods: {{app: {name}}}, port: {port}}}\n")
}

fn status(port: u16, origins: &Origins) -> u16 {
    let address = (std::net::Ipv4Addr::LOCALHOST, port).into();
    Client::connect_request(address, &origins.echo_target()).1.status()
}

/// Each worker closes its own hold of a port.
fn closes(port: u16) {
    let end = Instant::now() + DEADLINE;
    while is_open((std::net::Ipv4Addr::LOCALHOST, port).into()) {
        assert!(Instant::now() < end, "it still accepts");
    }
}

#[test]
fn the_port_is_the_identity() {
    let origins = Origins::start();
    let (trips, poi) = (free_port(), free_port());
    let text = policy(&origins, &(workload("trips", trips) + &workload("poi", poi)), "trips");
    let proxy = Setup::new(&text).dns(&origins.dns).start();
    assert_eq!(status(trips, &origins), 200);
    proxy.nth_decision(0);
    assert_eq!(status(poi, &origins), 403);
    assert_eq!(status(proxy.address().port(), &origins), 403);
    let labels = [("action", "allow"), ("workload", "trips")];
    assert_eq!(proxy.metric("sluicegate_decisions_total", &labels), 1);
    let outcome = proxy.stop();
    assert_eq!(
        outcome.verdicts(),
        ["allow rule", "deny no_rule_for_source", "deny no_rule_for_source"]
    );
    assert_eq!(outcome.decisions[0].text("workload"), "trips");
    assert_eq!(outcome.decisions[1].text("workload"), "poi");
    assert_eq!(outcome.decisions[2].0.get("workload"), None);
}

#[test]
fn reloads_open_close_and_hand_over_ports() {
    let origins = Origins::start();
    let (first, second) = (free_port(), free_port());
    let proxy = Setup::new(&policy(&origins, &workload("trips", first), "trips"))
        .dns(&origins.dns)
        .start();
    assert!(!is_open((std::net::Ipv4Addr::LOCALHOST, second).into()));
    let mut kept = Client::tunnel((std::net::Ipv4Addr::LOCALHOST, first).into(), &origins.echo_target());

    let both = workload("trips", first) + &workload("poi", second);
    proxy.reload(&policy(&origins, &both, "poi, trips"));
    assert_eq!((status(first, &origins), status(second, &origins)), (200, 200));

    // The ports change hands: trips' old port is now poi's, and only poi is allowed.
    let swapped = workload("poi", first) + &workload("trips", second);
    proxy.reload(&policy(&origins, &swapped, "poi"));
    assert_eq!((status(first, &origins), status(second, &origins)), (200, 403));

    proxy.reload(&policy(&origins, &workload("poi", second), "poi"));
    closes(first);
    assert_eq!(status(second, &origins), 200);
    // A tunnel of a closed port is judged by who opened it, and trips is no more.
    assert_eq!(kept.read_to_end().0, b"");
    let decision = proxy.nth_decision(0);
    assert_eq!(proxy.tunnel(decision.id()).text("end"), "reload");
    // What was counted stays; what was open is not.
    let of_trips = [("listener", "trips")];
    proxy.wait_metric("sluicegate_open_connections", &of_trips, |open| open == 0);
    assert_eq!(proxy.metric("sluicegate_open_tunnels", &of_trips), 0);
    let allowed = [("action", "allow"), ("workload", "trips")];
    assert_eq!(proxy.metric("sluicegate_decisions_total", &allowed), 2);
}

#[test]
fn a_proxy_that_drains_takes_nothing_on_a_workloads_port() {
    let origins = Origins::start();
    let port = free_port();
    let proxy = Setup::new(&policy(&origins, &workload("trips", port), "trips"))
        .dns(&origins.dns)
        .start();
    let mut kept = Client::tunnel((std::net::Ipv4Addr::LOCALHOST, port).into(), &origins.echo_target());
    proxy.signal(Signal::TERM);
    closes(port);
    kept.send("x");
    assert_eq!(kept.read_exact(1), b"x");
}

#[test]
fn a_port_that_cannot_be_bound_refuses_the_whole_set() {
    let origins = Origins::start();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = Setup::new(&policy(&origins, &workload("trips", free_port()), "trips"))
        .dns(&origins.dns)
        .start();
    let port = taken.local_addr().unwrap().port();
    proxy.rewrite("policy.yaml", &policy(&origins, &workload("trips", port), "trips"));
    proxy.wait_metric("sluicegate_policy_load_failed", &[], |failed| failed == 1);
    assert_eq!(proxy.generation(), 1);
    let line = format!("workload `trips` cannot have port {port}: Address already in use");
    let log = proxy.expect_log(&line);
    assert!(log.starts_with("error: "), "{log}");
    proxy.expect_log("policy.yaml:2:");
    // Free again, the same files are taken at the next change.
    drop(taken);
    proxy.reload(&(policy(&origins, &workload("trips", port), "trips") + "# once more\n"));
    assert_eq!(status(port, &origins), 200);
    let mut client = Client::tunnel((std::net::Ipv4Addr::LOCALHOST, port).into(), &origins.echo_target());
    client.expect_quiet(QUIET);
}

#[test]
fn a_port_that_a_listener_has_is_refused_with_its_line() {
    let origins = Origins::start();
    let proxy = Setup::new(&policy(&origins, &workload("trips", free_port()), "trips"))
        .dns(&origins.dns)
        .start();
    let port = proxy.address().port();
    proxy.rewrite("policy.yaml", &policy(&origins, &workload("trips", port), "trips"));
    proxy.wait_metric("sluicegate_policy_load_failed", &[], |failed| failed == 1);
    proxy.expect_log(&format!(
        "workload `trips` cannot have port {port}: `proxy` listens there"
    ));
    proxy.expect_log("policy.yaml:2:");
    assert_eq!(proxy.generation(), 1);
}

#[test]
fn a_port_that_is_taken_keeps_it_from_starting() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let text = format!("workloads:\n{}allow: []\n", workload("trips", port));
    let (code, said) = Setup::new(&text).fails();
    assert_eq!(code, 1, "{said}");
    assert!(
        said.contains("policy.yaml:2:") && said.contains(&format!("port: {port}")),
        "{said}"
    );
}
