//! Which fields of a message travel on: hop-by-hop ones do not, nor what clients claim about themselves.
//! Must not interpret values beyond the names that `Connection` lists.
//! Called for each request and each response that is forwarded.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

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
    for name in HOP_BY_HOP {
        fields.remove(*name);
    }
}

/// Removes what a client could say about where a request comes from: we never use it, and no upstream should.
pub(crate) fn strip_claims(fields: &mut HeaderMap) {
    for name in CLAIMS {
        fields.remove(*name);
    }
}

/// Asks for, or grants, a switch to WebSocket on this hop.
pub(crate) fn set_upgrade(fields: &mut HeaderMap) {
    fields.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    fields.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
}

const HOP_BY_HOP: &[&str] = &[
    "connection",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "transfer-encoding",
    "upgrade",
];

const CLAIMS: &[&str] = &[
    "forwarded",
    "via",
    "x-client-namespace",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-proto",
    "x-real-ip",
    // What another proxy takes its next hop from.
    "x-upstream-https-proxy",
];

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
        ]);
        strip_hop_by_hop(&mut map);
        let mut left: Vec<_> = map.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["content-length", "host", "x-end"]);
    }

    #[test]
    fn claims_go() {
        let mut map = fields(&[
            ("via", "1.1 x"),
            ("forwarded", "for=x"),
            ("x-forwarded-for", "x"),
            ("accept", "*/*"),
        ]);
        strip_claims(&mut map);
        assert_eq!(map.len(), 1);
    }
}
