//! The closed list of reasons: what each means, and what a client is told.
//! Must not carry data of a connection; a reason is a constant, so that it can be a metric label.
//! Called by the gate, the wire readers' callers, refusals, records and the README's table.

use serde::{Serialize, Serializer};

/// One row per reason: variant, code, HTTP status, RFC 9209 error type, one line of documentation.
macro_rules! reasons {
    ($($variant:ident $code:literal $status:literal $proxy_error:literal $doc:literal;)*) => {
        /// Why a decision came out as it did. The codes are stable: they stand in records, metrics and answers.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason { $(#[doc = $doc] $variant,)* }

        impl Reason {
            /// Every reason, in the order of the documentation.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The stable code.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $code,)* }
            }

            /// The HTTP status of an answer that refuses for this reason.
            pub const fn status(self) -> u16 {
                match self { $(Self::$variant => $status,)* }
            }

            /// The error type of the `Proxy-Status` field (RFC 9209, section 2.3).
            pub const fn proxy_error(self) -> &'static str {
                match self { $(Self::$variant => $proxy_error,)* }
            }

            /// One line of documentation.
            pub const fn doc(self) -> &'static str {
                match self { $(Self::$variant => $doc,)* }
            }
        }
    };
}

reasons! {
    Rule "rule" 200 "" "an allow rule matched";
    Report "report" 200 "" "would have been refused; let through because the policy or the rule only reports";
    NoRule "no_rule" 403 "http_request_denied" "no rule names this host";
    NoRuleForSource "no_rule_for_source" 403 "http_request_denied" "rules name this host, but not for this client";
    DenyRule "deny_rule" 403 "http_request_denied" "a deny rule names this host or address";
    Port "port" 403 "http_request_denied" "rules name this host for this client, but on other ports";
    IpLiteral "ip_literal" 403 "http_request_denied" "an address was asked for instead of a name, and no address rule covers it";
    ForbiddenAddress "forbidden_address" 403 "destination_ip_prohibited" "the host has no address that may be dialled: all are private, reserved or the cluster's own";
    SelfAddress "self" 403 "destination_ip_prohibited" "the destination is this proxy itself";
    SniMismatch "sni_mismatch" 403 "http_request_denied" "the ClientHello names another host than the CONNECT";
    SniNotListed "sni_not_listed" 403 "http_request_denied" "the ClientHello names a host that is not allowed itself";
    NoSni "no_sni" 403 "http_request_denied" "the ClientHello names no host";
    BadSni "bad_sni" 400 "tls_protocol_error" "the `server_name` extension is malformed, or names an address";
    Ech "ech" 403 "http_request_denied" "the ClientHello carries an encrypted one (ECH or ESNI), which hides the real name";
    NotTls "not_tls" 403 "http_request_denied" "the rule is for TLS, and the first bytes are something else";
    NotHttp "not_http" 403 "http_request_denied" "the rule is for plain HTTP, and the first bytes are something else";
    BadHello "bad_hello" 400 "tls_protocol_error" "the bytes are TLS, but not a well-formed ClientHello";
    HelloTimeout "hello_timeout" 408 "tls_protocol_error" "no complete ClientHello came in time";
    BadHost "bad_host" 400 "http_request_error" "the host is not a name or an address in its one canonical form";
    BadPort "bad_port" 400 "http_request_error" "the port is not a decimal number from 1 to 65535 without leading zeros";
    BadAuthority "bad_authority" 400 "http_request_error" "the target of the request is not host:port";
    BadRequest "bad_request" 400 "http_request_error" "the request head does not follow RFC 9112 to the letter";
    BadUri "bad_uri" 400 "http_request_error" "the request target is not a URI of the form `http://host/path`";
    BadScheme "bad_scheme" 400 "http_request_error" "the request target has another scheme than http";
    BadFraming "bad_framing" 400 "http_request_error" "the length of the body is ambiguous or malformed";
    ConnectBody "connect_body" 400 "http_request_error" "a CONNECT request announces a body";
    NotProxyRequest "not_proxy_request" 400 "http_request_error" "the request is for a server, not for a proxy: its target has no host";
    HostMismatch "host_mismatch" 400 "http_request_error" "the Host field names another host than the target or the tunnel";
    BadMethod "bad_method" 405 "http_request_error" "the method is not one that is forwarded";
    UriTooLong "uri_too_long" 414 "http_request_error" "the request target is longer than 8 KiB";
    HeadTooLarge "head_too_large" 431 "http_request_error" "the request head is longer than 16 KiB or has more than 100 fields";
    HeadTimeout "head_timeout" 408 "http_request_error" "no complete request head came in time";
    BadCoding "bad_coding" 501 "http_request_error" "the body has a transfer coding other than chunked";
    BadVersion "bad_version" 505 "http_request_error" "the request is not HTTP/1.0 or HTTP/1.1";
    Dns "dns" 502 "dns_error" "the name could not be resolved";
    DnsTimeout "dns_timeout" 504 "dns_timeout" "the DNS servers did not answer in time";
    Connect "connect" 502 "destination_unavailable" "no address of the destination accepted the connection";
    ConnectTimeout "connect_timeout" 504 "connection_timeout" "no address of the destination answered in time";
    Upstream "upstream" 502 "http_response_incomplete" "the destination closed the connection or answered with something that is not HTTP";
    Loop "loop" 508 "proxy_loop_detected" "the request has passed this proxy before";
    Limit "limit" 503 "connection_limit_reached" "too many connections or DNS questions, in all or from this client";
    Drain "drain" 503 "proxy_internal_error" "the proxy was stopped before a verdict";
    ClientClosed "client_closed" 400 "http_request_error" "the client went away before a verdict";
}

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_documented() {
        let mut codes: Vec<_> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), Reason::ALL.len());
        assert!(Reason::ALL.iter().all(|reason| !reason.doc().is_empty()));
    }
}
