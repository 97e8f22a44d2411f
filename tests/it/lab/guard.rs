//! The address guard and dialling with real public addresses, which only a namespace can carry.
//! Must not repeat what loopback can show; see `resolve`.
//! Called by `tests/run` as root.

use std::time::{Duration, Instant};

use super::{Lab, SERVER4, SERVER6};
use crate::support::dns::Answer;
use crate::support::proxy::fetch;
use crate::support::setup::Setup;

#[test]
fn d10_d23_public_addresses_are_dialled_and_dead_ones_do_not_hold_up() {
    let lab = Lab::start();
    let setup = Setup::new("allow: [\"http://*.allowed.test\"]\n").dns(&lab.dns);
    lab.gate.run(|| {
        let proxy = setup.start();
        assert_eq!(fetch(proxy.address(), "http://four.allowed.test/").status(), 200);
        assert_eq!(fetch(proxy.address(), "http://six.allowed.test/").status(), 200);
        assert_eq!(proxy.nth_decision(0).text("address"), SERVER4);
        assert_eq!(proxy.nth_decision(1).text("address"), SERVER6);
        // Packets to this address vanish; RFC 8305 waits 250 ms for the first attempt.
        lab.dns.set(
            "half.allowed.test",
            [
                "2606:2800:220:1::dead".parse::<std::net::IpAddr>().unwrap(),
                SERVER4.parse().unwrap(),
            ],
        );
        let started = Instant::now();
        assert_eq!(fetch(proxy.address(), "http://half.allowed.test/").status(), 200);
        assert!(
            started.elapsed() < Duration::from_millis(900),
            "{:?}",
            started.elapsed()
        );
        // Rebinding: a public address first, a private one at the next question.
        let answers = [SERVER4, "10.245.0.2"].map(|address| Answer {
            ttl: 0,
            ..Answer::of([address.parse::<std::net::IpAddr>().unwrap()])
        });
        lab.dns.script("rebind.allowed.test", answers);
        assert_eq!(fetch(proxy.address(), "http://rebind.allowed.test/").status(), 200);
        proxy.stop()
    });
}

#[test]
fn k06_a_destination_that_never_answers_delays_nobody_else() {
    let lab = Lab::start();
    lab.world.ip(&["route", "add", "blackhole", "93.184.217.0/24"]);
    lab.dns.set("hole.allowed.test", [[93, 184, 217, 1]]);
    let setup = Setup::new("allow: [\"http://*.allowed.test\"]\n")
        .dns(&lab.dns)
        .set("timeouts.connect", "2s".into());
    lab.gate.run(|| {
        let proxy = setup.start();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| fetch(proxy.address(), "http://hole.allowed.test/"));
            for _ in 0..50 {
                let started = Instant::now();
                assert_eq!(fetch(proxy.address(), "http://four.allowed.test/").status(), 200);
                assert!(started.elapsed() < Duration::from_secs(1));
            }
            assert_eq!(
                waiting.join().unwrap().line(),
                "HTTP/1.1 504 Failed by sluicegate (connect_timeout)"
            );
        });
    });
}

#[test]
fn d21_the_hosts_file_is_nobodys_answer() {
    let lab = Lab::start();
    lab.gate
        .file("hosts", "127.0.0.1 four.allowed.test\n10.0.0.1 unknown.allowed.test\n");
    lab.gate.file(
        "resolv.conf",
        "nameserver 10.244.0.1\nsearch allowed.test\noptions ndots:5\n",
    );
    // No servers in the settings: those of resolv.conf, but neither its search list nor the hosts file.
    let setup = Setup::new("allow: [\"http://*.allowed.test\", \"http://four.allowed\"]\n")
        .set("dns.servers", serde_json::json!([]))
        .wrapped(&["ip", "netns", "exec", &lab.gate.name]);
    lab.gate.run(|| {
        let proxy = setup.start();
        assert_eq!(fetch(proxy.address(), "http://four.allowed.test/").status(), 200);
        assert_eq!(proxy.nth_decision(0).text("address"), SERVER4);
        assert_eq!(fetch(proxy.address(), "http://unknown.allowed.test/").status(), 502);
        let before = lab.dns.asked("four.allowed.test");
        assert_eq!(fetch(proxy.address(), "http://four.allowed/").status(), 502);
        assert_eq!(lab.dns.asked("four.allowed.test"), before);
        assert_eq!(lab.dns.asked("four.allowed.allowed.test"), 0);
    });
}

#[test]
fn report_mode_opens_the_public_space_and_no_more() {
    let lab = Lab::start();
    let tomorrow = jiff::Timestamp::now()
        .to_zoned(jiff::tz::TimeZone::UTC)
        .date()
        .tomorrow()
        .unwrap();
    let setup = Setup::new(&format!("mode: report\nreport_until: {tomorrow}\nallow: []\n")).dns(&lab.dns);
    lab.dns.set("inside.test", [[10, 245, 0, 2]]);
    lab.gate.run(|| {
        let proxy = setup.start();
        assert_eq!(fetch(proxy.address(), "http://denied.test/").status(), 200);
        let record = proxy.nth_decision(0);
        assert_eq!(
            (record.verdict().as_str(), record.text("would_deny")),
            ("allow report", "no_rule"),
            "{}",
            record.0
        );
        assert_eq!(fetch(proxy.address(), "http://inside.test/").status(), 403);
        assert_eq!(proxy.nth_decision(1).verdict(), "deny forbidden_address");
    });
}
