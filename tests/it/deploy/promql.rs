//! `PromQL` as far as names go: the series that an expression selects, with their matchers, and the labels it groups by.
//! Must not skip what it does not know: a word that is neither known nor a series fails the test.
//! Called by the test of alerts and dashboard; whether types fit is promtool's to say.

use std::iter::Peekable;
use std::str::Chars;

/// What an expression names.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Named {
    pub series: Vec<Series>,
    /// In `by`, `without`, `on`, `ignoring` and `group_left`.
    pub groups: Vec<String>,
    /// Labels that the expression itself makes (`count_values`).
    pub made: Vec<String>,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Series {
    pub name: String,
    /// Label, operator, value.
    pub matchers: Vec<(String, String, String)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    Text(String),
    /// A number or a duration.
    Number,
    Sign(String),
}

/// Panics, with the expression, at what is no `PromQL` that we use.
pub fn read(expression: &str) -> Named {
    let tokens = tokens(expression);
    let mut rest = tokens.as_slice();
    let mut named = Named::default();
    while let [token, after @ ..] = rest {
        rest = after;
        match token {
            Token::Word(word) if GROUPING.contains(&word.as_str()) => {
                let (labels, after) = enclosed(rest, "(", ")").unwrap_or((&[], rest));
                named.groups.extend(labels.iter().filter_map(Token::word));
                rest = after;
            }
            Token::Word(word) if KEYWORDS.contains(&word.as_str()) => {}
            Token::Word(word) if FUNCTIONS.contains(&word.as_str()) => {
                let grouped = rest
                    .first()
                    .and_then(Token::word)
                    .is_some_and(|next| GROUPING.contains(&&*next));
                assert!(
                    grouped || rest.first() == Some(&Token::sign("(")),
                    "{word} without arguments in {expression}"
                );
            }
            Token::Word(word) => {
                assert_ne!(
                    rest.first(),
                    Some(&Token::sign("(")),
                    "{word} is no function: {expression}"
                );
                let (inner, after) = enclosed(rest, "{", "}").unwrap_or((&[], rest));
                let matchers = inner
                    .split(|token| *token == Token::sign(","))
                    .filter(|part| !part.is_empty());
                let matchers = matchers.map(|part| match part {
                    [Token::Word(label), Token::Sign(operator), Token::Text(value)] => {
                        (label.clone(), operator.clone(), value.clone())
                    }
                    other => panic!("{other:?} is no matcher: {expression}"),
                });
                named.series.push(Series {
                    name: word.clone(),
                    matchers: matchers.collect(),
                });
                rest = after;
            }
            Token::Text(text) => named.made.push(text.clone()),
            Token::Sign(sign) => assert_ne!(sign, "{", "a selector without a name: {expression}"),
            Token::Number => {}
        }
    }
    assert!(!named.series.is_empty(), "it selects nothing: {expression}");
    named
}

impl Token {
    fn sign(text: &str) -> Self {
        Self::Sign(text.to_owned())
    }

    fn word(&self) -> Option<String> {
        match self {
            Self::Word(word) => Some(word.clone()),
            _ => None,
        }
    }
}

/// What stands between two signs, and what follows them.
fn enclosed<'t>(tokens: &'t [Token], open: &str, close: &str) -> Option<(&'t [Token], &'t [Token])> {
    let inner = tokens.strip_prefix(&[Token::sign(open)])?;
    let end = inner.iter().position(|token| *token == Token::sign(close))?;
    Some((&inner[..end], &inner[end + 1..]))
}

fn tokens(expression: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = expression.chars().peekable();
    while let Some(first) = rest.next() {
        tokens.push(match first {
            ' ' | '\n' => continue,
            '"' => Token::Text(take_text(&mut rest)),
            'a'..='z' | 'A'..='Z' | '_' => Token::Word(take(first, &mut rest, |next| {
                next.is_ascii_alphanumeric() || next == '_'
            })),
            '0'..='9' => {
                take(first, &mut rest, |next| next.is_ascii_alphanumeric() || next == '.');
                Token::Number
            }
            '=' | '!' | '<' | '>' => Token::Sign(take(first, &mut rest, |next| matches!(next, '=' | '~'))),
            '(' | ')' | '{' | '}' | '[' | ']' | ',' | '+' | '-' | '*' | '/' => Token::Sign(first.to_string()),
            other => panic!("{other:?} in {expression}"),
        });
    }
    tokens
}

fn take(first: char, rest: &mut Peekable<Chars<'_>>, belongs: impl Fn(char) -> bool) -> String {
    let mut taken = String::from(first);
    while let Some(next) = rest.next_if(|next| belongs(*next)) {
        taken.push(next);
    }
    taken
}

fn take_text(rest: &mut Peekable<Chars<'_>>) -> String {
    let text = rest.by_ref().take_while(|next| *next != '"').collect::<String>();
    assert!(!text.contains('\\'), "escapes are not read: {text}");
    text
}

const GROUPING: &[&str] = &["by", "without", "on", "ignoring", "group_left", "group_right"];
const KEYWORDS: &[&str] = &["and", "or", "unless", "offset", "bool"];
const FUNCTIONS: &[&str] = &[
    "absent",
    "changes",
    "count",
    "count_values",
    "histogram_quantile",
    "increase",
    "max",
    "min",
    "rate",
    "sum",
    "time",
    "topk",
];

#[test]
fn names_are_found_wherever_they_stand() {
    let named = read(
        r#"max(count_values by (ns) ("fp", a_b{x="1", y=~"b|c"})) > 3 * 86400 and on (pod) rate(up[5m] offset 1h) - time()"#,
    );
    let found: Vec<_> = named.series.iter().map(|series| &*series.name).collect();
    assert_eq!(found, ["a_b", "up"]);
    let text = |word: &str| word.to_owned();
    assert_eq!(
        named.series[0].matchers,
        [(text("x"), text("="), text("1")), (text("y"), text("=~"), text("b|c"))]
    );
    assert_eq!(
        (named.groups, named.made),
        (vec![text("ns"), text("pod")], vec![text("fp")])
    );
    for wrong in ["rat(up[5m])", r#"{x="1"}"#, "time()", "up{x}", "sum"] {
        assert!(std::panic::catch_unwind(|| read(wrong)).is_err(), "{wrong}");
    }
}
