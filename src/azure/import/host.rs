//! Target names of application rules to patterns of ours: what `*` means there and here.
//! Must not widen: what our patterns cannot say exactly is narrowed or left out, with its kind.
//! Called for each target name.

use std::net::IpAddr;

use ipnet::IpNet;

use super::Lossy;
use crate::azure::json::shortened;
use crate::azure::model::Placed;
use crate::azure::report::Kind;
use crate::name::HostPattern;

/// The patterns that a target name comes to. None: it is not carried over, or was refused; both were noted.
pub(super) fn patterns(name: &Placed<String>, lossy: &mut Lossy<'_>) -> Vec<HostPattern> {
    let text = name.value.as_str();
    if text.parse::<IpAddr>().is_ok() || text.parse::<IpNet>().is_ok() {
        let message = format!("`{text}` is an address where a name stands, and what that means is not documented");
        lossy
            .lost(Kind::IpLiteral, &name.at, message, "not carried over")
            .help("an address is named by a network rule");
        return Vec::new();
    }
    if let Some(why) = foreign(text) {
        lossy
            .report
            .note(
                Kind::BadValue,
                &name.at,
                format!("`{}` is not a target name: {}", shortened(text), why.0),
            )
            .help(why.1);
        return Vec::new();
    }
    if text == "*" {
        let message = "`*` is every name".to_owned();
        lossy
            .lost(Kind::AnyName, &name.at, message, "not carried over")
            .help("write out the names that are needed; to learn them first, use `mode: report`");
        return Vec::new();
    }
    match text.strip_prefix('*') {
        Some(rest) if !rest.starts_with('.') => star_without_dot(rest, name, lossy),
        _ => one(text, name, lossy).into_iter().collect(),
    }
}

/// `*x` holds `x`, what is below it, and whatever merely ends so: the last is what nobody wants.
fn star_without_dot(rest: &str, name: &Placed<String>, lossy: &mut Lossy<'_>) -> Vec<HostPattern> {
    let text = &name.value;
    let below = match HostPattern::parse(&format!("*.{rest}")) {
        Err(bad) if bad.too_wide => {
            too_wide(name, &bad.why, lossy);
            return Vec::new();
        }
        read => read.ok(),
    };
    let itself = HostPattern::parse(rest).ok();
    let (Some(itself), Some(below), false) = (itself, below, rest.starts_with(['-', '_'])) else {
        let message = format!("`{text}` also matches whatever merely ends so");
        lossy
            .lost(
                Kind::StarWithoutDot,
                &name.at,
                message,
                "not carried over: no pattern here can say a part of it",
            )
            .help("write out the names that are needed");
        return Vec::new();
    };
    let message = format!("`{text}` also matches names that merely end so, such as `evil{itself}`");
    let outcome = format!("narrowed to `{itself}` and `{below}`");
    lossy.lost(Kind::StarWithoutDot, &name.at, message, &outcome);
    vec![itself, below]
}

fn one(text: &str, name: &Placed<String>, lossy: &mut Lossy<'_>) -> Option<HostPattern> {
    match HostPattern::parse(text) {
        Ok(pattern) => {
            let canonical = pattern.to_string();
            if canonical != text {
                lossy.report.note(
                    Kind::Normalised,
                    &name.at,
                    format!("`{text}` is written `{canonical}` here"),
                );
            }
            Some(pattern)
        }
        Err(bad) if bad.too_wide => {
            too_wide(name, &bad.why, lossy);
            None
        }
        Err(bad) => {
            lossy
                .report
                .note(
                    Kind::BadValue,
                    &name.at,
                    format!("`{}` is not a target name: {}", shortened(text), bad.why),
                )
                .help(bad.help);
            None
        }
    }
}

fn too_wide(name: &Placed<String>, why: &str, lossy: &mut Lossy<'_>) {
    lossy
        .lost(Kind::AnyName, &name.at, why.to_owned(), "not carried over")
        .help("write out the names that are needed; to learn them first, use `mode: report`");
}

/// What Azure would not take as a target name, and what to do about it.
fn foreign(text: &str) -> Option<(&'static str, &'static str)> {
    let bare = "write the name alone; ports and protocols stand in `protocols`";
    if text.is_empty() {
        Some(("it is empty", "remove it"))
    } else if text.trim() != text || text.contains(char::is_whitespace) {
        Some(("it holds a space", "remove the space, or make two names of it"))
    } else if text.contains("://") {
        Some(("it begins with a scheme", bare))
    } else if text.contains('/') {
        Some(("it holds a path", bare))
    } else if text.contains(':') {
        Some(("it holds a colon", bare))
    } else if text.contains([',', ';']) {
        Some(("it holds several names", "make an item of each"))
    } else if text.starts_with('.') {
        Some((
            "it begins with a dot",
            "for all names below a domain write `*.example.com`",
        ))
    } else if !text.is_ascii() {
        Some((
            "it holds letters outside ASCII, and what Azure compares them with is not documented",
            "write the A-label that clients send, `xn--...`",
        ))
    } else if text.matches('*').count() > 1 || text.find('*').is_some_and(|at| at > 0) {
        Some((
            "Azure takes a `*` only as the first character",
            "write out the names that are needed",
        ))
    } else if text.ends_with("..") {
        Some(("it ends with two dots", "remove them"))
    } else {
        None
    }
}
