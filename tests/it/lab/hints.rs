//! A reload where the kernel gives no inotify instance, as on nodes where others have used them up.
//! Must not use up the host's own; the limit is that of a user namespace made for the proxy.
//! Called by `tests/run` as root.

use std::time::{Duration, Instant};

use crate::support::setup::Setup;

#[test]
fn without_hints_the_policy_is_still_in_force_within_a_second() {
    let limit = "echo 0 >/proc/sys/user/max_inotify_instances && exec \"$0\" \"$@\"";
    let proxy = Setup::new("allow: []\n")
        .wrapped(&["unshare", "--user", "--map-root-user", "sh", "-c", limit])
        .start();
    proxy.expect_log("the kernel does not say when the policy files change");
    let started = Instant::now();
    proxy.reload("allow: [a.example.test]\n");
    assert!(
        started.elapsed() < Duration::from_millis(1500),
        "{:?}",
        started.elapsed()
    );
    proxy.reload("allow: [b.example.test]\n");
    let said = |line: &&String| line.contains("the kernel does not say");
    assert_eq!(
        proxy.log.with(|lines| lines.iter().filter(said).count()),
        1,
        "said once"
    );
}
