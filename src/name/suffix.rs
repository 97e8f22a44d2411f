//! Public suffixes: below which names the world, or an operator's customers, can get names of their own.
//! Must not judge; a pattern refuses the one kind, a lint warns of the other. Only suffixes of two labels and more.
//! Called by the patterns and by the lints of the policy.

use super::HostName;

/// Who gives out names below a suffix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublicSuffix {
    /// A registry, to anyone: `co.uk`.
    Registry,
    /// An operator, to its customers: `github.io`.
    Operator,
}

impl PublicSuffix {
    /// Whether a name is a public suffix. One label always is, which is for the caller to know.
    pub fn of(name: &HostName) -> Option<Self> {
        Self::of_text(name.as_str())
    }

    /// The same for a name that is part of another, and so in the canonical form.
    pub(crate) fn of_text(name: &str) -> Option<Self> {
        if is_listed(REGISTRIES, name) {
            return Some(Self::Registry);
        }
        is_listed(OPERATORS, name).then_some(Self::Operator)
    }
}

/// Whether a list holds a name: itself, by a wildcard at its place, or as the parent of a wildcard.
fn is_listed(list: &str, name: &str) -> bool {
    let has = |rule: &str| holds_line(list, rule);
    let by_wildcard = || {
        let parent = name.split_once('.').map(|(_, parent)| parent);
        parent.is_some_and(|parent| has(&format!("*.{parent}"))) && !has(&format!("!{name}"))
    };
    has(name) || by_wildcard() || has(&format!("*.{name}"))
}

/// Finds a line by halving: what lies before the middle of the rest is whole lines again. The lists are only asked
/// about wildcards, while a policy loads.
fn holds_line(list: &str, wanted: &str) -> bool {
    let mut rest = list.split_once("\n\n").map_or(list, |(_, lines)| lines);
    while !rest.is_empty() {
        // Lists are ASCII, so every offset lies between two characters.
        let middle = rest.get(..rest.len() / 2).and_then(|half| half.rfind('\n'));
        let start = middle.map_or(0, |newline| newline + 1);
        let (before, from) = rest.split_at(start);
        let (line, after) = from.split_once('\n').unwrap_or((from, ""));
        rest = match wanted.cmp(line) {
            std::cmp::Ordering::Less => before,
            std::cmp::Ordering::Equal => return true,
            std::cmp::Ordering::Greater => after,
        };
    }
    false
}

// The lists are those of the crate `psl`, kept as text: compiled in, that crate is 2.5 MB of code and answers only which
// suffix a name has, where a wildcard also asks what lies below it; `publicsuffix` would have to be given the text as well.
const REGISTRIES: &str = include_str!("../../config/public-suffixes/icann.txt");
const OPERATORS: &str = include_str!("../../config/public-suffixes/private.txt");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffixes_are_told_from_names() {
        use PublicSuffix::{Operator, Registry};
        for (name, kind) in [
            ("co.uk", Some(Registry)),
            ("com.au", Some(Registry)),
            ("sch.uk", Some(Registry)),
            ("anything.ck", Some(Registry)),
            ("www.ck", None),
            ("city.kawasaki.jp", None),
            ("xn--0trq7p7nn.jp", Some(Registry)),
            ("github.io", Some(Operator)),
            ("blob.core.windows.net", Some(Operator)),
            ("azurewebsites.net", Some(Operator)),
            ("core.windows.net", None),
            ("example.com", None),
            ("example.co.uk", None),
            ("cluster.local", None),
            ("windows.net", None),
        ] {
            let parsed = HostName::parse(name.as_bytes()).unwrap();
            assert_eq!(PublicSuffix::of(&parsed), kind, "{name}");
        }
    }

    #[test]
    fn every_line_is_found() {
        for list in [REGISTRIES, OPERATORS] {
            assert!(list.is_ascii());
            let (_, lines) = list.split_once("\n\n").unwrap();
            assert!(lines.lines().count() > 2_000 && lines.lines().is_sorted());
            for line in lines.lines() {
                assert!(holds_line(list, line), "{line}");
                assert!(!holds_line(list, &format!("{line}-")), "{line}");
            }
        }
    }
}
