//! Small syntaxes that are not ours: Kubernetes names, labels and quantities, dates, one line of text.
//! Must not know which key holds them; readers pass what the thing is called.
//! Called by the readers of the document.

use std::sync::Arc;

use jiff::civil::Date;

use crate::policy::problem::{At, Problems};
use crate::policy::yaml::{Node, typed};

/// One line of text: an owner, a reason, the name of a rule. It ends up in logs and in answers to clients.
pub(in crate::policy) fn line<'n>(node: &'n Node<'_>, what: &str, problems: &mut Problems<'_>) -> Option<&'n str> {
    let text = typed::text(node, what, problems)?;
    if text.chars().any(char::is_control) {
        problems
            .error(node.at, format!("{what} must be one line without control characters"))
            .help("write it as one line");
        return None;
    }
    if text.len() > MAX_LINE {
        problems
            .error(node.at, format!("{what} is longer than {MAX_LINE} bytes"))
            .help("it ends up in logs and in answers to clients; shorten it");
        return None;
    }
    Some(text)
}

/// A name of a namespace, a Service or a workload (RFC 1123 label).
pub(super) fn dns_label(node: &Node<'_>, what: &str, problems: &mut Problems<'_>) -> Option<Arc<str>> {
    let text = typed::raw(node, what, problems)?;
    if is_dns_label(&text) {
        // A number has to stand in quotes all the same.
        return typed::text(node, what, problems).map(Into::into);
    }
    let near = near_label(&text);
    let rule = "1 to 63 lower-case letters, digits and `-`, beginning and ending with a letter or digit (RFC 1123)";
    problems
        .error(node.at, format!("{what} cannot be `{text}`"))
        .help(if is_dns_label(&near) {
            format!("write `{near}`: {rule}")
        } else {
            format!("a name has {rule}")
        });
    None
}

/// `key: value` of a Kubernetes label.
pub(super) fn label(key: &Node<'_>, value: &Node<'_>, problems: &mut Problems<'_>) -> Option<(String, String)> {
    let name = typed::text(key, "a label", problems)?;
    if !is_label_key(name) {
        problems
            .error(key.at, format!("`{name}` is not a label key"))
            .help("`name` or `example.com/name`: at most 63 letters, digits, `-`, `_`, `.` after the slash");
        return None;
    }
    let text = typed::text(value, &format!("the label `{name}`"), problems)?;
    if !is_label_value(text) {
        problems
            .error(value.at, format!("`{text}` is not a label value"))
            .help("at most 63 letters, digits, `-`, `_`, `.`, beginning and ending with a letter or digit");
        return None;
    }
    Some((name.to_owned(), text.to_owned()))
}

/// An amount as Kubernetes writes it: `2`, `500m`, `1.5Gi`.
pub(super) fn quantity(node: &Node<'_>, what: &str, problems: &mut Problems<'_>) -> Option<String> {
    let text = match &node.value {
        crate::policy::yaml::Value::Int(_) | crate::policy::yaml::Value::Number => problems.quote(node.at).to_owned(),
        _ => typed::text(node, what, problems)?.to_owned(),
    };
    if is_quantity(&text) {
        return Some(text);
    }
    problems
        .error(node.at, format!("{what} cannot be `{text}`"))
        .help("a Kubernetes quantity: a number, with `m`, `k`, `M`, `G`, `Ki`, `Mi`, `Gi` or the like behind it");
    None
}

/// `YYYY-MM-DD`.
pub(crate) fn date(node: &Node<'_>, what: &str, problems: &mut Problems<'_>) -> Option<At<Date>> {
    let text = typed::raw(node, what, problems)?;
    let shaped = text.len() == 10 && text.bytes().filter(|byte| *byte == b'-').count() == 2;
    match text.parse() {
        Ok(value) if shaped => Some(At { value, at: node.at }),
        _ => {
            problems
                .error(node.at, format!("{what} cannot be `{text}`"))
                .help(match day_meant(&text) {
                    Some(day) => format!("write `{day}`; it holds to the end of that day, UTC"),
                    None => "write a day that exists as YYYY-MM-DD; it holds to the end of that day, UTC".to_owned(),
                });
            None
        }
    }
}

/// The day in other notations, where there is only one way to read them.
fn day_meant(text: &str) -> Option<Date> {
    let numbers: Vec<&str> = text
        .split(|c: char| !c.is_ascii_digit())
        .filter(|part| !part.is_empty())
        .collect();
    let (year, month, day) = match numbers.as_slice() {
        [all] if all.len() == 8 => (&all[..4], &all[4..6], &all[6..]),
        [year, month, day, ..] if year.len() == 4 => (*year, *month, *day),
        [first, second, year] if year.len() == 4 => {
            let could_be_month = |text: &str| text.parse().is_ok_and(|number: u8| number <= 12);
            match (could_be_month(first), could_be_month(second)) {
                (false, true) => (*year, *second, *first),
                (true, false) => (*year, *first, *second),
                _ => return None,
            }
        }
        _ => return None,
    };
    Date::new(year.parse().ok()?, month.parse().ok()?, day.parse().ok()?).ok()
}

/// The label that was probably meant, if it is one.
pub(crate) fn near_label(text: &str) -> String {
    let near = text
        .to_ascii_lowercase()
        .replace(|c: char| !c.is_ascii_alphanumeric(), "-");
    near.trim_matches('-').to_owned()
}

pub(crate) fn is_dns_label(text: &str) -> bool {
    let edge = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    text.len() <= 63
        && edge(text.bytes().next())
        && edge(text.bytes().last())
        && text.bytes().all(|byte| byte == b'-' || edge(Some(byte)))
}

pub(super) fn is_label_key(text: &str) -> bool {
    let (prefix, name) = text
        .split_once('/')
        .map_or((None, text), |(prefix, name)| (Some(prefix), name));
    let prefix_fits = prefix.is_none_or(|prefix| prefix.len() <= 253 && prefix.split('.').all(is_dns_label));
    prefix_fits && !name.is_empty() && is_label_value(name)
}

fn is_label_value(text: &str) -> bool {
    let edge = |byte: Option<u8>| byte.is_none_or(|byte| byte.is_ascii_alphanumeric());
    text.len() <= 63
        && edge(text.bytes().next())
        && edge(text.bytes().last())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

fn is_quantity(text: &str) -> bool {
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let number_fits = number.bytes().any(|byte| byte.is_ascii_digit()) && number.matches('.').count() <= 1;
    let exponent = || {
        let digits = suffix.strip_prefix(['e', 'E']).unwrap_or_default();
        let digits = digits.strip_prefix(['+', '-']).unwrap_or(digits);
        !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
    };
    number_fits && (SUFFIXES.contains(&suffix) || exponent())
}

const SUFFIXES: &[&str] = &[
    "", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei",
];
const MAX_LINE: usize = 500;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_notations_of_a_day() {
        for (text, day) in [
            ("20261231", Some("2026-12-31")),
            ("2026/12/31", Some("2026-12-31")),
            ("2026-1-2", Some("2026-01-02")),
            ("2026-12-31T00:00:00Z", Some("2026-12-31")),
            ("31.12.2026", Some("2026-12-31")),
            ("12/31/2026", Some("2026-12-31")),
            ("1/2/2026", None),
            ("2026-02-30", None),
            ("2026", None),
            ("tomorrow", None),
        ] {
            assert_eq!(day_meant(text).map(|day| day.to_string()).as_deref(), day, "{text}");
        }
    }

    #[test]
    fn kubernetes_syntax() {
        assert!(is_dns_label("a") && is_dns_label("a-1") && is_dns_label(&"a".repeat(63)));
        assert!(!is_dns_label("") && !is_dns_label("-a") && !is_dns_label("a.b") && !is_dns_label(&"a".repeat(64)));
        assert!(is_label_key("app") && is_label_key("app.kubernetes.io/name") && is_label_key("A_b.c"));
        assert!(!is_label_key("/name") && !is_label_key("a/b/c") && !is_label_key("-a") && !is_label_key("a/"));
        for good in ["1", "500m", "1.5Gi", "2e3", "1E-3", ".5", "1E"] {
            assert!(is_quantity(good), "{good}");
        }
        for bad in ["", "m", "1.2.3", "-1", "1gi", "1e", "1 Gi"] {
            assert!(!is_quantity(bad), "{bad}");
        }
    }
}
