//! What a policy may write where a name stands: an exact name, `*.suffix`, or `label*.suffix`.
//! Must not accept what another product would read differently; refusals carry the right spelling.
//! Called by the policy compiler and the settings; matching itself is the policy index.

use std::borrow::Cow;
use std::fmt;

use thiserror::Error;

use super::host::{BadHost, HostName};

/// A pattern over host names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HostPattern {
    /// This name and no other.
    Exact(HostName),
    /// `*.suffix`: one or more whole labels before it; never the suffix itself.
    Below(HostName),
    /// `before*after.suffix`. Boxed because it is rare, and a policy holds a hundred thousand patterns.
    Label(Box<LabelPattern>),
}

/// Exactly one label before the suffix, which begins and ends as written and may have anything, or nothing, between.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LabelPattern {
    /// At least one byte.
    pub before: Box<str>,
    pub after: Box<str>,
    pub suffix: HostName,
}

/// Why text is not a pattern, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{why}")]
pub struct BadPattern {
    pub why: String,
    pub help: String,
}

impl HostPattern {
    /// Reads a name or wildcard as a policy file spells it. Names outside ASCII become A-labels here, and only here:
    /// files are written by people, wires are not.
    pub fn parse(text: &str) -> Result<Self, BadPattern> {
        refuse_other_syntax(text)?;
        let Some(star) = text.find('*') else {
            return name(text).map(Self::Exact);
        };
        if text == "*" {
            return bad(
                "`*` would allow every name",
                "write the names that are needed; to learn them first, use `mode: report`",
            );
        }
        if text.contains("**") {
            return bad(
                "`**` is not a wildcard",
                format!("one `*.` already stands for one or more labels: `{}`", collapse(text)),
            );
        }
        let (first, suffix) = text.split_once('.').unwrap_or((text, ""));
        if suffix.contains('*') {
            return Err(star_outside_first_label(first, suffix));
        }
        if star == 0 && first != "*" {
            let rest = text.trim_start_matches('*');
            let help = if rest.starts_with(['-', '_']) {
                format!("a `*` inside a label needs at least one character before it: `name*{rest}`")
            } else {
                format!("write `*.{rest}` for the names below it, and `{rest}` for the name itself")
            };
            return bad(
                format!("`{text}` would also match names that merely end so, such as `evil{rest}`"),
                help,
            );
        }
        let suffix = suffix.strip_suffix('.').unwrap_or(suffix);
        if !suffix.contains('.') {
            return Err(suffix_too_short(first, suffix));
        }
        let suffix = name(suffix)?;
        if first == "*" {
            return Ok(Self::Below(suffix));
        }
        label_pattern(first, suffix)
    }
}

fn label_pattern(first: &str, suffix: HostName) -> Result<HostPattern, BadPattern> {
    let (before, after) = first.split_once('*').unwrap_or((first, ""));
    if after.contains('*') {
        return bad(
            format!("`{first}` has more than one `*`"),
            format!("one `*` may stand inside the leftmost label: `{before}*.{suffix}`"),
        );
    }
    if let Some(odd) = first.chars().find(|c| !is_label_char(*c) && *c != '*') {
        return bad(
            format!("{odd:?} cannot stand beside a `*` in a label"),
            "only ASCII letters, digits, `-` and `_` may",
        );
    }
    // One byte is left for the star: a label has at most 63.
    if first.len() > 63 {
        return bad("a label is longer than 63 bytes", "no such name can exist");
    }
    Ok(HostPattern::Label(Box::new(LabelPattern {
        before: before.to_ascii_lowercase().into(),
        after: after.to_ascii_lowercase().into(),
        suffix,
    })))
}

fn star_outside_first_label(first: &str, suffix: &str) -> BadPattern {
    let below = suffix.rsplit('*').next().unwrap_or_default().trim_start_matches('.');
    let help = match below {
        "" => "write out the names that are needed".to_owned(),
        below => format!("`*.{below}` stands for any labels before `.{below}`, or write out the names"),
    };
    let why = if first == "*" && suffix.starts_with("*.") {
        "one `*.` already stands for one or more labels"
    } else {
        "a `*` may only stand in the leftmost label"
    };
    BadPattern {
        why: why.to_owned(),
        help,
    }
}

fn suffix_too_short(first: &str, suffix: &str) -> BadPattern {
    if suffix.is_empty() {
        return BadPattern {
            why: format!("`{first}` has nothing after the `*`"),
            help: format!("a wildcard needs the domain it stays in: `{first}.example.com`"),
        };
    }
    BadPattern {
        why: format!("`{first}.{suffix}` would match names that anyone can register under `.{suffix}`"),
        help: format!("keep at least two labels after the wildcard: `{first}.example.{suffix}`"),
    }
}

/// What other tools would read as something else, each with the spelling that is meant here.
fn refuse_other_syntax(text: &str) -> Result<(), BadPattern> {
    if text.is_empty() {
        return bad("the name is empty", "write a name such as `api.example.com`");
    }
    if let Some(rest) = text.strip_prefix('.') {
        return bad(
            "a name does not start with a dot",
            format!("write `*.{rest}` for the names below it, and `{rest}` for the name itself"),
        );
    }
    let Some(odd) = text
        .chars()
        .find(|c| c.is_ascii() && !is_label_char(*c) && !matches!(c, '.' | '*'))
    else {
        return Ok(());
    };
    let (why, help): (Cow<'static, str>, &str) = match odd {
        '/' => (
            "paths are not matched, only names and ports".into(),
            "end the name before the `/`; what happens inside TLS cannot be seen",
        ),
        '@' => ("user information (`@`) is not accepted".into(), "write the name alone"),
        ' ' | ',' | ';' | '\t' | '\n' => (
            "this holds more than one name".into(),
            "give each name an item of its own in the list",
        ),
        '?' | '[' | ']' | '{' | '}' | '(' | ')' | '|' | '^' | '$' | '\\' | '+' | '!' => (
            format!("`{odd}` is not a wildcard here, and expressions are not supported").into(),
            "the wildcards are `*.example.com` (any labels) and `name*.example.com` (any part of the first label)",
        ),
        _ => (
            format!("{odd:?} cannot stand in a name").into(),
            "only letters, digits, `-`, `_` and dots may",
        ),
    };
    bad(why, help)
}

fn name(text: &str) -> Result<HostName, BadPattern> {
    let ascii = if text.is_ascii() {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(a_labels(text)?)
    };
    HostName::parse(ascii.as_bytes()).map_err(|why| BadPattern {
        help: match why {
            BadHost::EmptyLabel => "remove the extra dot".to_owned(),
            BadHost::Numeric => "an address stands behind `tcp://` or `tls://`, as four decimal numbers".to_owned(),
            _ => "write a name such as `api.example.com`".to_owned(),
        },
        why: why.to_string().replacen("the host", "the name", 1),
    })
}

/// IDNA (UTS 46), but without its mappings: a name that only works after removing invisible characters or folding
/// look-alikes is not the name that its author sees.
fn a_labels(text: &str) -> Result<String, BadPattern> {
    let Ok(ascii) = idna::domain_to_ascii_cow(text.as_bytes(), idna::AsciiDenyList::URL) else {
        return bad(
            "this is not a valid internationalized name",
            "write the name as DNS knows it (`xn--...`)",
        );
    };
    let (shown, _) = idna::domain_to_unicode(&ascii);
    if shown != text.to_lowercase() {
        return bad(
            "the name holds characters that are replaced or removed before DNS sees it",
            format!("if this is what you mean, write `{ascii}`"),
        );
    }
    Ok(ascii.into_owned())
}

/// `**.a.b`, `*.**.a.b` and the like, as they were probably meant.
fn collapse(text: &str) -> String {
    let rest = text.rsplit('*').next().unwrap_or_default().trim_start_matches('.');
    format!("*.{}", if rest.is_empty() { "example.com" } else { rest })
}

fn bad<T>(why: impl Into<String>, help: impl Into<String>) -> Result<T, BadPattern> {
    Err(BadPattern {
        why: why.into(),
        help: help.into(),
    })
}

fn is_label_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_')
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => name.fmt(f),
            Self::Below(suffix) => write!(f, "*.{suffix}"),
            Self::Label(label) => write!(f, "{}*{}.{}", label.before, label.after, label.suffix),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_kinds() {
        let kinds = [
            ("API.Example.com.", "api.example.com"),
            ("*.Example.com", "*.example.com"),
            ("*.example.com.", "*.example.com"),
            (
                "eus2azreplstore*.blob.core.windows.net",
                "eus2azreplstore*.blob.core.windows.net",
            ),
            ("A*Z.example.com", "a*z.example.com"),
            ("_svc.example.com", "_svc.example.com"),
            ("bücher.example", "xn--bcher-kva.example"),
            ("*.BÜCHER.example", "*.xn--bcher-kva.example"),
            ("localhost", "localhost"),
        ];
        for (text, canonical) in kinds {
            assert_eq!(HostPattern::parse(text).unwrap().to_string(), canonical, "{text}");
        }
        assert!(matches!(HostPattern::parse("a*.b.c"), Ok(HostPattern::Label(_))));
        assert!(matches!(HostPattern::parse("*.b.c"), Ok(HostPattern::Below(_))));
    }

    /// J05, and the spellings of peers: each refusal says what to write.
    #[test]
    fn refusals_carry_the_spelling() {
        let refused = [
            ("*", "mode: report"),
            ("*.*", "`*`"),
            ("*.com", "`*.example.com`"),
            ("foo*.com", "`foo*.example.com`"),
            ("foo*", "`foo*.example.com`"),
            ("example.*", "write out the names"),
            ("*example.com", "`*.example.com`"),
            ("*-dev.example.com", "`name*-dev.example.com`"),
            ("a.*.com", "`*.com`"),
            ("a.*.example.com", "`*.example.com`"),
            ("*.*.example.com", "`*.example.com`"),
            ("a*b*.example.com", "`a*.example.com`"),
            ("**.example.com", "`*.example.com`"),
            (".example.com", "`*.example.com`"),
            ("^api\\.example\\.com$", "`*.example.com`"),
            ("api?.example.com", "`*.example.com`"),
            ("[ab].example.com", "`*.example.com`"),
            ("{a,b}.example.com", "`*.example.com`"),
            ("api.example.com/v1", "before the `/`"),
            ("a.com b.com", "item of its own"),
            ("a.com,b.com", "item of its own"),
            ("user@a.com", "name alone"),
            ("a..com", "extra dot"),
            ("", "api.example.com"),
            ("10.0.0.1", "tcp://"),
            ("127.1", "tcp://"),
            ("exam\u{ad}ple.com", "`example.com`"),
            ("ａpi.example.com", "`api.example.com`"),
            ("bü*.example.com", "ASCII"),
        ];
        for (text, help) in refused {
            let bad = HostPattern::parse(text).unwrap_err();
            assert!(bad.help.contains(help) || bad.why.contains(help), "{text}: {bad:?}");
        }
    }
}
