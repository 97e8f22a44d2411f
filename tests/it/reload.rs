//! Reload: what is taken, what is refused, how fast, and what happens to tunnels that are open.
//! Must not repeat the tables of the policy compiler; one bad file stands for all.
//! Called by `tests/run`.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use crate::support::DEADLINE;
use crate::support::client::{Client, Ending};
use crate::support::dns::Answer;
use crate::support::origin::Ended;
use crate::support::proxy::{Proxy, fetch, write_whole};
use crate::support::setup::Setup;
use crate::support::world::{Origins, World};

const NOTHING: &str = "allow: []\n";

fn status(proxy: &Proxy, origins: &Origins) -> u16 {
    fetch(proxy.address(), &origins.url("plain.allowed.test", "/")).status()
}

#[test]
fn a_changed_file_is_in_force_within_a_second() {
    let world = World::start();
    let mut fingerprints = Vec::new();
    for (number, policy) in [NOTHING, &world.origins.policy(), NOTHING].into_iter().enumerate() {
        let started = Instant::now();
        world.proxy.reload(policy);
        assert!(
            started.elapsed() < Duration::from_millis(1500),
            "{:?}",
            started.elapsed()
        );
        let expected = if policy == NOTHING { 403 } else { 200 };
        assert_eq!(status(&world.proxy, &world.origins), expected);
        assert_eq!(world.proxy.generation(), number as u64 + 2);
        fingerprints.push(world.proxy.metric("sluicegate_policy_fingerprint", &[]));
    }
    // The number is of the contents, whatever the generation.
    assert_eq!(fingerprints[0], fingerprints[2]);
    assert_ne!(fingerprints[0], fingerprints[1]);
    let log = world.proxy.log_text();
    assert!(log.contains("plain"), "the log names what changed:\n{log}");
    assert_eq!(world.proxy.metric("sluicegate_policy_generation", &[]), 4);
    assert_eq!(
        world
            .proxy
            .metric("sluicegate_policy_reloads_total", &[("result", "accepted")]),
        3
    );
}

#[test]
fn sighup_reads_again_at_once() {
    let world = World::start();
    fs::write(world.proxy.path("policy.yaml"), NOTHING).unwrap();
    world.proxy.signal(Signal::HUP);
    world.proxy.wait_generation(2);
    // Nothing changed: a signal makes no generation.
    world.proxy.signal(Signal::HUP);
    assert_eq!(status(&world.proxy, &world.origins), 403);
    assert_eq!(world.proxy.generation(), 2);
}

#[test]
fn j08_an_invalid_set_changes_nothing_and_says_so() {
    let world = World::start();
    let bad = "allow:\n  - *.example.com\n";
    world.proxy.rewrite("policy.yaml", bad);
    world
        .proxy
        .wait_metric("sluicegate_policy_load_failed", &[], |failed| failed == 1);
    assert_eq!(status(&world.proxy, &world.origins), 200);
    assert_eq!(
        (world.proxy.generation(), world.proxy.page("health", "/readyz").status()),
        (1, 200)
    );
    assert_eq!(
        world
            .proxy
            .metric("sluicegate_policy_reloads_total", &[("result", "refused")]),
        1
    );
    // Log, page and `check` say the same.
    let check = std::process::Command::new(env!("CARGO_BIN_EXE_sluicegate"))
        .args(["check", "--policy"])
        .arg(world.proxy.path("policy.yaml"))
        .output()
        .unwrap();
    assert_eq!(check.status.code(), Some(1));
    let said = String::from_utf8_lossy(&check.stdout).into_owned() + &String::from_utf8_lossy(&check.stderr);
    assert!(
        said.contains("policy.yaml:2") && said.contains("\"*.example.com\""),
        "{said}"
    );
    let page = world.proxy.json("/policy").to_string();
    let log = world.proxy.log_text();
    let help = said
        .lines()
        .find(|line| line.contains("quote") || line.contains("\"*.example.com\""))
        .unwrap()
        .trim();
    assert!(log.contains(help), "{help}\n{log}");
    assert!(page.contains("example.com"), "{page}");

    world.proxy.reload(NOTHING);
    assert_eq!(world.proxy.metric("sluicegate_policy_load_failed", &[]), 0);
}

#[test]
fn a_set_whose_expect_fails_is_refused() {
    let world = World::start();
    let policy = "allow: []\nexpect:\n  - {allow: \"https://api.allowed.test\"}\n";
    world.proxy.rewrite("policy.yaml", policy);
    world
        .proxy
        .wait_metric("sluicegate_policy_load_failed", &[], |failed| failed == 1);
    assert_eq!(
        (world.proxy.generation(), status(&world.proxy, &world.origins)),
        (1, 200)
    );
    assert!(
        world.proxy.log_text().contains("should be allowed"),
        "{}",
        world.proxy.log_text()
    );
}

#[test]
fn j02_no_file_is_no_policy() {
    let origins = Origins::start();
    let setup = Setup::new(NOTHING);
    fs::remove_file(setup.folder.path().join("policy.yaml")).unwrap();
    let (code, said) = setup.fails();
    assert!(code != 0 && said.contains("policy.yaml"), "{code}: {said}");
    let (code, said) = Setup::new("# nothing but a comment\n").fails();
    assert_eq!(code, 1, "{said}");

    let proxy = Setup::new(&origins.policy()).dns(&origins.dns).start();
    fs::remove_file(proxy.path("policy.yaml")).unwrap();
    proxy.wait_metric("sluicegate_policy_load_failed", &[], |failed| failed == 1);
    assert_eq!((proxy.generation(), status(&proxy, &origins)), (1, 200));
}

#[test]
fn a_directory_is_read_whole() {
    let origins = Origins::start();
    let setup = Setup::new("").dns(&origins.dns).set("policy", json!(["rules"]));
    let folder = setup.folder.path().join("rules");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("a.yaml"), NOTHING).unwrap();
    fs::write(folder.join("notes.txt"), "allow: [not yaml").unwrap();
    let proxy = setup.start();
    assert_eq!(status(&proxy, &origins), 403);
    write_whole(&folder.join("b.yaml"), &origins.policy());
    proxy.wait_generation(2);
    assert_eq!(status(&proxy, &origins), 200);
    fs::remove_file(folder.join("b.yaml")).unwrap();
    proxy.wait_generation(3);
    assert_eq!(status(&proxy, &origins), 403);
}

#[test]
fn j07_a_config_map_swaps_as_one() {
    let origins = Origins::start();
    let setup = Setup::new("").dns(&origins.dns).set("policy", json!(["mounted"]));
    let folder = setup.folder.path().join("mounted");
    let version = |number: u32, files: &[(&str, &str)]| {
        let data = folder.join(format!("..2026_{number}"));
        fs::create_dir_all(&data).unwrap();
        for (name, text) in files {
            fs::write(data.join(name), text).unwrap();
        }
        symlink(&data, folder.join("..data_tmp")).unwrap();
        fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
    };
    version(1, &[("policy.yaml", NOTHING)]);
    symlink("..data/policy.yaml", folder.join("policy.yaml")).unwrap();
    let proxy = setup.start();
    assert_eq!(status(&proxy, &origins), 403);
    version(2, &[("policy.yaml", &origins.policy())]);
    proxy.wait_generation(2);
    assert_eq!(status(&proxy, &origins), 200);
    // Two in 50 ms: only what is there in the end counts, and it comes into force.
    version(3, &[("policy.yaml", "allow: [half")]);
    version(4, &[("policy.yaml", NOTHING)]);
    proxy.wait_generation(3);
    assert_eq!(status(&proxy, &origins), 403);
    // Empty is not "no rules".
    version(5, &[("policy.yaml", "")]);
    proxy.wait_metric("sluicegate_policy_load_failed", &[], |failed| failed == 1);
    assert_eq!(proxy.generation(), 3);
}

#[test]
fn j10_tunnels_that_are_now_refused_are_reset_after_the_grace() {
    let world = World::with(|setup, _| setup.set("reload.grace", json!("1s")));
    let mut cut = world.echo_tunnel();
    let target = world.origins.tls_target("api.allowed.test");
    let mut kept =
        Client::tunnel(world.proxy.address(), &target).tls(&world.origins.ca.client_config(), "api.allowed.test");
    crate::support::client::get(&mut kept, "api.allowed.test", "/").unwrap();
    let policy = world.origins.policy();
    let without_echo: Vec<&str> = policy.lines().filter(|line| !line.contains("name: echo")).collect();
    world.proxy.reload(&without_echo.join("\n"));
    let started = Instant::now();
    cut.send("still");
    assert_eq!(cut.read_exact(5), b"still");
    let (rest, ending) = cut.read_to_end();
    assert_eq!((rest, ending), (Vec::new(), Ending::Reset));
    assert!(
        started.elapsed() > Duration::from_millis(500),
        "{:?}",
        started.elapsed()
    );
    assert_eq!(world.origins.echo.expect_end(0), Ended::Reset);
    let decision = world.proxy.nth_decision(0);
    assert_eq!(world.proxy.tunnel(decision.id()).text("end"), "reload");
    crate::support::client::get(&mut kept, "api.allowed.test", "/").expect("the rest do not notice");
}

/// The first match decides, also about what is open: another order of groups is enough to close it.
#[test]
fn a_tunnel_is_cut_when_another_collection_comes_first() {
    let world = World::with(|setup, _| setup.set("reload.grace", json!("0s")));
    let target = world.origins.echo_target();
    let policy = |opened: u16| {
        format!(
            r#"
groups: {{Opened: {{priority: {opened}}}, Closed: {{priority: 300}}}}
collections:
  - {{name: late, priority: 100, group: Opened, action: allow, rules: [other.test]}}
  - {{name: not that, group: Closed, priority: 100, type: network, action: deny, rules: [{{name: no, to: [{host}]}}]}}
  - name: echoes
    group: Opened
    priority: 100
    type: network
    action: allow
    rules: [{{name: echo, to: ["tcp://{target}"], addresses: [127.0.0.0/8]}}]
"#,
            host = "echo.allowed.test",
        )
    };
    world.proxy.reload(&policy(200));
    let mut client = world.echo_tunnel();
    client.send("still");
    assert_eq!(client.read_exact(5), b"still");
    let decision = world.proxy.nth_decision(0);
    assert_eq!(
        (
            decision.text("rule"),
            decision.text("collection"),
            decision.text("collection_group")
        ),
        ("echo", "echoes", "Opened")
    );
    world.proxy.reload(&policy(400));
    let (rest, ending) = client.read_to_end();
    assert_eq!((rest, ending), (Vec::new(), Ending::Reset));
    assert_eq!(world.proxy.tunnel(decision.id()).text("end"), "reload");
    let (mut client, answer) = world.connect(&target);
    assert_eq!(answer.status(), 403);
    let (body, _) = client.read_to_end();
    let body = String::from_utf8(body).unwrap();
    assert!(
        body.contains("no of collection not that (") && !body.contains("allow:"),
        "{body}"
    );
    let decision = world.proxy.nth_decision(1);
    assert_eq!(
        (decision.verdict().as_str(), decision.text("collection")),
        ("deny deny_rule", "not that")
    );
}

#[test]
fn a_reload_that_takes_it_back_in_time_cuts_nothing() {
    let world = World::with(|setup, _| setup.set("reload.grace", json!("3s")));
    let mut client = world.echo_tunnel();
    world.proxy.reload(NOTHING);
    world.proxy.reload(&world.origins.policy());
    client.expect_quiet(Duration::from_secs(4));
    client.send("x");
    assert_eq!(client.read_exact(1), b"x");
}

#[test]
fn a_streaming_answer_is_cut_too() {
    let world = World::with(|setup, _| setup.set("reload.grace", json!("100ms")));
    let mut client = Client::connect(world.proxy.address());
    let url = world.origins.url("plain.allowed.test", "/size/200000000");
    let host = url.split('/').nth(2).unwrap();
    client.send(format!("GET {url} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    assert_eq!(client.head().status(), 200);
    world.proxy.reload(NOTHING);
    let (bytes, ending) = client.read_to_end();
    assert!(bytes.len() < 200_000_000, "all of it came");
    assert_eq!(ending, Ending::Reset);
}

/// The policy in force when the name is resolved decides, not the one that let it be resolved.
#[test]
fn a_policy_that_comes_while_a_name_is_resolved_decides() {
    let world = World::with(|setup, origins| {
        let late = Answer {
            delay: Duration::from_secs(3),
            ..Answer::of([Ipv4Addr::LOCALHOST])
        };
        origins.dns.script("echo.allowed.test", [late]);
        setup.set("dns.timeout", json!("10s"))
    });
    let target = world.origins.echo_target();
    let mut client = Client::connect(world.proxy.address());
    client.send(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n"));
    let end = Instant::now() + DEADLINE;
    while world.origins.dns.asked("echo.allowed.test") == 0 {
        assert!(Instant::now() < end, "nobody asks for the name");
        std::thread::yield_now();
    }
    world.proxy.reload(NOTHING);
    assert_eq!(client.head().status(), 403);
    let decision = world.proxy.nth_decision(0);
    assert_eq!(
        (decision.verdict(), decision.number("generation")),
        ("deny no_rule".to_owned(), 2)
    );
}

#[test]
fn report_mode_lets_through_and_marks() {
    let world = World::start();
    let tomorrow = jiff::Timestamp::now()
        .to_zoned(jiff::tz::TimeZone::UTC)
        .date()
        .tomorrow()
        .unwrap();
    world
        .proxy
        .reload(&(world.origins.policy() + &format!("mode: report\nreport_until: {tomorrow}\n")));
    // Only public addresses are open to it, and loopback is none.
    let (_, answer) = world.connect(&format!("other.denied.test:{}", world.origins.echo.port()));
    assert_eq!(answer.line(), "HTTP/1.1 403 Denied by sluicegate (forbidden_address)");
    assert_eq!(world.proxy.metric("sluicegate_mode", &[("mode", "report")]), 1);
    // Including that day, UTC.
    let end = tomorrow.tomorrow().unwrap().to_zoned(jiff::tz::TimeZone::UTC).unwrap();
    let end = u64::try_from(end.timestamp().as_second()).unwrap();
    assert_eq!(world.proxy.metric("sluicegate_report_end_seconds", &[]), end);
    let (_, answer) = world.connect("-bad host-:443");
    assert_eq!(answer.status(), 400);
    world.proxy.reload(&world.origins.policy());
    assert_eq!(world.proxy.metric("sluicegate_mode", &[("mode", "enforce")]), 1);
    assert_eq!(world.proxy.metric("sluicegate_report_end_seconds", &[]), 0);
    let (_, answer) = world.connect("other.denied.test:443");
    assert_eq!(answer.line(), "HTTP/1.1 403 Denied by sluicegate (no_rule)");
}
