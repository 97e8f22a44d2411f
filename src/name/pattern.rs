//! What a policy may write where a name stands: an exact name, `*.suffix`, or `label*.suffix`.
//! Must not accept what another product would read differently; refusals carry the right spelling.
//! Called by the policy compiler and the settings; matching itself is the policy index.

use std::borrow::Cow;
use std::fmt;

use thiserror::Error;

use super::host::{BadHost, HostName};
use super::suffix::PublicSuffix;

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
    /// Every pattern in it can be read.
    pub help: String,
    /// Whether it is well written, and holds more than any one owner's names.
    pub too_wide: bool,
}

impl HostPattern {
    /// Reads a name or wildcard as a policy file spells it. Names outside ASCII become A-labels here, and only here:
    /// files are written by people, wires are not.
    pub fn parse(text: &str) -> Result<Self, BadPattern> {
        refuse_other_syntax(text)?;
        let Some(star) = text.find('*') else {
            return name("", text).map(Self::Exact);
        };
        if text == "*" {
            return Err(too_wide(
                "`*` would allow every name",
                "write out the names that are needed; to learn them first, use `mode: report`",
            ));
        }
        if text.contains("**") {
            let help = if_readable(&collapse(text), |pattern| {
                format!("one `*.` already stands for one or more labels: write `{pattern}`")
            });
            return bad("`**` is not a wildcard", help);
        }
        let (first, suffix) = text.split_once('.').unwrap_or((text, ""));
        if suffix.contains('*') {
            return Err(star_outside_first_label(first, suffix));
        }
        if star == 0 && first != "*" {
            let rest = text.trim_start_matches('*');
            let help = if rest.starts_with(['-', '_']) {
                if_readable(&format!("name*{rest}"), |pattern| {
                    format!("a `*` inside a label needs at least one character before it: write `{pattern}`")
                })
            } else {
                below_and_itself(rest)
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
        let suffix = name(&format!("{first}."), suffix)?;
        if PublicSuffix::of(&suffix) == Some(PublicSuffix::Registry) {
            return Err(too_wide(
                format!("`{first}.{suffix}` would match names that anyone can register under `.{suffix}`"),
                own_label(first, suffix.as_str()),
            ));
        }
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
            if_readable(&format!("{before}*.{suffix}"), |pattern| {
                format!("one `*` may stand inside the leftmost label: write `{pattern}`")
            }),
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
    let help = if_readable(&format!("*.{below}"), |pattern| {
        format!("write `{pattern}` for any labels before it, or write out the names")
    });
    let why = if first == "*" && suffix.starts_with("*.") {
        "one `*.` already stands for one or more labels"
    } else {
        "a `*` may only stand in the leftmost label"
    };
    BadPattern {
        why: why.to_owned(),
        help,
        too_wide: false,
    }
}

fn suffix_too_short(first: &str, suffix: &str) -> BadPattern {
    if suffix.is_empty() {
        let help = if_readable(&format!("{first}.example.com"), |pattern| {
            format!("a wildcard needs the domain it stays in: write `{pattern}`")
        });
        return BadPattern {
            why: format!("`{first}` has nothing after the `*`"),
            help,
            too_wide: false,
        };
    }
    too_wide(
        format!("`{first}.{suffix}` would match names that anyone can register under `.{suffix}`"),
        own_label(first, suffix),
    )
}

fn own_label(first: &str, suffix: &str) -> String {
    if_readable(&format!("{first}.example.{suffix}"), |pattern| {
        format!("keep the label that its owner registered: write `{pattern}`")
    })
}

/// For what seems to mean a domain with all that is below it.
fn below_and_itself(domain: &str) -> String {
    if_readable(&format!("*.{domain}"), |pattern| {
        format!("write `{pattern}` for the names below it, and `{domain}` for the name itself")
    })
}

/// Advice with a pattern in it, if the pattern can be read: who follows advice must not be refused again.
fn if_readable(pattern: &str, help: impl FnOnce(&str) -> String) -> String {
    match HostPattern::parse(pattern) {
        Ok(_) => help(pattern),
        Err(_) => "write out the names that are needed".to_owned(),
    }
}

/// What other tools would read as something else, each with the spelling that is meant here.
fn refuse_other_syntax(text: &str) -> Result<(), BadPattern> {
    if text.is_empty() {
        return bad("the name is empty", "write a name such as `api.example.com`");
    }
    if let Some(rest) = text.strip_prefix('.') {
        return bad("a name does not start with a dot", below_and_itself(rest));
    }
    let Some(odd) = text
        .chars()
        .find(|c| c.is_ascii() && !is_label_char(*c) && !matches!(c, '.' | '*'))
    else {
        return Ok(());
    };
    let (why, help): (Cow<'static, str>, &str) = match odd {
        '/' => {
            let (alone, _) = text.split_once('/').unwrap_or((text, ""));
            let help = if_readable(alone, |name| {
                format!("write `{name}`: what happens inside TLS cannot be seen")
            });
            return bad("paths are not matched, only names and ports", help);
        }
        '@' => {
            let (_, alone) = text.rsplit_once('@').unwrap_or(("", text));
            let help = if_readable(alone, |name| format!("write `{name}`, the name alone"));
            return bad("user information (`@`) is not accepted", help);
        }
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

/// Reads a name; `before` is what stands before it in the pattern.
fn name(before: &str, text: &str) -> Result<HostName, BadPattern> {
    let ascii = if text.is_ascii() {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(a_labels(before, text)?)
    };
    HostName::parse(ascii.as_bytes()).map_err(|why| BadPattern {
        help: match why {
            BadHost::EmptyLabel => "remove the extra dot".to_owned(),
            BadHost::Numeric => "write a name; an address is written as four decimal numbers".to_owned(),
            _ => "write a name such as `api.example.com`".to_owned(),
        },
        why: why.to_string().replacen("the host", "the name", 1),
        too_wide: false,
    })
}

/// IDNA (UTS 46), but without its mappings: a name that only works after removing invisible characters or folding
/// look-alikes is not the name that its author sees.
fn a_labels(before: &str, text: &str) -> Result<String, BadPattern> {
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
            if_readable(&format!("{before}{ascii}"), |pattern| {
                format!("if this is what you mean, write `{pattern}`")
            }),
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
        too_wide: false,
    })
}

fn too_wide(why: impl Into<String>, help: impl Into<String>) -> BadPattern {
    BadPattern {
        why: why.into(),
        help: help.into(),
        too_wide: true,
    }
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
            ("*.*", "write out the names"),
            ("*.com", "`*.example.com`"),
            ("foo*.com", "`foo*.example.com`"),
            ("foo*", "`foo*.example.com`"),
            ("example.*", "write out the names"),
            ("*example.com", "`*.example.com`"),
            ("*-dev.example.com", "`name*-dev.example.com`"),
            ("a.*.com", "write out the names"),
            ("*.*.com", "write out the names"),
            ("*a", "write out the names"),
            (".a", "write out the names"),
            ("*-dev.com", "write out the names"),
            ("**.com", "write out the names"),
            ("*.**.co.uk", "write out the names"),
            ("a*b*.com", "write out the names"),
            ("*.co.uk", "`*.example.co.uk`"),
            ("*.com.au.", "`*.example.com.au`"),
            ("a*.co.uk", "`a*.example.co.uk`"),
            ("*.foo.ck", "`*.example.foo.ck`"),
            ("*.exam\u{ad}ple.com", "`*.example.com`"),
            ("a.*.example.com", "`*.example.com`"),
            ("*.*.example.com", "`*.example.com`"),
            ("a*b*.example.com", "`a*.example.com`"),
            ("*a*.example.com", "write out the names"),
            ("**.example.com", "`*.example.com`"),
            (".example.com", "`*.example.com`"),
            ("^api\\.example\\.com$", "`*.example.com`"),
            ("api?.example.com", "`*.example.com`"),
            ("[ab].example.com", "`*.example.com`"),
            ("{a,b}.example.com", "`*.example.com`"),
            ("api.example.com/v1", "`api.example.com`"),
            ("a.com b.com", "item of its own"),
            ("a.com,b.com", "item of its own"),
            ("user@a.com", "name alone"),
            ("a..com", "extra dot"),
            ("", "api.example.com"),
            ("10.0.0.1", "four decimal"),
            ("127.1", "four decimal"),
            ("exam\u{ad}ple.com", "`example.com`"),
            ("ａpi.example.com", "`api.example.com`"),
            ("bü*.example.com", "ASCII"),
        ];
        for (text, help) in refused {
            let bad = HostPattern::parse(text).unwrap_err();
            assert!(bad.help.contains(help), "{text}: {bad:?}");
            for pattern in bad
                .help
                .split('`')
                .skip(1)
                .step_by(2)
                .filter(|part| part.contains('.') && *part != "*.")
            {
                let plain = pattern.trim_start_matches('.');
                assert!(HostPattern::parse(plain).is_ok(), "{text}: {bad:?} does not help");
            }
        }
    }
}
