//! Plain HTTP, explicit, transparent or inside a tunnel: every request of a connection is a case of its own.
//! Must not let hyper see what the strict reader has not passed, nor follow, cache or repair anything.
//! Called by the explicit and the transparent HTTP listeners, and for tunnels that only HTTP rules allow.

mod body;
mod exchange;
mod fields;

use std::net::IpAddr;
use std::sync::Arc;

use bytes::BytesMut;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

pub(crate) use self::body::Passing;
use self::exchange::{Exchanges, Switched};
use super::client::Client;
use super::session::{Case, Connection};
use super::strict::{Findings, Stop, Strict};
use super::tunnel::Established;
use crate::name::{Host, Port};
use crate::policy::{Generation, RuleId, Stage};
use crate::telemetry::record::Entry;
use crate::wire::head::{Form, HeadReject};

/// What a request's destination is taken from.
#[derive(Clone, Debug)]
pub(crate) enum Scope {
    /// Its absolute URI.
    Proxy,
    /// Its Host, with the port that the listener knows.
    Transparent(Port),
    /// The CONNECT around it, which its Host must equal.
    Inside(Inside),
}

/// The target of the tunnel that requests come through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Inside {
    pub(crate) host: Host,
    pub(crate) port: Port,
}

/// An upstream connection that was dialled before the first request was read.
#[derive(Debug)]
pub(crate) struct Ready {
    pub(crate) stream: TcpStream,
    pub(crate) address: IpAddr,
    pub(crate) rule: Option<RuleId>,
    pub(crate) generation: Generation,
}

/// What follows when a connection has no more requests to forward.
#[derive(Debug)]
pub(crate) enum Next {
    Closed,
    /// A CONNECT came, which the caller serves; its head is in the buffer.
    Connect(Client, BytesMut),
    /// An upgrade was granted.
    Tunnel(Box<Established>),
}

/// How hyper has left a client connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HyperEnd {
    /// Everything that was answered has been written.
    Finished,
    /// The client or the upstream has gone; the records have said so already.
    Failed,
    /// The exchange was cut.
    Cut,
}

/// Serves requests until the connection ends.
pub(crate) async fn serve(
    connection: Arc<Connection>,
    client: Client,
    buffer: BytesMut,
    scope: Scope,
    ready: Option<Ready>,
) -> Next {
    let form = if matches!(scope, Scope::Proxy) {
        Form::Proxy
    } else {
        Form::Origin
    };
    let (strict, findings) = Strict::new(Arc::clone(&connection), client, buffer, form);
    let exchanges = Arc::new(Exchanges::new(Arc::clone(&connection), scope, Arc::clone(&findings)));
    if let Some(ready) = ready {
        exchanges.adopt(ready).await;
    }
    let (mut client, buffer, end) = run(&connection, &exchanges, &findings, strict).await;
    if end == HyperEnd::Cut || findings.was_cut_short() {
        client.abort();
        return Next::Closed;
    }
    if let Some(Switched {
        tunnel,
        upstream,
        early,
    }) = exchanges.switched()
    {
        let told = async {
            client.write_all(&early).await?;
            client.flush().await
        };
        let told = tokio::select! {
            biased;
            // It is open, so whatever ends a tunnel ends it already here.
            _ = tunnel.tracked.wait_cut() => None,
            told = told => told.ok(),
        };
        if told.is_none() {
            client.abort();
            crate::net::abort(&upstream);
            return Next::Closed;
        }
        tunnel.tracked.activity.moved_down(early.len());
        return Next::Tunnel(Box::new(Established::over(tunnel, client, upstream, buffer)));
    }
    let next = conclude(Arc::clone(&connection), &findings, client, buffer).await;
    if end == HyperEnd::Finished && matches!(next, Next::Closed) {
        let _ = timeout(connection.farewell(), exchanges.finish()).await;
    }
    next
}

/// The same where clients believe to speak to the server itself, and a CONNECT is refused by the reader.
pub(crate) async fn serve_origin(
    connection: Arc<Connection>,
    client: Client,
    buffer: BytesMut,
    scope: Scope,
    ready: Option<Ready>,
) -> Option<Established> {
    match serve(connection, client, buffer, scope, ready).await {
        Next::Tunnel(established) => Some(*established),
        Next::Closed => None,
        Next::Connect(client, _) => {
            client.abort();
            None
        }
    }
}

/// Drives hyper to its end and takes the stream back.
async fn run(
    connection: &Connection,
    exchanges: &Arc<Exchanges>,
    findings: &Findings,
    strict: Strict,
) -> (Client, BytesMut, HyperEnd) {
    let service = service_fn({
        let exchanges = Arc::clone(exchanges);
        move |request: Request<Incoming>| Box::pin(Arc::clone(&exchanges).serve(request))
    });
    let mut server = http1::Builder::new()
        // A client may finish its side and still want the answer.
        .half_close(true)
        // Heads have a deadline in `Strict`, which sees their first byte.
        .header_read_timeout(None)
        .preserve_header_case(true)
        .auto_date_header(false)
        .serve_connection(TokioIo::new(strict), service);
    let mut draining = false;
    let end = loop {
        tokio::select! {
            biased;
            () = connection.cut.notified() => if findings.is_cut() { break HyperEnd::Cut },
            () = connection.proxy.draining.cancelled(), if !draining => {
                draining = true;
                Pin::new(&mut server).graceful_shutdown();
            }
            ended = &mut server => break if ended.is_ok() { HyperEnd::Finished } else { HyperEnd::Failed },
        }
    };
    let (client, buffer) = server.into_parts().io.into_inner().into_parts();
    (client, buffer, end)
}

/// Says what is left to say after hyper has finished.
async fn conclude(connection: Arc<Connection>, findings: &Findings, client: Client, buffer: BytesMut) -> Next {
    match findings.stopped() {
        Some(Stop::Connect) => return Next::Connect(client, buffer),
        Some(Stop::Head(reject)) => refuse_head(connection, client, reject, Instant::now()).await,
        // A broken body was answered by its exchange, if there was still an answer to give.
        Some(Stop::Body(_) | Stop::Idle) | None => client.close_with(&[]).await,
    }
    Next::Closed
}

/// Refuses a head that the strict reader did not pass.
pub(crate) async fn refuse_head(connection: Arc<Connection>, client: Client, reject: HeadReject, started: Instant) {
    let case = Case::open(connection, Entry::Http, started);
    let refusal = case.deny(Stage::Request, reject.reason, Some(reject.detail.to_owned()));
    client.close_with(&refusal.to_bytes()).await;
}
