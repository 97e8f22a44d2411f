//! Names that belong to nobody in particular: suffixes below which any customer gets a name, and hosts that serve every
//! tenant under one name. Must not note anything; it answers.
//! Called by the lints, by the import of foreign rules and by whoever proposes rules.

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::name::{HostName, HostPattern, PublicSuffix};

/// The suffix of a name, or the name itself, below which anyone can get a name: `blob.core.windows.net` for
/// `orders.blob.core.windows.net`. The longest, where there are several.
pub(crate) fn shared_suffix(name: &HostName) -> Option<&str> {
    let whole = std::iter::once(name.as_str());
    let mut longest_first = whole.chain(name.parents()).filter(|suffix| suffix.contains('.'));
    longest_first.find(|suffix| stands(suffix) == Some(Stands::At) || is_operators(suffix))
}

/// The shared suffix that a wildcard opens to every tenant, if it does: it stands directly below one, or holds one.
pub(crate) fn opened_suffix(pattern: &HostPattern) -> Option<&str> {
    match pattern {
        HostPattern::Exact(_) => None,
        HostPattern::Below(suffix) => match stands(suffix.as_str()) {
            Some(Stands::Above(shared)) => Some(shared),
            Some(Stands::At) => Some(suffix.as_str()),
            None => is_operators(suffix.as_str()).then_some(suffix.as_str()),
        },
        // Its star stands for one label, so names further below are not in it.
        HostPattern::Label(label) => {
            let suffix = label.suffix.as_str();
            let shared = stands(suffix) == Some(Stands::At) || is_operators(suffix);
            shared.then_some(suffix)
        }
    }
}

/// The sign-in host in a pattern that serves every tenant alike: whoever may reach it can be any tenant's user, and its
/// name says nothing about whose.
pub(crate) fn any_tenant(pattern: &HostPattern) -> Option<&'static str> {
    let holds = |host: &&str| match pattern {
        HostPattern::Exact(name) => name.as_str() == *host,
        HostPattern::Below(suffix) => host
            .strip_suffix(suffix.as_str())
            .is_some_and(|rest| rest.ends_with('.')),
        HostPattern::Label(label) => host
            .split_once('.')
            .filter(|(_, suffix)| *suffix == label.suffix.as_str())
            .and_then(|(first, _)| first.strip_prefix(&*label.before))
            .is_some_and(|rest| rest.ends_with(&*label.after)),
    };
    SIGN_IN.iter().copied().find(holds)
}

/// Where a suffix stands towards the shared ones of [`CLOUDS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stands {
    /// It is one.
    At,
    /// It holds this one.
    Above(&'static str),
}

fn stands(suffix: &str) -> Option<Stands> {
    let nearby = CLOUDS.get(last_two(suffix))?;
    let mut above = None;
    for shared in nearby {
        let fits = |(own, known): (&str, &str)| known == "*" || known == own;
        let labels = (suffix.split('.').count(), shared.split('.').count());
        if labels.0 > labels.1 || !suffix.rsplit('.').zip(shared.rsplit('.')).all(fits) {
            continue;
        }
        if labels.0 == labels.1 {
            return Some(Stands::At);
        }
        above = above.or(Some(Stands::Above(shared)));
    }
    above
}

fn is_operators(suffix: &str) -> bool {
    PublicSuffix::of_text(suffix) == Some(PublicSuffix::Operator)
}

fn last_two(name: &str) -> &str {
    let mut dots = name.rmatch_indices('.').map(|(at, _)| at + 1);
    dots.nth(1).and_then(|start| name.get(start..)).unwrap_or(name)
}

/// The shared suffixes by their last two labels.
static CLOUDS: LazyLock<HashMap<&str, Vec<&str>>> = LazyLock::new(|| {
    let lines = FILE.lines().filter(|line| !line.starts_with('#'));
    let mut clouds: HashMap<_, Vec<_>> = HashMap::new();
    for shared in lines.flat_map(str::split_whitespace) {
        clouds.entry(last_two(shared)).or_default().push(shared);
    }
    clouds
});

const FILE: &str = include_str!("../../../config/public-suffixes/clouds.txt");
/// Microsoft's, in its public, Chinese and US Government clouds.
const SIGN_IN: &[&str] = &[
    "login.microsoftonline.com",
    "login.microsoft.com",
    "login.windows.net",
    "sts.windows.net",
    "login.chinacloudapi.cn",
    "login.microsoftonline.cn",
    "login.partner.microsoftonline.cn",
    "login.microsoftonline.us",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_know_the_suffix_that_they_share() {
        for (name, suffix) in [
            ("orders.blob.core.windows.net", Some("blob.core.windows.net")),
            ("a.orders.blob.core.windows.net", Some("blob.core.windows.net")),
            ("blob.core.windows.net", Some("blob.core.windows.net")),
            ("core.windows.net", None),
            ("orders.z6.web.core.windows.net", Some("z6.web.core.windows.net")),
            (
                "app.westeurope.cloudapp.azure.com",
                Some("westeurope.cloudapp.azure.com"),
            ),
            ("a.hcp.westeurope.azmk8s.io", Some("hcp.westeurope.azmk8s.io")),
            (
                "a.hcp.chinaeast2.cx.prod.service.azk8s.cn",
                Some("hcp.chinaeast2.cx.prod.service.azk8s.cn"),
            ),
            ("mirror.azk8s.cn", None),
            ("orders.blob.core.chinacloudapi.cn", Some("blob.core.chinacloudapi.cn")),
            ("kv.vault.usgovcloudapi.net", Some("vault.usgovcloudapi.net")),
            ("someone.github.io", Some("github.io")),
            ("someone.pages.gay", Some("pages.gay")),
            ("api.github.com", None),
            ("www.example.co.uk", None),
            ("localhost", None),
            ("management.azure.com", None),
            ("login.microsoftonline.com", None),
            ("mcr.microsoft.com", None),
        ] {
            let parsed = HostName::parse(name.as_bytes()).unwrap();
            assert_eq!(shared_suffix(&parsed), suffix, "{name}");
        }
    }

    #[test]
    fn wildcards_know_what_they_open() {
        for (pattern, suffix) in [
            ("*.blob.core.windows.net", Some("blob.core.windows.net")),
            ("*.orders.blob.core.windows.net", None),
            ("orders*.blob.core.windows.net", Some("blob.core.windows.net")),
            ("orders*.core.windows.net", None),
            ("*.core.windows.net", Some("blob.core.windows.net")),
            ("*.usgovcloudapi.net", Some("blob.core.usgovcloudapi.net")),
            ("*.westeurope.azmk8s.io", Some("*.*.azmk8s.io")),
            ("*.hcp.westeurope.azmk8s.io", Some("hcp.westeurope.azmk8s.io")),
            ("*.mine.hcp.westeurope.azmk8s.io", None),
            ("*.azk8s.cn", Some("hcp.*.cx.prod.service.azk8s.cn")),
            ("*.github.io", Some("github.io")),
            ("*.data.mcr.microsoft.com", None),
            ("*.example.com", None),
            ("blob.core.windows.net", None),
        ] {
            assert_eq!(
                opened_suffix(&HostPattern::parse(pattern).unwrap()),
                suffix,
                "{pattern}"
            );
        }
    }

    #[test]
    fn sign_in_is_anyones() {
        for (pattern, host) in [
            ("login.microsoftonline.com", Some("login.microsoftonline.com")),
            ("*.microsoftonline.com", Some("login.microsoftonline.com")),
            ("log*.microsoftonline.us", Some("login.microsoftonline.us")),
            ("*.login.microsoftonline.com", None),
            ("graph.microsoft.com", None),
        ] {
            assert_eq!(any_tenant(&HostPattern::parse(pattern).unwrap()), host, "{pattern}");
        }
    }

    /// Each is a name as patterns spell them, written once, and in no list of names that one company keeps to itself.
    #[test]
    fn the_file_is_well_formed() {
        let mut seen = std::collections::HashSet::new();
        for shared in CLOUDS.values().flatten() {
            assert!(HostName::parse(shared.replace('*', "x").as_bytes()).is_ok(), "{shared}");
            assert!(seen.insert(shared), "{shared} stands twice");
            assert!(!last_two(shared).contains('*'), "{shared}");
        }
        assert!(seen.len() > 250, "{}", seen.len());
    }
}
