//! Resolving and the address guard, against a real DNS server: what is asked, what is dialled, what is refused.
//! Must not reach real public addresses; names that lead to some are in the ring `lab`.
//! Called by `tests/run`.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::client::Client;
use crate::support::dns::{A, AAAA, Answer, Dns, NXDOMAIN, REFUSED, SERVFAIL, Spoil};
use crate::support::origin::Origin;
use crate::support::proxy::{Proxy, fetch};
use crate::support::setup::Setup;

const LOOPBACK: Ipv4Addr = Ipv4Addr::LOCALHOST;

struct Lab {
    dns: Dns,
    origin: Origin,
    proxy: Proxy,
}

/// `*.open.test` may lead to loopback, `*.shut.test` only to public addresses.
fn start(change: impl FnOnce(Setup) -> Setup) -> Lab {
    let (dns, origin) = (Dns::start(), Origin::http());
    let policy = format!(
        "cluster: {{networks: {{pods: [20.40.0.0/16], services: [20.41.0.0/16], nodes: [20.42.0.0/16]}}, \
         api_server_addresses: [20.50.1.2/32]}}\nallow:\n  - {{name: open, to: [\"http://*.open.test:{port}\"], addresses: \
         [127.0.0.0/8, 10.20.0.0/16]}}\n  - {{name: shut, to: [\"http://*.shut.test:{port}\"]}}\n",
        port = origin.port()
    );
    let proxy = change(Setup::new(&policy).dns(&dns)).start();
    Lab { dns, origin, proxy }
}

impl Lab {
    fn status(&self, name: &str) -> u16 {
        self.fetch(name).status()
    }

    /// The name leads to loopback once, then to a metadata service, and neither answer may be kept.
    fn rebinds(&self, name: &str) {
        let answers = [[127, 0, 0, 1], [169, 254, 169, 254]].map(|address| Answer {
            ttl: 0,
            ..Answer::of([address])
        });
        self.dns.script(name, answers);
    }

    fn fetch(&self, name: &str) -> crate::support::http::Message {
        fetch(self.proxy.address(), &format!("http://{name}:{}/", self.origin.port()))
    }
}

#[test]
fn d01_to_d05_forbidden_addresses_are_not_dialled() {
    let lab = start(|setup| setup);
    let addresses = [
        "127.0.0.1",
        "::1",
        "0.0.0.0",
        "::",
        "169.254.169.254",
        "fe80::1",
        "fd00:ec2::254",
        "168.63.129.16",
        "10.0.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "198.18.0.1",
        "224.0.0.1",
        "255.255.255.255",
        "fc00::1",
        "2002:7f00:1::",
        "::ffff:127.0.0.1",
        "64:ff9b::7f00:1",
        "20.40.1.1",
        "20.41.1.1",
        "20.42.1.1",
        "20.50.1.2",
    ];
    for (number, address) in addresses.iter().enumerate() {
        let name = format!("n{number}.shut.test");
        lab.dns.set(&name, [address.parse::<IpAddr>().unwrap()]);
        let answer = lab.fetch(&name);
        assert_eq!(
            answer.line(),
            "HTTP/1.1 403 Denied by sluicegate (forbidden_address)",
            "{address}"
        );
        let record = lab.proxy.nth_decision(number);
        assert_eq!(
            (record.verdict().as_str(), record.text("stage")),
            ("deny forbidden_address", "address")
        );
        assert!(
            record.text("detail").contains(address) || answer.text().contains(address),
            "{}",
            record.0
        );
    }
    assert_eq!(lab.origin.accepted(), 0);
    assert_eq!(lab.proxy.stop().decisions.len(), addresses.len());
}

#[test]
fn d06_d07_d08_an_exception_is_its_rules_and_never_metadata() {
    let lab = start(|setup| setup);
    lab.dns.set("in.open.test", [LOOPBACK]);
    lab.dns.set("out.open.test", [[10, 99, 0, 1]]);
    lab.dns.set("other.shut.test", [LOOPBACK]);
    lab.dns
        .set("meta.open.test", [[169, 254, 169, 254], [168, 63, 129, 16]]);
    assert_eq!(lab.status("in.open.test"), 200);
    for name in ["out.open.test", "other.shut.test", "meta.open.test"] {
        assert_eq!(lab.status(name), 403, "{name}");
    }
    assert_eq!(lab.proxy.stop().verdicts()[1..], ["deny forbidden_address"; 3]);
}

#[test]
fn of_a_mixed_answer_the_good_part_is_dialled() {
    let lab = start(|setup| setup);
    lab.dns.set(
        "mixed.open.test",
        [[169, 254, 169, 254], [127, 0, 0, 1], [10, 99, 0, 1]],
    );
    assert_eq!(lab.status("mixed.open.test"), 200);
    assert_eq!(lab.proxy.nth_decision(0).text("address"), "127.0.0.1");
}

#[test]
fn d10_what_was_checked_is_what_is_dialled() {
    let lab = start(|setup| setup.set("dns.min_ttl", json!("0s")));
    lab.rebinds("rebind.open.test");
    assert_eq!(lab.status("rebind.open.test"), 200);
    let asked = lab.dns.questions();
    assert_eq!(asked.iter().filter(|one| one.kind == A).count(), 1, "{asked:?}");
    assert!(asked.iter().filter(|one| one.kind == AAAA).count() <= 1);
    assert_eq!(lab.status("rebind.open.test"), 403);
}

#[test]
fn d11_a_kept_connection_is_not_a_new_dial() {
    let lab = start(|setup| setup.set("dns.min_ttl", json!("0s")));
    lab.rebinds("kept.open.test");
    let host = format!("kept.open.test:{}", lab.origin.port());
    let mut client = Client::connect(lab.proxy.address());
    for path in ["/", "/close"] {
        client.send(format!("GET http://{host}{path} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert_eq!(client.response().status(), 200);
    }
    assert_eq!(lab.origin.accepted(), 1);
    // The upstream has closed; the next request must dial, and the guard looks again.
    assert_eq!(lab.status("kept.open.test"), 403);
}

#[test]
fn d12_aliases_are_followed_and_recorded() {
    let lab = start(|setup| setup);
    let answer = Answer {
        aliases: vec!["edge.cdn.test".into(), "pop7.cdn.test".into()],
        ..Answer::of([LOOPBACK])
    };
    lab.dns.script("www.open.test", [answer]);
    assert_eq!(lab.status("www.open.test"), 200);
    let record = lab.proxy.nth_decision(0);
    assert_eq!(
        record.0["aliases"],
        json!(["edge.cdn.test", "pop7.cdn.test"]),
        "{}",
        record.0
    );
}

#[test]
fn d14_failures_are_502_or_504() {
    let lab = start(|setup| setup.set("dns.timeout", json!("300ms")));
    lab.dns.script("none.open.test", [Answer::rcode(NXDOMAIN)]);
    lab.dns.script("empty.open.test", [Answer::default()]);
    lab.dns.script("fail.open.test", [Answer::rcode(SERVFAIL)]);
    lab.dns.script("refuse.open.test", [Answer::rcode(REFUSED)]);
    lab.dns.script(
        "silent.open.test",
        [Answer {
            silent: true,
            ..Answer::default()
        }],
    );
    for name in ["none", "empty", "fail", "refuse"] {
        assert_eq!(
            lab.fetch(&format!("{name}.open.test")).line(),
            "HTTP/1.1 502 Failed by sluicegate (dns)",
            "{name}"
        );
    }
    let started = Instant::now();
    assert_eq!(
        lab.fetch("silent.open.test").line(),
        "HTTP/1.1 504 Failed by sluicegate (dns_timeout)"
    );
    assert!(started.elapsed() < Duration::from_secs(8));
}

#[test]
fn d15_a_truncated_answer_is_asked_for_again_over_tcp() {
    let lab = start(|setup| setup);
    lab.dns.script(
        "long.open.test",
        [Answer {
            truncate: true,
            ..Answer::of([LOOPBACK])
        }],
    );
    assert_eq!(lab.status("long.open.test"), 200);
    assert!(lab.dns.questions().iter().any(|one| one.tcp));
}

#[test]
fn d16_d17_spoilt_answers_lead_nowhere() {
    let lab = start(|setup| setup.set("dns.timeout", json!("300ms")));
    for (name, spoil) in [
        ("id", Spoil::Id),
        ("question", Spoil::Question),
        ("port", Spoil::Port),
        ("loop", Spoil::Loop),
    ] {
        lab.dns.script(
            &format!("{name}.open.test"),
            [Answer {
                spoil,
                ..Answer::of([LOOPBACK])
            }],
        );
        assert!([502, 504].contains(&lab.status(&format!("{name}.open.test"))), "{name}");
    }
    // A stranger's record beside the right ones is not an answer to what was asked.
    let stranger = Answer {
        spoil: Spoil::Stranger(LOOPBACK),
        ..Answer::default()
    };
    lab.dns.script("stranger.open.test", [stranger]);
    assert_eq!(lab.status("stranger.open.test"), 502);
    assert_eq!(lab.origin.accepted(), 0);
    // Very many addresses are too many to try, not too many to read.
    let many = Answer {
        truncate: true,
        ..Answer::of(vec![LOOPBACK; 1500])
    };
    lab.dns.script("many.open.test", [many]);
    assert_eq!(lab.status("many.open.test"), 200);
}

#[test]
fn d19_the_cache_is_bounded() {
    let lab = start(|setup| setup.set("dns.cache", json!(16)));
    lab.dns.set("*.open.test", [LOOPBACK]);
    for number in 0..200 {
        assert_eq!(lab.status(&format!("n{number}.open.test")), 200);
    }
    let before = lab.dns.questions().len();
    let asked_again = (0..200).filter(|number| {
        let name = format!("n{number}.open.test");
        let before = lab.dns.asked(&name);
        lab.status(&name);
        lab.dns.asked(&name) > before
    });
    assert!(asked_again.count() > 150, "of 200 names at most 16 are kept");
    assert!(lab.dns.questions().len() > before);
}

/// Fresh names whose servers are silent, all from one client: it alone is turned away.
#[test]
fn d19_one_client_cannot_ask_all_questions() {
    let lab = start(|setup| setup.set("dns.timeout", json!("20s")));
    lab.dns.set("a.open.test", [LOOPBACK]);
    let silent = Answer {
        silent: true,
        ..Answer::default()
    };
    lab.dns.script("*.silent.open.test", [silent]);
    let url = |name: &str| format!("http://{name}:{}/", lab.origin.port());
    let _held: Vec<_> = (0..80)
        .map(|number| {
            let mut client = Client::connect(lab.proxy.address());
            client.get(&url(&format!("n{number}.silent.open.test")));
            client
        })
        .collect();
    let refused = lab.proxy.decision(|record| record.reason() == "limit");
    assert_eq!(refused.text("detail"), "this client waits for too many names at once");
    let hits = lab.proxy.metric("sluicegate_limits_hit_total", &[("limit", "dns")]);
    assert!(hits >= 1, "{hits}");
    let mut other = Client::connect_from(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9)), lab.proxy.address());
    other.get(&url("a.open.test"));
    assert_eq!(other.head().status(), 200);
}

#[test]
fn answers_are_kept_for_their_time_and_asked_for_once() {
    let lab = start(|setup| setup);
    lab.dns.script(
        "slow.open.test",
        [Answer {
            delay: Duration::from_millis(200),
            ..Answer::of([LOOPBACK])
        }],
    );
    std::thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| assert_eq!(lab.status("slow.open.test"), 200));
        }
    });
    assert_eq!(lab.status("slow.open.test"), 200);
    let asked = lab.dns.questions();
    assert_eq!(asked.iter().filter(|one| one.kind == A).count(), 1, "{asked:?}");
}

#[test]
fn d20_d22_denied_names_and_other_record_types_are_never_asked_for() {
    let lab = start(|setup| setup);
    lab.dns.set("in.open.test", [LOOPBACK]);
    for number in 0..100 {
        let (_, answer) = Client::connect_request(lab.proxy.address(), &format!("secret{number}.denied.test:443"));
        assert_eq!(answer.status(), 403);
    }
    assert_eq!(lab.dns.questions(), []);
    assert_eq!(lab.status("in.open.test"), 200);
    let asked = lab.dns.questions();
    assert!(
        asked
            .iter()
            .all(|one| one.name == "in.open.test" && [A, AAAA].contains(&one.kind)),
        "{asked:?}"
    );
}

#[test]
fn d23_a_dead_address_does_not_hold_up_a_live_one() {
    let lab = start(|setup| setup);
    // Nobody listens on the second address; the first is refused by the guard.
    lab.dns.set(
        "pair.open.test",
        [
            "fc00::1".parse::<IpAddr>().unwrap(),
            [127, 9, 9, 9].into(),
            LOOPBACK.into(),
        ],
    );
    let started = Instant::now();
    assert_eq!(lab.status("pair.open.test"), 200);
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
}

#[test]
fn k10_while_all_servers_are_down_old_answers_serve_for_a_time() {
    let change = |setup: Setup| {
        setup
            .set("dns.min_ttl", json!("0s"))
            .set("dns.stale", json!("4s"))
            .set("dns.timeout", json!("200ms"))
    };
    let lab = start(change);
    lab.dns.script(
        "known.open.test",
        [Answer {
            ttl: 1,
            ..Answer::of([LOOPBACK])
        }],
    );
    lab.dns.script(
        "new.open.test",
        [Answer {
            ttl: 1,
            ..Answer::of([LOOPBACK])
        }],
    );
    assert_eq!(lab.status("known.open.test"), 200);
    lab.dns.kill(true);
    let end = Instant::now() + Duration::from_secs(30);
    // Fresh, then stale, then gone: each seen at least once, in this order.
    let (mut stale, mut number) = (false, 1);
    loop {
        let status = lab.status("known.open.test");
        let record = lab.proxy.nth_decision(number);
        number += 1;
        if status == 504 {
            break;
        }
        assert_eq!(status, 200);
        stale |= record.0["stale"] == true;
        assert!(Instant::now() < end, "stale answers never end");
    }
    assert!(stale, "an expired answer served and was marked");
    assert_eq!(lab.status("new.open.test"), 504);
    lab.dns.kill(false);
    for name in ["known.open.test", "new.open.test"] {
        while lab.status(name) != 200 {
            assert!(Instant::now() < end, "{name} never comes back");
        }
    }
}

#[test]
fn servers_stand_in_for_each_other() {
    let (dead, alive) = (Dns::start(), Dns::start());
    dead.kill(true);
    alive.set("in.open.test", [LOOPBACK]);
    let servers = json!([dead.address.to_string(), alive.address.to_string()]);
    let lab = start(|setup| setup.set("dns.servers", servers).set("dns.timeout", json!("300ms")));
    assert_eq!(lab.status("in.open.test"), 200);
    assert!(alive.asked("in.open.test") > 0);
}
