//! What the process may do by itself: its user, its capabilities.
//! Must not look anywhere but into its own /proc entry, and says nothing outside of a pod.
//! Called by one probe.

use std::{env, fs};

use super::{Came, untried};
use crate::kubernetes::judge::Outcome;

/// Denied is good: it has neither root nor capabilities.
pub(super) fn look() -> Came {
    if env::var_os("KUBERNETES_SERVICE_HOST").is_none() {
        return untried("this is no pod");
    }
    match fs::read_to_string(STATUS) {
        Ok(status) => judge(&status),
        Err(error) => untried(format!("{STATUS}: {error}")),
    }
}

fn judge(status: &str) -> Came {
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        Some(line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    };
    let (Some(users), Some(capabilities)) = (field("Uid:"), field("CapEff:")) else {
        return untried(format!("{STATUS} cannot be read"));
    };
    let (user, capabilities) = (users.join("/"), capabilities.concat());
    let root = users.is_empty() || users.iter().any(|user| user == "0");
    let any = capabilities.is_empty() || capabilities.bytes().any(|digit| digit != b'0');
    let detail = format!("user {user}, capabilities {capabilities}");
    if root || any {
        (Outcome::Answered, detail)
    } else {
        (Outcome::Denied, detail)
    }
}

const STATUS: &str = "/proc/self/status";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_and_capabilities_are_seen() {
        for (users, capabilities, expected) in [
            ("65532\t65532\t65532\t65532", "0000000000000000", Outcome::Denied),
            ("0\t0\t0\t0", "0000000000000000", Outcome::Answered),
            ("65532\t0\t0\t0", "0000000000000000", Outcome::Answered),
            ("65532\t65532\t65532\t65532", "0000000000000400", Outcome::Answered),
        ] {
            let status = format!("Name:\tx\nUid:\t{users}\nGid:\t0\t0\t0\t0\nCapEff:\t{capabilities}\n");
            assert_eq!(judge(&status).0, expected, "{status}");
        }
        assert_eq!(judge("Name:\tx\n").0, Outcome::Untried);
    }
}
