//! The policy of a process that was given none: the rows of `aks/core` that need no facts, for loopback.
//! Must not open anything to another host, and says what it leaves out.
//! Called by the first load where no file was named, and by the words of welcome.

use std::sync::Arc;

use super::{Facts, Unfilled, expand::With, preset};
use crate::policy::document::{Cloud, Cluster};
use crate::policy::lint::any_tenant;
use crate::policy::problem::SourceText;
use crate::policy::rule::HostMatch;

/// The built-in policy as a file. The second is what was left out, a line for each.
pub fn builtin() -> (SourceText, Vec<String>) {
    let mut text = String::from("# The built-in policy: what AKS nodes need, for clients on this host only.\nallow:\n");
    let mut left_out = Vec::new();
    let Some(core) = preset(CORE) else {
        left_out.push(format!("{CORE}: unreadable"));
        return (named("allow: []\n".to_owned()), left_out);
    };
    let (cluster, with) = (Cluster::default(), With::new());
    let facts = Facts {
        cluster: &cluster,
        with: &with,
    };
    for row in core.rows_for(Cloud::default()) {
        let label = format!("{CORE}: {}", row.id);
        match (row.expand(&facts), &row.network) {
            (Some(Ok(expanded)), _) => {
                let to = expanded.to;
                text.push_str("  - name: \"");
                text.push_str(&label);
                text.push_str("\"\n    from: [127.0.0.0/8, \"::1\"]\n    to: [\"");
                text.push_str(&to.to_string());
                text.push_str("\"]\n");
                if matches!(&to.host, HostMatch::Name(pattern) if any_tenant(pattern).is_some()) {
                    text.push_str("    accept:\n      any-tenant: for clients on this host alone\n");
                }
            }
            (Some(Err(Unfilled::Missing(missing))), _) => {
                let to = row.to.as_deref().unwrap_or_default();
                left_out.push(format!(
                    "{label} ({to}): needs `cluster.{}` in a policy file",
                    missing.key
                ));
            }
            (Some(Err(Unfilled::Bad(bad))), _) => left_out.push(format!("{label}: {}", bad.why)),
            (None, Some(network)) => left_out.push(format!("{label} ({network}): no proxy can carry it")),
            (None, None) => {}
        }
    }
    (named(text), left_out)
}

fn named(text: String) -> SourceText {
    SourceText {
        name: Arc::from("built-in policy"),
        text: text.into(),
    }
}

const CORE: &str = "aks/core";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_policy_says_what_it_leaves_out() {
        let (source, left_out) = builtin();
        assert!(
            source.text.contains("mcr.microsoft.com") && !source.text.contains('{'),
            "{}",
            source.text
        );
        assert!(
            left_out.iter().any(|line| line.contains("cluster.api_server")),
            "{left_out:?}"
        );
        assert!(left_out.iter().any(|line| line.contains("UDP 123")), "{left_out:?}");
    }
}
