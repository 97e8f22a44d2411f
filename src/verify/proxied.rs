//! Requests through the proxy, and what its answer means: refused, let through to nowhere, or answered from outside.
//! Must not take its word for more than it says; a refusal is known by its status line, or by its TLS alert.
//! Called for each probe through the proxy.

use std::io;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::context::Context;
use super::opener::printable;
use super::stream::{self, NoProxy, Stream};
use super::{Came, untried};
use crate::kubernetes::judge::Outcome;
use crate::kubernetes::probe::{Request, Target, Then};
use crate::name::{Host, Port};

pub(super) async fn request(context: &Context, proxy: &Target, request: &Request) -> Came {
    let mut stream = match stream::to_proxy(context, proxy).await {
        Ok(stream) => stream,
        Err(why) => return no_proxy(why),
    };
    match request {
        Request::Get { host, port } => {
            let head = format!(
                "GET http://{host}:{port}/ HTTP/1.1\r\nHost: {host}:{port}\r\nUser-Agent: sluicegate-verify\r\n\
                 Connection: close\r\n\r\n"
            );
            match exchange(context, &mut stream, &head).await {
                Ok(Said::Other(line)) => (Outcome::Answered, line),
                Ok(Said::Ours(came)) => came,
                Err(error) => (Outcome::Connected, format!("the proxy does not answer: {error}")),
            }
        }
        Request::Connect { host, port, then } => match tunnel(context, &mut stream, host, *port).await {
            Ok(line) => match then {
                Then::Nothing => (Outcome::Answered, line),
                Then::Hello(name) => {
                    let name = name.clone().map_or_else(|| host.clone(), Host::Name);
                    hello(context, &mut stream, &name).await
                }
            },
            Err(came) => came,
        },
    }
}

/// Opens a tunnel; anything but a 200 is what came.
pub(super) async fn tunnel(
    context: &Context,
    stream: &mut Box<dyn Stream>,
    host: &Host,
    port: Port,
) -> Result<String, Came> {
    let head = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n");
    match exchange(context, stream, &head).await {
        Ok(Said::Other(line)) if line.split(' ').nth(1) == Some("200") => Ok(line),
        Ok(Said::Other(line)) => Err((Outcome::Connected, format!("not sluicegate: {line}"))),
        Ok(Said::Ours(came)) => Err(came),
        Err(error) => Err((Outcome::Connected, format!("the proxy does not answer: {error}"))),
    }
}

pub(super) fn no_proxy(why: NoProxy) -> Came {
    match why {
        NoProxy::Unresolved(why) => untried(format!("the proxy: {why}")),
        NoProxy::Unreachable(error) => (Outcome::Nothing, format!("the proxy: {error}")),
        NoProxy::NoTls(error) => (Outcome::Connected, format!("TLS with the proxy: {error}")),
    }
}

/// Who answered.
enum Said {
    /// The proxy itself, and what that means.
    Ours(Came),
    /// The status line of someone else, or of an opened tunnel.
    Other(String),
}

async fn exchange(context: &Context, stream: &mut Box<dyn Stream>, head: &str) -> io::Result<Said> {
    let answer = context
        .within(async {
            stream.write_all(head.as_bytes()).await?;
            stream::head(stream).await
        })
        .await?;
    let line = answer.split(|byte| *byte == b'\r').next().unwrap_or_default();
    if !line.starts_with(b"HTTP/") {
        return Err(io::Error::other("there is no status line"));
    }
    let line = printable(line);
    Ok(match reason(&line) {
        None => Said::Other(line),
        Some(reason) if PASSED.contains(&reason) => Said::Ours((Outcome::Failed, line)),
        Some(reason) if NO_VERDICT.contains(&reason) => Said::Ours((Outcome::Connected, line)),
        Some(_) => Said::Ours((Outcome::Denied, line)),
    })
}

/// The code in `403 Denied by sluicegate (no_rule)`.
fn reason(line: &str) -> Option<&str> {
    let (_, code) = line.split_once(" by sluicegate (")?;
    code.strip_suffix(')')
}

/// Shows a name, and waits for whoever answers.
async fn hello(context: &Context, stream: &mut Box<dyn Stream>, name: &Host) -> Came {
    let hello = match context.hello(name) {
        Ok(hello) => hello,
        Err(error) => return untried(error.to_string()),
    };
    let mut first = [0; ALERT];
    let answer = async {
        stream.write_all(&hello).await?;
        stream.read_exact(&mut first).await
    };
    match context.within(answer).await {
        Ok(_) => {}
        Err(error) => {
            return (
                Outcome::Connected,
                format!("a tunnel, and no answer to the ClientHello: {error}"),
            );
        }
    }
    match first {
        // What the policy refuses, and what is malformed.
        [21, _, _, _, _, _, 49] => (Outcome::Denied, "TLS alert access_denied".to_owned()),
        [21, _, _, _, _, _, 50] => (Outcome::Denied, "TLS alert decode_error".to_owned()),
        [21, _, _, _, _, _, 80] => (Outcome::Failed, "TLS alert internal_error".to_owned()),
        [21, _, _, _, _, _, other] => (Outcome::Answered, format!("answered: TLS alert {other}")),
        [22, ..] => (Outcome::Answered, "answered: TLS ServerHello".to_owned()),
        _ => (Outcome::Answered, "answered: bytes that are not TLS".to_owned()),
    }
}

/// Reasons of refusals that come after the policy has let something through.
const PASSED: &[&str] = &["dns", "dns_timeout", "connect", "connect_timeout", "upstream"];
/// Those that say nothing about it.
const NO_VERDICT: &[&str] = &["limit", "drain", "loop"];
/// A record with an alert.
const ALERT: usize = 7;
