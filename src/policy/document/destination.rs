//! `[scheme://]host[:port]`, with names, wildcards, addresses and port ranges: the destinations of rules.
//! Must not default silently: what a missing scheme or port means depends on the kind of rule, and is decided here.
//! Called by the readers of allow and deny rules, of `expect` and of presets.

mod split;

use std::ops::{Range, RangeInclusive};

use split::{Parts, Written, split};

use super::address;
use crate::name::{Host, HostName, HostPattern, Port};
use crate::policy::problem::{At, Place, Problems};
use crate::policy::rule::{Destination, HostMatch, Scheme};
use crate::policy::yaml::{Node, typed};

/// Where a destination stands, because that decides what it means to leave something out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// No scheme is `https`; no port is the scheme's.
    Allow,
    /// There is no scheme, because a name is closed whatever is spoken; no port is every port.
    Deny,
}

/// Why text is not a destination, which part of it is meant, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadDestination {
    pub part: Range<usize>,
    pub why: String,
    pub help: String,
}

/// Reads the destination of a rule.
pub fn parse(text: &str, role: Role) -> Result<Destination, BadDestination> {
    let written = split(text, role)?;
    let scheme = match (written.scheme, role) {
        (Some(_), Role::Deny) => return Err(refuse_scheme(&written)),
        (None, Role::Deny) => None,
        (None | Some(Written::Https | Written::Tls), Role::Allow) => Some(Scheme::Tls),
        (Some(Written::Http), Role::Allow) => Some(Scheme::Http),
        (Some(Written::Tcp), Role::Allow) => Some(Scheme::Tcp),
    };
    let host = host_match(&written, role)?;
    if role == Role::Allow && matches!(host, HostMatch::Cidr(_)) {
        refuse_address(&written)?;
    }
    let ports = match (&written.port, role) {
        (Some((at, ports)), _) => port_range(ports, at)?,
        (None, Role::Deny) => 1..=u16::MAX,
        (None, Role::Allow) => default_port(&written)?,
    };
    Ok(Destination { scheme, host, ports })
}

/// Reads one exact destination, as `expect` asks for: a name or an address, and one port.
pub fn parse_exact(text: &str) -> Result<(Scheme, Host, Port), BadDestination> {
    let written = split(text, Role::Allow)?;
    let whole = |why: String, help: &str| BadDestination {
        part: written.host_at.clone(),
        why,
        help: help.to_owned(),
    };
    let host = match host_match(&written, Role::Allow)? {
        HostMatch::Name(HostPattern::Exact(name)) => Host::Name(name),
        HostMatch::Name(pattern) => {
            let why = format!("`{pattern}` stands for many names, and a test asks for one");
            return Err(whole(why, "write one of the names that it matches"));
        }
        HostMatch::Cidr(network) if network.prefix_len() == network.max_prefix_len() => Host::Address(network.addr()),
        HostMatch::Cidr(network) => {
            let why = format!("`{network}` stands for many addresses, and a test asks for one");
            return Err(whole(why, "write one address of it"));
        }
    };
    let (at, ports) = match &written.port {
        Some((at, ports)) => (at.clone(), port_range(ports, at)?),
        None => (written.host_at.clone(), default_port(&written)?),
    };
    let port = Port::new(*ports.start()).filter(|_| ports.start() == ports.end());
    let port = port.ok_or(BadDestination {
        part: at,
        why: "a test asks for one port".to_owned(),
        help: "write one port of the range".to_owned(),
    })?;
    let scheme = match written.scheme {
        None | Some(Written::Https | Written::Tls) => Scheme::Tls,
        Some(Written::Http) => Scheme::Http,
        Some(Written::Tcp) => Scheme::Tcp,
    };
    Ok((scheme, host, port))
}

/// Reads a node with [`parse`] or [`parse_exact`] and notes what is wrong with it.
pub(super) fn read<T>(
    node: &Node<'_>,
    parse: impl FnOnce(&str) -> Result<T, BadDestination>,
    problems: &mut Problems<'_>,
) -> Option<At<T>> {
    let text = typed::raw(node, "a destination", problems)?;
    match parse(&text) {
        Ok(value) => Some(At { value, at: node.at }),
        Err(bad) => {
            let quoted = quoted(problems.quote(node.at), &text, &bad);
            let at = if quoted.is_some() {
                node.at
            } else {
                part_of(node.at, &text, bad.part, problems)
            };
            problems.error(at, bad.why).help(quoted.unwrap_or(bad.help));
            None
        }
    }
}

/// Advice for a text without quotes that needs them when it is followed, with what to write in place of the whole text.
fn quoted(written: &str, text: &str, bad: &BadDestination) -> Option<String> {
    if written != text {
        return None;
    }
    let (before, after) = (&text[..bad.part.start], &text[bad.part.end..]);
    let mut needed = false;
    let pieces = bad.help.split('`').enumerate().map(|(place, piece)| {
        let whole = format!("{before}{piece}{after}");
        // Outside of the backticks are words.
        if place % 2 == 0 {
            return piece.to_owned();
        }
        let special = whole.starts_with('*') || whole.contains(['[', ']', '{', '}', ',']);
        needed |= special;
        if special { format!("\"{whole}\"") } else { whole }
    });
    let help = pieces.collect::<Vec<_>>().join("`");
    needed.then_some(help)
}

/// A name where only a name may stand, such as `cluster.api_server`.
pub(super) fn exact_name(node: &Node<'_>, what: &str, problems: &mut Problems<'_>) -> Option<At<HostName>> {
    let text = typed::text(node, what, problems)?;
    let bare = text.split_once("://").map_or(text, |(_, rest)| rest);
    let bare = bare.split(['/', ':']).next().unwrap_or_default();
    let (why, help) = match HostPattern::parse(text) {
        Ok(HostPattern::Exact(value)) => return Some(At { value, at: node.at }),
        Ok(_) => ("it is a wildcard".to_owned(), "write one name".to_owned()),
        Err(_) if bare != text && HostPattern::parse(bare).is_ok() => (
            "it is more than a name".to_owned(),
            format!("write `{bare}`, the name alone"),
        ),
        Err(bad) => (bad.why, bad.help),
    };
    problems
        .error(node.at, format!("{what} must be a host name: {why}"))
        .help(help);
    None
}

/// A deny rule for one scheme would be gone round with another: in a `tcp` tunnel nobody sees what is spoken.
fn refuse_scheme(written: &Parts<'_>) -> BadDestination {
    let rest = written.text.split_once("://").map_or(written.text, |(_, rest)| rest);
    let port = match written.scheme {
        Some(Written::Http) => 80,
        _ => 443,
    };
    let help = if_readable(rest, Role::Deny, |rest| match written.port {
        Some(_) => format!("write `{rest}`"),
        None => format!("write `{rest}` for every port, or `{rest}:{port}` for one"),
    });
    BadDestination {
        part: 0..written.text.len(),
        why: NO_SCHEME.to_owned(),
        help,
    }
}

fn host_match(written: &Parts<'_>, role: Role) -> Result<HostMatch, BadDestination> {
    let bad = |why, help| BadDestination {
        part: written.host_at.clone(),
        why,
        help,
    };
    match address::network(written.host) {
        Some(Ok(network)) => Ok(HostMatch::Cidr(network)),
        // IPv4 instead of the IPv6 form has no brackets either.
        Some(Err(address)) if address.meant.is_some() => Err(BadDestination {
            part: written.host_at.start.saturating_sub(1)..written.host_at.end + 1,
            ..bad(address.why, address.help)
        }),
        Some(Err(address)) => Err(bad(address.why, address.help)),
        None => HostPattern::parse(written.host)
            .map(HostMatch::Name)
            .map_err(|pattern| {
                if role == Role::Deny && pattern.too_wide {
                    let why = format!("`{}` is too wide to be denied as a whole", written.host);
                    return bad(why, NOTHING_TO_DENY.to_owned());
                }
                bad(pattern.why, pattern.help)
            }),
    }
}

/// An address shows no name, so `https` and `http` have nothing to compare.
fn refuse_address(written: &Parts<'_>) -> Result<(), BadDestination> {
    if matches!(written.scheme, Some(Written::Tcp | Written::Tls)) {
        return Ok(());
    }
    let host = if written.host.contains(':') {
        format!("[{}]", written.host)
    } else {
        written.host.to_owned()
    };
    let port = written.port.as_ref().map_or("443", |(_, port)| port);
    Err(BadDestination {
        part: 0..written.text.len(),
        why: "an address stands where a name is needed".to_owned(),
        help: if_readable(&format!("tcp://{host}:{port}"), Role::Allow, |text| {
            format!("write `{text}` if the address itself is meant, and else the name")
        }),
    })
}

fn default_port(written: &Parts<'_>) -> Result<RangeInclusive<u16>, BadDestination> {
    match written.scheme {
        None | Some(Written::Https) => Ok(443..=443),
        Some(Written::Http) => Ok(80..=80),
        Some(Written::Tls | Written::Tcp) => Err(BadDestination {
            part: 0..written.text.len(),
            why: "the port is missing".to_owned(),
            help: if_readable(&format!("{}:443", written.text), Role::Allow, |text| {
                format!("`tls` and `tcp` have no port of their own: write `{text}` or another port")
            }),
        }),
    }
}

fn port_range(text: &str, at: &Range<usize>) -> Result<RangeInclusive<u16>, BadDestination> {
    let port = |text: &str| Port::parse(text.as_bytes()).ok().map(Port::number);
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    if let (Some(first), Some(last)) = (port(first), port(last))
        && first <= last
    {
        return Ok(first..=last);
    }
    let help = match (
        text,
        port(first.trim_start_matches('0')),
        port(last.trim_start_matches('0')),
    ) {
        ("*", ..) => "for every port write `1-65535`".to_owned(),
        (_, Some(first), Some(last)) if first == last => format!("write `{first}`, without leading zeros"),
        (_, Some(first), Some(last)) => format!("write `{}-{}`", first.min(last), first.max(last)),
        _ if text.contains(',') => "give each port an entry of its own; a range is `11000-11999`".to_owned(),
        _ => "a port is a number from 1 to 65535, a range is `11000-11999`".to_owned(),
    };
    Err(BadDestination {
        part: at.clone(),
        why: format!("`{text}` is not a port"),
        help,
    })
}

/// Advice with a destination in it, if it can be read: who follows advice must not be refused again.
fn if_readable(text: &str, role: Role, help: impl FnOnce(&str) -> String) -> String {
    let host = text.find("://").map_or(0, |scheme| scheme + 3);
    let path = text
        .get(host..)
        .and_then(|rest| rest.find('/'))
        .map_or(text.len(), |slash| host + slash);
    match [text, &text[..path]].into_iter().find(|text| parse(text, role).is_ok()) {
        Some(readable) => help(readable),
        None => match role {
            Role::Allow => "a destination is written `https://api.example.com` or `tcp://api.example.com:1433`",
            Role::Deny => "a destination to deny is written `api.example.com` or `api.example.com:443`",
        }
        .to_owned(),
    }
}

/// Where a part of a scalar's text stands, if the file spells it as it reads; else where the scalar stands.
fn part_of(at: Place, text: &str, part: Range<usize>, problems: &Problems<'_>) -> Place {
    let written = problems.quote(at);
    let skipped = match written.find(text) {
        Some(skipped) if skipped <= 1 => skipped,
        _ => return at,
    };
    let shift = |offset: usize| at.start + u32::try_from(skipped + offset).unwrap_or(0);
    Place {
        file: at.file,
        start: shift(part.start),
        end: shift(part.end),
    }
}

const NO_SCHEME: &str = "a deny rule has no scheme: it closes the name whatever is spoken";
const NOTHING_TO_DENY: &str =
    "remove the line: no allow rule can name all of it, and what none names is denied already";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_depends_on_the_rule() {
        for (text, allow) in [
            ("api.example.com", "tls api.example.com 443-443"),
            ("api.example.com:8443", "tls api.example.com 8443-8443"),
            ("https://api.example.com", "tls api.example.com 443-443"),
            ("HTTP://api.example.com", "http api.example.com 80-80"),
            ("http://api.example.com:8080", "http api.example.com 8080-8080"),
            ("tls://*.example.com:5671", "tls *.example.com 5671-5671"),
            ("tcp://a.example.com:11000-11999", "tcp a.example.com 11000-11999"),
            ("tcp://10.0.0.0/8:443", "tcp 10.0.0.0/8 443-443"),
            ("tcp://10.1.2.3:443", "tcp 10.1.2.3 443-443"),
            ("tcp://[2001:db8::/32]:443", "tcp [2001:db8::/32] 443-443"),
            ("tls://[2001:db8::1]:443", "tls [2001:db8::1] 443-443"),
        ] {
            assert_eq!(shown(&parse(text, Role::Allow).unwrap()), allow, "{text}");
        }
        for (text, deny) in [
            ("api.example.com", "any api.example.com 1-65535"),
            ("*.example.com:8443", "any *.example.com 8443-8443"),
            ("a.example.com:1-1024", "any a.example.com 1-1024"),
            ("10.0.0.0/8", "any 10.0.0.0/8 1-65535"),
            ("10.0.0.1:25", "any 10.0.0.1 25-25"),
            ("2001:db8::/32", "any [2001:db8::/32] 1-65535"),
            ("[2001:db8::1]:25", "any [2001:db8::1] 25-25"),
        ] {
            assert_eq!(shown(&parse(text, Role::Deny).unwrap()), deny, "{text}");
        }
        for text in ["10.0.0.0/8", "10.0.0.1:25", "2001:db8::/32"] {
            assert!(parse(text, Role::Allow).is_err(), "{text}");
        }
        assert!(
            parse("http://a.example.com", Role::Deny)
                .unwrap_err()
                .help
                .contains("`a.example.com:80`")
        );
    }

    #[test]
    fn the_part_that_is_wrong_is_pointed_at() {
        for (text, part) in [
            ("udp://a.example.com:53", "udp://a.example.com:53"),
            ("htps://a.example.com", "htps"),
            ("https://*.com:443", "*.com"),
            ("a.example.com:0443", "0443"),
            ("a.example.com:443/v1", "a.example.com:443/v1"),
            ("https://[a.example.com]:443", "a.example.com"),
            ("tcp://[::1]443", "443"),
            ("tcp://::1:443", "::1:443"),
            ("https://10.0.0.1:443", "https://10.0.0.1:443"),
            ("tcp://a.example.com", "tcp://a.example.com"),
            ("", ""),
            ("://", ""),
            (":443", ""),
        ] {
            let bad = parse(text, Role::Allow).unwrap_err();
            assert_eq!(&text[bad.part.clone()], part, "{text}: {bad:?}");
            assert!(!bad.help.is_empty(), "{text}");
        }
    }

    #[test]
    fn a_test_asks_for_one_thing() {
        let (scheme, host, port) = parse_exact("https://api.example.com").unwrap();
        assert_eq!(
            (scheme, host.to_string(), port),
            (Scheme::Tls, "api.example.com".to_owned(), Port::HTTPS)
        );
        let (_, host, _) = parse_exact("https://[2001:db8::1]").unwrap();
        assert_eq!(host, Host::Address("2001:db8::1".parse().unwrap()));
        for text in [
            "*.example.com",
            "a*.example.com",
            "10.0.0.0/8",
            "a.example.com:1-2",
            "tcp://a.example.com",
        ] {
            assert!(parse_exact(text).is_err(), "{text}");
        }
    }

    fn shown(destination: &Destination) -> String {
        let scheme = destination.scheme.map_or("any", Scheme::as_str);
        let (first, last) = (destination.ports.start(), destination.ports.end());
        format!("{scheme} {} {first}-{last}", destination.host)
    }
}
