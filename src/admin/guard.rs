//! Keeps web pages out of the admin listener.
//! Must not rely on the listener being on loopback: a browser on the same machine reaches that too.
//! Called for every request to the admin listener.
//!
//! A page on `evil.example` can have its name resolve to 127.0.0.1 (DNS rebinding); its scripts then read what this
//! listener answers as if it were their own server. Their requests carry `Host: evil.example`. So a Host has to be an
//! address or `localhost`, which nobody can make resolve to something else. `curl`, `kubectl port-forward` and
//! Prometheus on a pod's address all send such a Host. A request without Host (HTTP/1.0) comes from no browser.

use axum::extract::Request;
use axum::http::HeaderValue;
use axum::http::header::HOST;
use axum::middleware::Next;
use axum::response::Response;

use super::page;
use crate::name::{Authority, Host};

pub(super) async fn refuse_foreign_hosts(request: Request, next: Next) -> Response {
    let in_target = request.uri().authority().map(|authority| authority.as_str().as_bytes());
    let mut in_fields = request.headers().get_all(HOST).iter().map(HeaderValue::as_bytes);
    if in_target.is_none_or(is_local) && in_fields.all(is_local) {
        next.run(request).await
    } else {
        page::harden(page::misdirected(
            "the admin listener answers only requests whose Host is an address or localhost, so that no web page can \
             read it; call it by its address",
        ))
        .await
    }
}

fn is_local(authority: &[u8]) -> bool {
    match Authority::parse(authority) {
        Ok(Authority { host, .. }) => match host {
            Host::Address(_) => true,
            Host::Name(name) => name.as_str() == "localhost" || name.as_str().ends_with(".localhost"),
        },
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_and_localhost_are_local() {
        for host in [
            "127.0.0.1",
            "127.0.0.1:9090",
            "[::1]:9090",
            "10.244.0.7:9090",
            "localhost",
            "LOCALHOST:1",
        ] {
            assert!(is_local(host.as_bytes()), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:9090",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "127.1",
            "a@localhost",
            "",
        ] {
            assert!(!is_local(host.as_bytes()), "{host}");
        }
    }
}
