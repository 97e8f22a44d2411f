//! The commands beside the running proxy: they answer with the same gate, the same words and the right exit codes.
//! Must not repeat what their own tests cover; here live verdicts are the measure.
//! Called by `tests/run`.

use std::process::Command;

use serde_json::Value;

use crate::support::client::Client;
use crate::support::proxy::fetch;
use crate::support::world::World;

fn explain(world: &World, destination: &str) -> (Option<i32>, Value) {
    let output = Command::new(env!("CARGO_BIN_EXE_sluicegate"))
        .args(["explain", "--output", "json", "--from", "127.0.0.1", "--policy"])
        .arg(world.proxy.path("policy.yaml"))
        .arg(destination)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    (
        output.status.code(),
        serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}")),
    )
}

/// M05: what `explain` says is what happens.
#[test]
fn explain_answers_as_the_proxy_does() {
    let world = World::start();
    let (tls, http, echo) = (
        world.origins.https.port(),
        world.origins.http.port(),
        world.origins.echo.port(),
    );
    let destinations = [
        format!("https://api.allowed.test:{tls}"),
        format!("https://API.allowed.test.:{tls}"),
        format!("https://x.wild.test:{tls}"),
        format!("https://wild.test:{tls}"),
        format!("https://bad.wild.test:{tls}"),
        format!("https://x.bad.wild.test:{tls}"),
        "https://api.allowed.test:444".to_owned(),
        format!("http://plain.allowed.test:{http}"),
        format!("http://denied.test:{http}"),
        format!("tcp://echo.allowed.test:{echo}"),
        "tcp://93.184.216.34:443".to_owned(),
    ];
    for destination in &destinations {
        let (code, said) = explain(&world, destination);
        let (scheme, target) = destination.split_once("://").unwrap();
        let reason = if scheme == "http" {
            reason(&fetch(world.proxy.address(), &format!("{destination}/")).head)
        } else {
            reason(&Client::connect_request(world.proxy.address(), target).1.head)
        };
        let allowed = reason == "rule";
        assert_eq!(
            (code, &said["allowed"]),
            (Some(i32::from(!allowed)), &Value::Bool(allowed)),
            "{destination}: {said}"
        );
        assert_eq!(said["reason"], reason, "{destination}: {said}");
    }
}

/// The reason that stands in a status line.
fn reason(head: &str) -> String {
    let line = head.lines().next().unwrap_or_default();
    match line.split_once('(') {
        Some((_, rest)) => rest.trim_end_matches(')').to_owned(),
        None => "rule".to_owned(),
    }
}

/// The line of a refusal page is one that works: added to the policy, it allows exactly what was refused.
#[test]
fn the_line_that_a_refusal_suggests_allows_the_call() {
    let world = World::start();
    let target = format!("new.allowed.test:{}", world.origins.https.port());
    let (mut client, _) = world.connect(&target);
    let page = String::from_utf8(client.read_to_end().0).unwrap();
    let line = page
        .lines()
        .map(str::trim)
        .find(|line| line.starts_with("- "))
        .unwrap_or_else(|| panic!("{page}"));
    assert!(line.contains("new.allowed.test"), "{page}");
    let policy = world
        .origins
        .policy()
        .replace("allow:\n", &format!("allow:\n  {line}\n"));
    world.proxy.reload(&policy);
    // The name leads to loopback, which that line alone does not open: the next reason, not the same one.
    let (_, answer) = world.connect(&target);
    assert_eq!(answer.line(), "HTTP/1.1 403 Denied by sluicegate (forbidden_address)");
    let (_, answer) = world.connect(&format!("newer.allowed.test:{}", world.origins.https.port()));
    assert_eq!(answer.line(), "HTTP/1.1 403 Denied by sluicegate (no_rule)");
}
