//! What is said to someone who starts sluicegate without any file: what is allowed, what was left out, what to try.
//! Must not run anything; it is text.
//! Called by `run`.

use std::fmt::Write as _;

use crate::app::Listening;
use crate::policy::{Policy, builtin};

/// A few lines about the built-in policy.
pub(super) fn welcome(policy: &Policy, listening: &[Listening]) -> String {
    let destinations = policy.rules().iter().flat_map(|rule| &rule.to).map(ToString::to_string);
    let destinations: Vec<_> = destinations.collect();
    let (_, left_out) = builtin();
    let mut out = String::new();
    let _ = writeln!(
        out,
        "\nNo policy file was named, so the built-in policy is in force. Clients on this machine, and nobody else, reach:"
    );
    for destination in &destinations {
        let _ = writeln!(out, "  {destination}");
    }
    if !left_out.is_empty() {
        out.push_str("Left out, because they need facts of a cluster:\n");
        for row in left_out {
            let _ = writeln!(out, "  {row}");
        }
    }
    if let Some(proxy) = listening.iter().find(|socket| socket.mode == "explicit") {
        let proxy = proxy.address;
        let _ = write!(
            out,
            "Try:\n  curl -x http://{proxy} https://mcr.microsoft.com/v2/   # allowed\
             \n  curl -x http://{proxy} https://example.com/            # refused: a 403 that says why\
             \n  sluicegate explain https://example.com                     # which line would allow it\
             \nThen write a policy.yaml as in README.md; it is read from this directory, or from --policy PATH.\n"
        );
    }
    out
}
