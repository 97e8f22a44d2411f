//! Transparent TLS: the name is the SNI, the port is the listener's or the original destination's.
//! Must not dial the original address, nor anything before the hello has passed the gate.
//! Called for connections of `tls` listeners.

use std::sync::Arc;

use bytes::BytesMut;

use super::client::Client;
use super::connect::{Unread, not_tls_detail, read_hello, refuse_inside, refuse_unread};
use super::session::{Case, Connection};
use super::tunnel::Established;
use crate::name::{Host, Port};
use crate::policy::{Ask, Reason, Seen, Stage};
use crate::telemetry::record::Entry;
use crate::wire::hello::Hello;

/// Serves one connection to upstream port `port`; `None` if the original destination could not be found out.
pub(crate) async fn serve(connection: Arc<Connection>, mut client: Client, port: Option<Port>) -> Option<Established> {
    let mut case = Case::open(Arc::clone(&connection), Entry::Tls, connection.accepted);
    let Some(port) = port else {
        let detail = "the connection has no original destination; was it redirected to this listener?".to_owned();
        case.deny(Stage::Request, Reason::BadPort, Some(detail));
        client.abort();
        return None;
    };
    let mut bytes = BytesMut::new();
    let hello = match read_hello(&connection, &mut client, None, None, &mut bytes).await {
        Ok(hello) => hello,
        Err(Unread::NotTls(_)) => {
            let refusal = case.deny(Stage::Hello, Reason::NotTls, not_tls_detail(Reason::NotTls));
            refuse_inside(client, &bytes, &refusal).await;
            return None;
        }
        Err(unread) => {
            refuse_unread(case, client, &bytes, &unread).await;
            return None;
        }
    };
    let Hello { sni: Some(name), ech } = hello else {
        // Without a name there is nothing that could be judged, whatever the rules say.
        let refusal = case.deny(Stage::Hello, Reason::NoSni, None);
        refuse_inside(client, &bytes, &refusal).await;
        return None;
    };
    let ask = Ask::new(Host::Name(name.clone()), port).seeing(Seen::Hello { sni: Some(name), ech });
    let decision = case.judge(ask.clone());
    if !decision.is_allowed() {
        let refusal = case.deny(Stage::Hello, decision.reason, None);
        refuse_inside(client, &bytes, &refusal).await;
        return None;
    }
    match case.reach(&ask).await {
        Ok((dialled, decision)) => {
            Established::open(case.allow(Stage::Address, decision), client, dialled.stream, bytes)
        }
        Err((reason, detail)) => {
            let refusal = case.deny(Stage::Address, reason, detail);
            refuse_inside(client, &bytes, &refusal).await;
            None
        }
    }
}
