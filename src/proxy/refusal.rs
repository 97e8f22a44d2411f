//! What a client sees when it is refused: an HTTP answer that says why and what would help, or a TLS alert.
//! Must not echo raw input: it prints parsed hosts and constants only. Never 407, never a silent drop.
//! Called by every front with the verdict that the session gives it.

use std::fmt::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use hyper::ext::ReasonPhrase;

use crate::policy::Reason;

/// A refusal, ready to be told.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    pub(crate) reason: Reason,
    /// The id that also stands in the record.
    pub(crate) id: u64,
    /// The page: plain text for a person.
    pub(crate) text: String,
}

/// The facts of a refusal page.
#[derive(Debug, Default)]
pub(crate) struct Page<'a> {
    /// `CONNECT api.example.com:443`; `None` where the request could not be read.
    pub(crate) asked: Option<String>,
    /// `10.1.2.3 (workload trips)`.
    pub(crate) client: String,
    pub(crate) detail: Option<&'a str>,
    /// The deciding or nearest rule: name and `file:line`.
    pub(crate) rule: Option<String>,
    /// Presets that know the host.
    pub(crate) needed_by: &'a [Arc<str>],
    /// Who owns that rule, as the policy says.
    pub(crate) owner: Option<&'a str>,
    /// The policy line that would allow exactly this.
    pub(crate) suggestion: Option<String>,
    /// The policy files in force.
    pub(crate) files: Vec<&'a str>,
}

impl Refusal {
    pub(crate) fn new(reason: Reason, id: u64, page: &Page<'_>) -> Self {
        Self {
            reason,
            id,
            text: page.render(reason, id),
        }
    }

    /// The whole answer, for a client that is not in the hands of an HTTP library.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut answer = format!("HTTP/1.1 {} {}\r\n", self.reason.status(), self.phrase());
        for (name, value) in self.fields() {
            // Writing into a String cannot fail.
            let _ = write!(answer, "{name}: {value}\r\n");
        }
        let _ = write!(answer, "content-length: {}\r\n\r\n{}", self.text.len(), self.text);
        answer.into_bytes()
    }

    /// The same answer for hyper.
    pub(crate) fn to_response(&self) -> Response<Bytes> {
        let mut response = Response::new(Bytes::from(self.text.clone()));
        *response.status_mut() = StatusCode::from_u16(self.reason.status()).unwrap_or(StatusCode::FORBIDDEN);
        if let Ok(phrase) = ReasonPhrase::try_from(self.phrase()) {
            response.extensions_mut().insert(phrase);
        }
        for (name, value) in self.fields() {
            if let Ok(value) = HeaderValue::try_from(value) {
                response.headers_mut().append(name, value);
            }
        }
        response
    }

    /// The TLS alert record that says the same to a client that sent a ClientHello.
    pub(crate) fn to_alert(&self) -> [u8; 7] {
        alert(self.reason)
    }

    fn phrase(&self) -> String {
        let verb = match self.reason.status() {
            403 => "Denied",
            400..500 => "Refused",
            _ => "Failed",
        };
        format!("{verb} by sluicegate ({})", self.reason.as_str())
    }

    fn fields(&self) -> impl Iterator<Item = (&'static str, String)> {
        let reason = self.reason;
        [
            (
                "proxy-status",
                format!(
                    "sluicegate; error={}; details=\"{}\"",
                    reason.proxy_error(),
                    reason.as_str()
                ),
            ),
            ("x-request-id", format!("{:016x}", self.id)),
            (header::CONTENT_TYPE.as_str(), "text/plain; charset=utf-8".to_owned()),
            (header::CACHE_CONTROL.as_str(), "no-store".to_owned()),
            ("connection", "close".to_owned()),
        ]
        .into_iter()
        .chain((reason == Reason::BadMethod).then(|| ("allow", FORWARDED_METHODS.to_owned())))
        .chain((reason == Reason::Limit).then(|| ("retry-after", "1".to_owned())))
    }
}

impl Page<'_> {
    fn render(&self, reason: Reason, id: u64) -> String {
        let mut text = String::with_capacity(512);
        let verb = match reason.status() {
            500.. => "could not carry out",
            _ => "refused",
        };
        let _ = writeln!(
            text,
            "sluicegate, the egress proxy of this network, {verb} this request.\n"
        );
        if let Some(asked) = &self.asked {
            let _ = writeln!(text, "asked for:  {asked}");
        }
        let _ = writeln!(text, "asked by:   {}", self.client);
        let _ = writeln!(text, "reason:     {}: {}", reason.as_str(), reason.doc());
        if let Some(detail) = self.detail {
            let _ = writeln!(text, "detail:     {detail}");
        }
        if let Some(rule) = &self.rule {
            let _ = write!(text, "rule:       {rule}");
            let _ = match self.owner {
                Some(owner) => writeln!(text, ", owned by {owner}"),
                None => writeln!(text),
            };
        }
        if !self.needed_by.is_empty() {
            let _ = writeln!(text, "presets:    needed by {}", self.needed_by.join(", "));
        }
        let _ = writeln!(text, "request id: {id:016x}");
        if let Some(suggestion) = &self.suggestion {
            let files = if self.files.is_empty() {
                "the policy".to_owned()
            } else {
                self.files.join(", ")
            };
            let _ = writeln!(
                text,
                "\nIf this call is needed, ask whoever keeps {files} to add this line under `allow:`\n\n{}",
                indent(suggestion)
            );
        }
        text
    }
}

/// The alert for a reason: `access_denied` (49) for what the policy refuses, `decode_error` (50) for what is malformed,
/// `internal_error` (80) for trouble upstream (RFC 8446, section 6.2).
pub(crate) fn alert(reason: Reason) -> [u8; 7] {
    let description = match reason {
        Reason::BadHello | Reason::BadSni | Reason::NotTls | Reason::HelloTimeout => 50,
        _ if reason.status() >= 500 => 80,
        _ => 49,
    };
    [21, 3, 3, 0, 2, 2, description]
}

fn indent(lines: &str) -> String {
    lines
        .lines()
        .map(|line| format!("  {line}"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// Of all that are forwarded, those that nearly every server knows. CONNECT asks for no resource, and not every listener
/// takes it.
const FORWARDED_METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(reason: Reason) -> Refusal {
        let page = Page {
            asked: Some("CONNECT api.example.com:443".to_owned()),
            client: "10.1.2.3".to_owned(),
            suggestion: Some("- api.example.com".to_owned()),
            files: vec!["policy.yaml"],
            ..Page::default()
        };
        Refusal::new(reason, 0xabc, &page)
    }

    #[test]
    fn the_status_line_says_why() {
        let answer = String::from_utf8(refusal(Reason::NoRule).to_bytes()).unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 403 Denied by sluicegate (no_rule)\r\n"),
            "{answer}"
        );
        assert!(answer.contains("proxy-status: sluicegate; error=http_request_denied; details=\"no_rule\"\r\n"));
        assert!(answer.contains("x-request-id: 0000000000000abc\r\n"));
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}", body.len())));
        assert!(
            body.contains("- api.example.com") && body.contains("policy.yaml"),
            "{body}"
        );
    }

    #[test]
    fn both_forms_say_the_same() {
        for reason in Reason::ALL.iter().copied().filter(|reason| reason.status() >= 400) {
            let refusal = refusal(reason);
            let bytes = String::from_utf8(refusal.to_bytes()).unwrap();
            let response = refusal.to_response();
            assert!(bytes.starts_with(&format!("HTTP/1.1 {} ", response.status().as_u16())));
            assert!(bytes.ends_with(std::str::from_utf8(response.body()).unwrap()));
            assert_ne!(response.status().as_u16(), 407);
        }
    }

    #[test]
    fn alerts_tell_denied_from_malformed_from_failed() {
        assert_eq!(alert(Reason::NoRule), [21, 3, 3, 0, 2, 2, 49]);
        assert_eq!(alert(Reason::BadHello)[6], 50);
        assert_eq!(alert(Reason::Dns)[6], 80);
    }
}
