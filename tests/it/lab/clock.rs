//! What happens when a date passes while the proxy runs: the clock of its process is moved to seconds before midnight.
//! Must not fake the monotonic clock; time-outs stay what they are.
//! Called by `tests/run`, in the ring that has the packages.

use crate::support::client::{Client, Ending};
use crate::support::proxy::{Proxy, fetch};
use crate::support::setup::Setup;
use crate::support::world::Origins;

/// A proxy for which it is a few seconds before the end of 2031.
fn before_midnight(origins: &Origins, policy: &str) -> Proxy {
    Setup::new(policy)
        .dns(&origins.dns)
        .set("reload.grace", "500ms".into())
        .environment("TZ", "UTC")
        // Not by the `faketime` command, which stands between a signal and the process.
        .environment("LD_PRELOAD", "/usr/$LIB/faketime/libfaketimeMT.so.1")
        .environment("FAKETIME", "@2031-12-31 23:59:54")
        .environment("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        .start()
}

#[test]
fn a_rule_ends_with_its_day_and_so_do_its_tunnels() {
    let origins = Origins::start();
    let until = origins
        .policy()
        .replace("name: echo,", "name: echo, until: 2031-12-31,");
    let proxy = before_midnight(&origins, &until);
    let mut client = Client::tunnel(proxy.address(), &origins.echo_target());
    client.send("x");
    assert_eq!(client.read_exact(1), b"x");
    assert_eq!(client.read_to_end(), (Vec::new(), Ending::Reset));
    let decision = proxy.nth_decision(0);
    assert!(
        decision.text("time").starts_with("2031-12-31T23:59:5"),
        "{}",
        decision.0
    );
    assert_eq!(proxy.tunnel(decision.id()).text("end"), "expired");
    let (_, answer) = Client::connect_request(proxy.address(), &origins.echo_target());
    assert_eq!(answer.status(), 403);
    // Time is not a reload: the policy is the same, and the rest of it holds.
    assert_eq!(proxy.generation(), 1);
    assert_eq!(
        fetch(proxy.address(), &origins.url("plain.allowed.test", "/")).status(),
        200
    );
}

#[test]
fn reporting_ends_with_its_day() {
    let origins = Origins::start();
    let report = origins.policy().replace("name: echo,", "name: echo, report: true,");
    let proxy = before_midnight(&origins, &format!("{report}mode: report\nreport_until: 2031-12-31\n"));
    assert_eq!(proxy.metric("sluicegate_mode", &[("mode", "report")]), 1);
    // The rule's own reporting has no end, and its tunnel goes on.
    let mut client = Client::tunnel(proxy.address(), &origins.echo_target());
    client.send("x");
    assert_eq!(client.read_exact(1), b"x");
    proxy.wait_metric("sluicegate_mode", &[("mode", "enforce")], |enforced| enforced == 1);
    let (_, answer) = Client::connect_request(proxy.address(), "other.denied.test:443");
    assert_eq!(answer.line(), "HTTP/1.1 403 Denied by sluicegate (no_rule)");
    client.send("y");
    assert_eq!(client.read_exact(1), b"y");
}
