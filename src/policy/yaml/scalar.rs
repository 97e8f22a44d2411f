//! What a plain scalar is: text, a number, a flag or nothing, by the core schema of YAML 1.2.
//! Must not coerce: `yes` is text and `0443` is no integer, because other readers see something else in them.
//! Called by the reader of a file.

use std::borrow::Cow;

use serde_saphyr::granit_parser::ScalarStyle;

use super::Value;

/// A scalar's type by the YAML 1.2 core schema; quoted ones are text.
pub(super) fn scalar(text: Cow<'_, str>, style: ScalarStyle) -> Value<'_> {
    if style != ScalarStyle::Plain {
        return Value::Text(text);
    }
    let could_be_more = text
        .bytes()
        .next()
        .is_none_or(|byte| byte.is_ascii_digit() || b"~nNtTfF+-.".contains(&byte));
    if !could_be_more {
        return Value::Text(text);
    }
    match &*text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        _ => number(&text).unwrap_or(Value::Text(text)),
    }
}

fn number(text: &str) -> Option<Value<'static>> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let first = *unsigned.as_bytes().first()?;
    if matches!(unsigned, ".inf" | ".Inf" | ".INF" | ".nan" | ".NaN" | ".NAN") {
        return Some(Value::Number);
    }
    if !first.is_ascii_digit() && first != b'.' {
        return None;
    }
    if unsigned.bytes().all(|byte| byte.is_ascii_digit()) {
        // `0443` is 443 to YAML 1.2 and 291 to YAML 1.1: whoever wants an integer refuses it.
        let plain = unsigned == text && (first != b'0' || text.len() == 1);
        return Some(text.parse().ok().filter(|_| plain).map_or(Value::Number, Value::Int));
    }
    let based = |prefix: &str, valid: fn(&u8) -> bool| {
        let digits = text.strip_prefix(prefix);
        digits.is_some_and(|digits| !digits.is_empty() && digits.as_bytes().iter().all(valid))
    };
    let is_number = based("0x", u8::is_ascii_hexdigit)
        || based("0o", |byte| (b'0'..=b'7').contains(byte))
        || (unsigned
            .bytes()
            .all(|byte| byte.is_ascii_digit() || b".eE+-".contains(&byte))
            && unsigned.parse::<f64>().is_ok());
    is_number.then_some(Value::Number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalars_follow_the_core_schema() {
        let kinds = [
            ("text", "text"),
            ("yes", "text"),
            ("off", "text"),
            ("\"443\"", "text"),
            ("'true'", "text"),
            ("2026-12-31", "text"),
            ("10.0.0.1", "text"),
            ("1.2.3", "text"),
            ("true", "true or false"),
            ("False", "true or false"),
            ("443", "a number"),
            ("-5", "a number"),
            ("+5", "a number"),
            ("0443", "a number"),
            ("0x1f", "a number"),
            ("0o17", "a number"),
            ("1.35", "a number"),
            ("1e3", "a number"),
            (".inf", "a number"),
            ("99999999999999999999", "a number"),
            ("~", "nothing"),
            ("null", "nothing"),
            ("", "nothing"),
        ];
        for (text, kind) in kinds {
            let style = if text.starts_with(['"', '\'']) {
                ScalarStyle::DoubleQuoted
            } else {
                ScalarStyle::Plain
            };
            assert_eq!(
                scalar(text.trim_matches(['"', '\'']).into(), style).kind(),
                kind,
                "{text}"
            );
        }
        let octal = scalar("0443".into(), ScalarStyle::Plain);
        assert!(matches!(octal, Value::Number), "octal to some, decimal to others");
    }
}
