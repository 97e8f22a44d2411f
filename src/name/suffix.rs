//! Public suffixes: below which names the world, or an operator's customers, can get names of their own.
//! Must not judge; a pattern refuses the one kind, a lint warns of the other. Only suffixes of two labels and more.
//! Called by the patterns and by the lints of the policy.

use std::sync::LazyLock;

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
        if REGISTRIES.lists(name) {
            return Some(Self::Registry);
        }
        OPERATORS.lists(name).then_some(Self::Operator)
    }
}

/// The rules of one file, ascending.
struct List {
    text: &'static str,
    /// Where each line begins. Kept, because every wildcard of a policy asks several times; offsets, because the lines
    /// themselves would take four times as much.
    starts: Vec<u32>,
}

impl List {
    fn of(text: &'static str) -> Self {
        let text = text.split_once("\n\n").map_or(text, |(_, lines)| lines);
        let text = text.trim_end();
        let mut starts = vec![0];
        starts.extend(
            text.match_indices('\n')
                .filter_map(|(at, _)| u32::try_from(at + 1).ok()),
        );
        Self { text, starts }
    }

    /// Whether it holds a name: itself, by a wildcard at its place, or as the parent of a wildcard.
    fn lists(&self, name: &str) -> bool {
        let by_wildcard = || {
            let parent = name.split_once('.').map(|(_, parent)| parent);
            parent.is_some_and(|parent| self.has(&["*.", parent])) && !self.has(&["!", name])
        };
        self.has(&[name]) || by_wildcard() || self.has(&["*.", name])
    }

    /// Whether a line consists of these parts.
    fn has(&self, parts: &[&str]) -> bool {
        let wanted = || parts.iter().flat_map(|part| part.bytes());
        let line = |start: u32| {
            let rest = self.text.as_bytes().get(start as usize..).unwrap_or_default();
            rest.iter().copied().take_while(|byte| *byte != b'\n')
        };
        self.starts.binary_search_by(|start| line(*start).cmp(wanted())).is_ok()
    }
}

// The lists are those of the crate `psl`, kept as text: compiled in, that crate is 2.5 MB of code and answers only which
// suffix a name has, where a wildcard also asks what lies below it; `publicsuffix` would have to be given the text as well.
static REGISTRIES: LazyLock<List> = LazyLock::new(|| List::of(include_str!("../../config/public-suffixes/icann.txt")));
static OPERATORS: LazyLock<List> = LazyLock::new(|| List::of(include_str!("../../config/public-suffixes/private.txt")));

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
        for list in [&REGISTRIES, &OPERATORS] {
            let lines = || list.text.lines();
            assert!(list.text.is_ascii());
            assert!(lines().count() > 2_000 && lines().is_sorted());
            for line in lines() {
                assert!(list.has(&[line]), "{line}");
                let (first, rest) = line.split_at(1);
                assert!(list.has(&[first, rest]), "{line}");
                assert!(!list.has(&[line, "-"]), "{line}");
            }
            assert!(!list.has(&[""]));
        }
    }
}
