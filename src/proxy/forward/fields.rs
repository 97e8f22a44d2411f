//! Which fields of a message travel on: hop-by-hop ones do not, nor what clients claim about themselves.
//! Must not interpret values beyond the names that `Connection` lists.
//! Called for each request and each response that is forwarded.

use http::Response;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::ext::ReasonPhrase;

/// Removes what speaks of one hop only (RFC 9110, section 7.6.1), and what `Connection` names.
pub(crate) fn strip_hop_by_hop(fields: &mut HeaderMap) {
    let listed: Vec<HeaderName> = fields
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        // Framing and routing are decided by the strict reader; a client cannot take them away.
        .filter(|name| *name != header::HOST && *name != header::CONTENT_LENGTH)
        .collect();
    for name in listed {
        fields.remove(name);
    }
    strip(fields, is_hop_by_hop);
}

/// Removes what a client could say about where a request comes from: we never use it, and no upstream should.
pub(crate) fn strip_claims(fields: &mut HeaderMap) {
    strip(fields, is_claim);
}

/// Makes the framing of a response the one that hyper has read: chunks beat a length (RFC 9112, section 6.3). `false`: a
/// coding besides chunked, which the next hop could not be told of.
pub(crate) fn settle_framing(fields: &mut HeaderMap) -> bool {
    let mut codings = fields.get_all(header::TRANSFER_ENCODING).iter();
    let chunked = match (codings.next(), codings.next()) {
        (None, _) => return true,
        (Some(coding), None) => coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked"),
        (Some(_), Some(_)) => false,
    };
    fields.remove(header::CONTENT_LENGTH);
    chunked
}

/// The length of a response head as it would be written here. What hyper has read may be somewhat longer: it stops only
/// at the first read beyond its bound.
pub(crate) fn head_len<B>(response: &Response<B>) -> usize {
    let phrase = response.extensions().get::<ReasonPhrase>();
    let phrase = phrase.map_or(0, |phrase| phrase.as_bytes().len());
    let fields = response.headers().iter();
    let fields: usize = fields
        .map(|(name, value)| name.as_str().len() + ": ".len() + value.len() + "\r\n".len())
        .sum();
    "HTTP/1.1 200 \r\n\r\n".len() + phrase + fields
}

/// The `Via` of a request that goes on: what other proxies of this kind have put there, so that a loop over several of
/// them is seen, and this one. What anybody else says of its way stays here.
pub(crate) fn via(received: Option<&str>, pseudonym: &str) -> String {
    let ours = received
        .into_iter()
        .flat_map(|via| via.split(','))
        .map(str::trim)
        .filter(|hop| {
            let name = hop.strip_prefix("1.1 sluicegate-");
            name.is_some_and(|name| name.len() == 8 && name.bytes().all(|byte| byte.is_ascii_hexdigit()))
        });
    let mut hops: Vec<_> = ours.map(str::to_owned).collect();
    hops.push(format!("1.1 {pseudonym}"));
    hops.join(", ")
}

/// Looks at what is there: most messages hold nothing that goes, and each removal is a search of its own.
fn strip(fields: &mut HeaderMap, goes: impl Fn(&str) -> bool) {
    let gone: Vec<HeaderName> = fields.keys().filter(|name| goes(name.as_str())).cloned().collect();
    for name in gone {
        fields.remove(name);
    }
}

fn is_hop_by_hop(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "http2-settings"
            | "keep-alive"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "proxy-connection"
            | "te"
            | "transfer-encoding"
            | "upgrade"
    )
}

fn is_claim(name: &str) -> bool {
    matches!(
        name,
        "forwarded"
            | "via"
            | "x-client-namespace"
            | "x-forwarded-for"
            | "x-forwarded-host"
            | "x-forwarded-port"
            | "x-forwarded-proto"
            | "x-real-ip"
            // What another proxy takes its next hop from.
            | "x-upstream-https-proxy"
    )
}

/// Asks for, or grants, a switch to WebSocket on this hop.
pub(crate) fn set_upgrade(fields: &mut HeaderMap) {
    fields.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    fields.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(rows: &[(&'static str, &'static str)]) -> HeaderMap {
        rows.iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn what_connection_names_goes_but_not_host() {
        let mut map = fields(&[
            ("connection", "host, x-hop, content-length, , keep-alive"),
            ("host", "a.test"),
            ("content-length", "3"),
            ("x-hop", "1"),
            ("x-end", "1"),
            ("proxy-connection", "keep-alive"),
            ("te", "trailers"),
            ("http2-settings", "AAMAAABkAAQCAAAAAAIAAAAA"),
        ]);
        strip_hop_by_hop(&mut map);
        let mut left: Vec<_> = map.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["content-length", "host", "x-end"]);
    }

    #[test]
    fn chunks_beat_a_length_and_other_codings_are_refused() {
        let mut map = fields(&[("content-length", "3"), ("transfer-encoding", "Chunked")]);
        assert!(settle_framing(&mut map));
        assert!(!map.contains_key("content-length"));
        let mut length = fields(&[("content-length", "3")]);
        assert!(settle_framing(&mut length) && length.contains_key("content-length"));
        assert!(!settle_framing(&mut fields(&[("transfer-encoding", "gzip, chunked")])));
        let twice = [("transfer-encoding", "gzip"), ("transfer-encoding", "chunked")];
        assert!(!settle_framing(&mut fields(&twice)));
    }

    #[test]
    fn via_keeps_the_hops_of_its_own_kind() {
        assert_eq!(via(None, "sluicegate-00000001"), "1.1 sluicegate-00000001");
        let received = "1.1 corp-proxy, 1.1 sluicegate-000000ab, 1.1 sluicegate-x";
        assert_eq!(
            via(Some(received), "sluicegate-00000001"),
            "1.1 sluicegate-000000ab, 1.1 sluicegate-00000001"
        );
    }

    #[test]
    fn claims_go() {
        let mut map = fields(&[
            ("via", "1.1 x"),
            ("forwarded", "for=x"),
            ("x-client-namespace", "x"),
            ("x-forwarded-for", "x"),
            ("x-forwarded-host", "x"),
            ("x-forwarded-port", "1"),
            ("x-forwarded-proto", "x"),
            ("x-real-ip", "x"),
            ("x-upstream-https-proxy", "x"),
            ("accept", "*/*"),
        ]);
        strip_claims(&mut map);
        let left: Vec<_> = map.keys().map(HeaderName::as_str).collect();
        assert_eq!(left, ["accept"]);
    }
}
