//! What hyper takes from a connection, for the targets that hold our readers against it.
//! Must not judge; it only serves and notes.
//! Called by the targets `head` and `body`.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use http_body_util::{BodyExt, Empty};
use hyper::body::{Body, Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;

/// One request: its head, the body's length as hyper announced it, and whether the body came whole.
#[derive(Debug)]
pub struct Taken {
    pub parts: http::request::Parts,
    pub length: Option<u64>,
    pub whole: bool,
}

/// Serves a connection over which the client sends this and then ends its side.
pub fn hyper_takes(sent: &[u8]) -> Vec<Taken> {
    let taken = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&taken);
    let service = service_fn(move |request: http::Request<Incoming>| {
        let seen = Arc::clone(&seen);
        async move {
            let (parts, body) = request.into_parts();
            let length = body.size_hint().exact();
            let whole = body.collect().await.is_ok();
            seen.lock().unwrap().push(Taken { parts, length, whole });
            Ok::<_, Infallible>(http::Response::new(Empty::<Bytes>::new()))
        }
    });
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let (mut client, server) = tokio::io::duplex(1 << 20);
        client.write_all(sent).await.unwrap();
        client.shutdown().await.unwrap();
        let mut builder = hyper::server::conn::http1::Builder::new();
        let _ = builder
            .half_close(true)
            .serve_connection(TokioIo::new(server), service)
            .await;
    });
    Arc::into_inner(taken).unwrap().into_inner().unwrap()
}

pub const NEXT: &[u8] = b"GET http://next.test/ HTTP/1.1\r\nHost: next.test\r\nConnection: close\r\n\r\n";
