//! An explicit listener: CONNECT and absolute-form requests, in any order, on one connection.
//! Must not answer anything that is not a proxy request; health and metrics live on other ports.
//! Called for connections of explicit listeners and of workloads' own ports.

use std::sync::Arc;

use bytes::{Buf, BytesMut};
use tokio::io::AsyncReadExt;
use tokio::time::{Instant, sleep_until};

use super::client::Client;
use super::connect::{self, Manner};
use super::forward::{self, Next, Scope, refuse_head};
use super::session::Connection;
use super::tunnel::Established;
use crate::policy::Reason;
use crate::wire::Progress;
use crate::wire::head::{Form, HeadReader, HeadReject, RequestHead, Target};

/// Serves one client connection.
pub(crate) async fn serve(connection: Arc<Connection>, mut client: Client) -> Option<Established> {
    let mut buffer = BytesMut::new();
    let mut started = connection.accepted;
    loop {
        let head = match read_head(&connection, &mut client, &mut buffer, started).await {
            Ok(Some(head)) => head,
            // Nobody asked anything.
            Ok(None) => return None,
            Err(reject) => {
                refuse_head(connection, client, reject, started).await;
                return None;
            }
        };
        match head.target {
            Target::Connect { host, port } => {
                if head
                    .via
                    .is_some_and(|via| via.contains(&connection.proxy.ids.pseudonym))
                {
                    let reject = HeadReject {
                        reason: Reason::Loop,
                        detail: "Via names this proxy",
                    };
                    refuse_head(connection, client, reject, started).await;
                    return None;
                }
                buffer.advance(head.len);
                return connect::serve(connection, client, buffer, (host, port), Manner::Connect, started).await;
            }
            Target::Absolute { .. } | Target::Origin => {
                let served = Box::pin(forward::serve(
                    Arc::clone(&connection),
                    client,
                    buffer,
                    Scope::Proxy,
                    None,
                ))
                .await;
                match served {
                    Next::Connect(next, head) => (client, buffer) = (next, head),
                    Next::Tunnel(established) => return Some(*established),
                    Next::Closed => return None,
                }
                started = Instant::now();
            }
        }
    }
}

/// Reads until one head is complete; it stays in the buffer. `None`: the client closed without a word.
async fn read_head(
    connection: &Connection,
    client: &mut Client,
    buffer: &mut BytesMut,
    started: Instant,
) -> Result<Option<RequestHead>, HeadReject> {
    let deadline = connection.head_deadline(started);
    let mut reader = HeadReader::new(Form::Proxy);
    loop {
        match reader.advance(buffer) {
            Progress::Value(head) => return Ok(Some(head)),
            Progress::Reject(reject) => return Err(reject),
            Progress::Need(_) => {}
        }
        buffer.reserve(READ);
        let idle = buffer.is_empty();
        let read = tokio::select! {
            biased;
            read = client.read_buf(buffer) => Some(read),
            // Nobody has asked anything yet, so nobody is let down.
            () = connection.proxy.draining.cancelled(), if idle => Some(Ok(0)),
            () = sleep_until(deadline) => None,
        };
        match read {
            Some(Ok(1..)) => {}
            Some(_) if buffer.is_empty() => return Ok(None),
            Some(_) => {
                let detail = "the client closed the connection within a request head";
                return Err(HeadReject {
                    reason: Reason::ClientClosed,
                    detail,
                });
            }
            None => {
                let detail = "the request head was not complete in time";
                return Err(HeadReject {
                    reason: Reason::HeadTimeout,
                    detail,
                });
            }
        }
    }
}

const READ: usize = 4096;
