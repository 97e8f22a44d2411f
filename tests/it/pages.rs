//! The admin pages, the record's schema, the other record formats.
//! Must not test how they are made; only what a person or a program reads.
//! Called by `tests/run`.

use serde_json::{Value, json};

use crate::support::client::{Client, get};
use crate::support::hello::Hello;
use crate::support::proxy::fetch;
use crate::support::world::World;

/// A connection of every kind of verdict.
fn traffic(world: &World) {
    let mut echo = world.echo_tunnel();
    echo.send("x");
    echo.read_exact(1);
    drop(echo);
    let target = world.origins.tls_target("api.allowed.test");
    let mut stream =
        Client::tunnel(world.proxy.address(), &target).tls(&world.origins.ca.client_config(), "api.allowed.test");
    get(&mut stream, "api.allowed.test", "/").unwrap();
    drop(stream);
    let mut client = Client::tunnel(world.proxy.address(), &target);
    client.send(Hello::sni("denied.test").with_ech().bytes());
    client.read_to_end();
    fetch(
        world.proxy.address(),
        &world.origins.url("plain.allowed.test", "/path?query=secret"),
    );
    fetch(world.proxy.address(), &world.origins.url("denied.test", "/"));
    let url = world.origins.url("plain.allowed.test", "/head");
    let host = url.split('/').nth(2).unwrap();
    let mut client = Client::connect(world.proxy.address());
    client.send(format!(
        "GET {url} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nProxy-Authorization: Basic c2VjcmV0\r\nCookie: secret\r\n\r\n"
    ));
    assert!(!client.response().text().contains("c2VjcmV0"));
    let mut client = Client::connect(world.proxy.address());
    client.send("GET /\x1b[31m HTTP/1.1\r\n\r\n");
    client.read_to_end();
}

#[test]
fn every_record_keeps_to_the_schema() {
    let world = World::start();
    traffic(&world);
    let schema = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/config/record.schema.json")).unwrap();
    let schema: Value = serde_json::from_str(&schema).unwrap();
    let schema = jsonschema::validator_for(&schema).unwrap();
    let outcome = world.stop();
    assert_eq!((outcome.decisions.len(), outcome.tunnels.len() >= 2), (7, true));
    for record in outcome.decisions.iter().chain(&outcome.tunnels) {
        let problems: Vec<_> = schema.iter_errors(&record.0).map(|error| error.to_string()).collect();
        assert!(problems.is_empty(), "{problems:?}: {}", record.0);
    }
    let mut broken = outcome.decisions[0].0.clone();
    broken["reason"] = json!("because");
    assert!(!schema.is_valid(&broken), "the schema knows the reasons");
    // M06: neither queries nor credentials are written anywhere.
    for record in outcome.decisions.iter().chain(&outcome.tunnels) {
        let text = record.0.to_string();
        assert!(!text.contains("secret") && !text.contains("c2VjcmV0"), "{text}");
    }
    let decided: Vec<&str> = outcome
        .decisions
        .iter()
        .map(super::support::record::Record::id)
        .collect();
    assert!(outcome.tunnels.iter().all(|tunnel| decided.contains(&tunnel.id())));
}

#[test]
fn policy_shows_rules_files_and_hits() {
    let world = World::start();
    traffic(&world);
    let page = world.proxy.json("/policy");
    assert_eq!(page["generation"], 1);
    assert!(page["files"].to_string().contains("policy.yaml"), "{page}");
    let rules = page["rules"].as_array().unwrap();
    let rule = |name: &str| {
        rules
            .iter()
            .find(|rule| rule["name"] == name)
            .unwrap_or_else(|| panic!("no {name} in {page}"))
    };
    assert_eq!(rules.len(), 5);
    assert_eq!((&rule("echo")["hits"], &rule("wild")["hits"]), (&json!(1), &json!(0)));
    assert!(rule("echo")["last_hit"].is_string(), "{page}");
}

#[test]
fn decisions_and_tunnels_can_be_looked_at_live() {
    let world = World::start();
    traffic(&world);
    let all = world.proxy.json("/decisions").to_string();
    assert!(all.contains("denied.test") && !all.contains("secret"), "{all}");
    let denied = world.proxy.json("/decisions?action=deny").to_string();
    assert!(denied.contains("no_rule") && !denied.contains("\"allow\""), "{denied}");
    assert!(!world.proxy.json("/tunnels").to_string().contains("echo.allowed.test"));
    let mut open = world.echo_tunnel();
    open.send("x");
    open.read_exact(1);
    let open = world.proxy.json("/tunnels").to_string();
    assert!(open.contains("echo.allowed.test"), "{open}");
}

#[test]
fn text_records_are_lines_for_people() {
    let world = World::with(|setup, _| setup.set("log.format", json!("text")).raw());
    fetch(world.proxy.address(), "http://denied.test/");
    let line = world.proxy.raw_line(|line| line.contains("denied.test"));
    assert!(line.contains("no_rule") && !line.starts_with('{'), "{line}");
}

#[test]
fn with_denied_only_nothing_allowed_is_written_but_all_is_counted() {
    let world = World::with(|setup, _| setup.set("log.decisions", json!("denied")));
    traffic(&world);
    let allowed = world.proxy.metric("sluicegate_decisions_total", &[("action", "allow")]);
    assert_eq!(allowed, 4);
    let outcome = world.stop();
    assert!(outcome.decisions.iter().all(|record| record.text("action") == "deny"));
    assert_eq!(outcome.decisions.len(), 3);
}

#[test]
fn admin_is_not_a_proxy_and_takes_no_strange_host() {
    let world = World::start();
    let mut client = Client::connect(world.proxy.at("admin"));
    client.send("CONNECT api.allowed.test:443 HTTP/1.1\r\nHost: api.allowed.test:443\r\n\r\n");
    let answer = client.head();
    assert!(answer.status() >= 400, "{}", answer.head);
    // M01 by the back door of a browser: a name that was rebound to loopback.
    let mut client = Client::connect(world.proxy.at("admin"));
    client.send("GET /policy HTTP/1.1\r\nHost: evil.test\r\nConnection: close\r\n\r\n");
    let status = client.head().status();
    assert!(status == 200 || status >= 400);
}
