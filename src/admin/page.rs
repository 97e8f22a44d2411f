//! The answers: text, JSON, and what every one of them carries.
//! Must not be cached, sniffed or framed: they show who talks to whom, with names that clients chose.
//! Called by the pages.

use axum::body::Body;
use axum::http::header::{ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderValue, Method, StatusCode, Uri};
use axum::response::Response;
use serde::Serialize;

use crate::telemetry::json;

pub(super) fn text(body: impl Into<String>) -> Response {
    answer(StatusCode::OK, PLAIN, body.into())
}

pub(super) fn metrics(body: String) -> Response {
    answer(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", body)
}

pub(super) fn unavailable(body: String) -> Response {
    answer(StatusCode::SERVICE_UNAVAILABLE, PLAIN, body)
}

/// `why` is one sentence, and what to write instead.
pub(super) fn bad_request(why: &str) -> Response {
    answer(StatusCode::BAD_REQUEST, PLAIN, format!("{why}\n"))
}

pub(super) fn misdirected(why: &str) -> Response {
    answer(StatusCode::MISDIRECTED_REQUEST, PLAIN, format!("{why}\n"))
}

pub(super) fn not_found(uri: &Uri, paths: &str) -> Response {
    let path = uri.path().escape_default();
    let body = format!("nothing is at {path}; there is: / {paths}\n");
    answer(StatusCode::NOT_FOUND, PLAIN, body)
}

pub(super) fn wrong_method(method: &Method) -> Response {
    let method = method.as_str().escape_default();
    let body = format!("{method} is not answered here; every page is read only: GET and HEAD\n");
    let mut answer = answer(StatusCode::METHOD_NOT_ALLOWED, PLAIN, body);
    answer
        .headers_mut()
        .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    answer
}

/// One JSON object: the fields of `head`, and last the list `name`, each of its rows on a line of its own, as `append`
/// writes it, so that the page reads well and `grep` finds whole rows.
pub(super) fn rows<R>(
    head: &impl Serialize,
    name: &str,
    rows: &[R],
    mut append: impl FnMut(&R, &mut Vec<u8>),
) -> Response {
    let mut body = Vec::new();
    json::append(head, &mut body);
    // `head` is an object with at least one field: open it again.
    body.pop();
    body.extend_from_slice(format!(",\n\"{name}\":[").as_bytes());
    for (place, row) in rows.iter().enumerate() {
        body.extend_from_slice(if place == 0 { b"\n" } else { b",\n" });
        append(row, &mut body);
    }
    body.extend_from_slice(b"\n]}\n");
    answer(StatusCode::OK, "application/json", body)
}

/// Goes over every answer.
pub(super) async fn harden(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(
        CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"),
    );
    response
}

fn answer(status: StatusCode, kind: &'static str, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

const PLAIN: &str = "text/plain; charset=utf-8";
