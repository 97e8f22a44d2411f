//! One request and its answer: where it goes, whether it may, and the bodies streamed both ways.
//! Must not buffer bodies. What the policy refuses never reaches an upstream, kept connection or not.
//! Called by hyper, one request at a time, with heads that the strict reader has passed.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::body::{Passing, Way};
use super::{Inside, Ready, Scope, fields};
use crate::name::{Authority, Host, Port};
use crate::policy::{Ask, Decision, Reason, Seen, Stage};
use crate::proxy::judged_dial::dial_allowed;
use crate::proxy::refusal::{Page, Refusal};
use crate::proxy::session::{Case, Connection};
use crate::proxy::strict::{Findings, Stop};
use crate::proxy::tracker::Tracked;
use crate::proxy::tunnel::Tunnel;
use crate::proxy::upstream::{MAX_RESPONSE_HEAD, Upstream, Upstreams};
use crate::telemetry::record::{End, Entry};
use crate::wire::body::Framing;
use crate::wire::head::{RequestHead, Target};

/// An answer: our own words, or what the upstream says.
pub(crate) type Answer = Response<Either<Full<Bytes>, Passing>>;

/// The requests of one client connection.
#[derive(Debug)]
pub(crate) struct Exchanges {
    connection: Arc<Connection>,
    scope: Scope,
    findings: Arc<Findings>,
    upstreams: Upstreams,
    /// The `Via` of requests that came without one.
    via: Option<HeaderValue>,
    switched: Mutex<Option<Switched>>,
}

/// A connection that has become a tunnel.
#[derive(Debug)]
pub(crate) struct Switched {
    pub(crate) tunnel: Tunnel,
    pub(crate) upstream: TcpStream,
    /// What the upstream sent behind its 101.
    pub(crate) early: Bytes,
}

/// What both bodies of a request share. Its record leaves when neither moves any more: an upstream may answer early and
/// go on reading.
#[derive(Debug)]
pub(crate) struct Exchange {
    tracked: Arc<Tracked>,
    /// Taken when the connection becomes a tunnel.
    tunnel: Mutex<Option<Tunnel>>,
    findings: Arc<Findings>,
}

impl Exchanges {
    pub(crate) fn new(connection: Arc<Connection>, scope: Scope, findings: Arc<Findings>) -> Self {
        let spare = Arc::clone(&connection.proxy.admission.spare);
        let via = fields::via(None, &connection.proxy.ids.pseudonym);
        Self {
            connection,
            scope,
            findings,
            upstreams: Upstreams::new(spare),
            via: HeaderValue::try_from(via).ok(),
            switched: Mutex::default(),
        }
    }

    /// Takes an upstream connection that was dialled for the tunnel around these requests.
    pub(crate) async fn adopt(&self, ready: Ready) {
        let Scope::Inside(Inside { host, port }) = &self.scope else {
            return;
        };
        let to = (host.clone(), *port, ready.address);
        if let Ok(upstream) = Upstream::over(ready.stream, to, ready.rule, ready.generation).await {
            self.upstreams.keep(upstream);
        }
    }

    /// The tunnel that this connection has become, if it has.
    pub(crate) fn switched(&self) -> Option<Switched> {
        lock(&self.switched).take()
    }

    /// Waits until the upstreams have taken what was read for them: one may answer early and read later.
    pub(crate) async fn finish(&self) {
        self.upstreams.finish().await;
    }

    /// Serves one request.
    pub(crate) async fn serve(self: Arc<Self>, request: Request<Incoming>) -> Result<Answer, Infallible> {
        let Some((head, started)) = self.findings.take_head() else {
            // hyper has read a head that we have not passed. It cannot; if it ever does, nothing goes out.
            let case = Case::open(Arc::clone(&self.connection), Entry::Http, Instant::now());
            return Ok(words(&case.deny(Stage::Request, Reason::BadRequest, None)));
        };
        let mut case = Case::open(Arc::clone(&self.connection), Entry::Http, started);
        case.note_request(head.method.as_str(), request.uri().path());
        match self.judge(&mut case, &head) {
            Ok(ask) => Ok(self.exchange(case, ask, &head, request).await),
            Err((reason, detail)) => Ok(words(&case.deny(Stage::Request, reason, detail.map(str::to_owned)))),
        }
    }

    /// Finds the destination and asks the gate.
    fn judge(&self, case: &mut Case, head: &RequestHead) -> Result<Ask, (Reason, Option<&'static str>)> {
        let (host, port) = self.destination(case, head)?;
        let pseudonym = &self.connection.proxy.ids.pseudonym;
        if head.via.as_ref().is_some_and(|via| via.contains(pseudonym.as_str())) {
            case.note_target(&host, port);
            return Err((Reason::Loop, None));
        }
        let ask = Ask::new(host, port).seeing(Seen::Http);
        let decision = case.judge(ask.clone());
        if decision.is_allowed() {
            Ok(ask)
        } else {
            Err((decision.reason, None))
        }
    }

    fn destination(&self, case: &mut Case, head: &RequestHead) -> Result<(Host, Port), (Reason, Option<&'static str>)> {
        match (&self.scope, &head.target, &head.host) {
            (Scope::Proxy, Target::Absolute { host, port, .. }, _) => Ok((host.clone(), *port)),
            (Scope::Proxy, ..) => Err((Reason::NotProxyRequest, None)),
            (_, _, None) => Err((Reason::BadHost, Some("the request has no Host field"))),
            (Scope::Transparent(listener), _, Some(Authority { host, port })) => {
                let Some(port) = port.filter(|port| port != listener) else {
                    return Ok((host.clone(), *listener));
                };
                // The header's port is judged, so that the answer is right, but never dialled.
                let decision = case.judge(Ask::new(host.clone(), port).seeing(Seen::Http));
                if decision.is_allowed() {
                    return Err((
                        Reason::HostMismatch,
                        Some("the Host field names another port than the connection's"),
                    ));
                }
                case.suggest_nothing();
                let detail =
                    "the Host field names another port than the connection's, and only that one is reached here";
                Err((decision.reason, Some(detail)))
            }
            (Scope::Inside(inside), _, Some(Authority { host, port })) => {
                if *host != inside.host || port.is_some_and(|port| port != inside.port) {
                    case.note_target(host, port.unwrap_or(inside.port));
                    return Err((
                        Reason::HostMismatch,
                        Some("the Host field differs from the tunnel's CONNECT target"),
                    ));
                }
                Ok((inside.host.clone(), inside.port))
            }
        }
    }

    /// Reaches an upstream and passes the request on.
    async fn exchange(&self, mut case: Case, ask: Ask, head: &RequestHead, request: Request<Incoming>) -> Answer {
        let (mut upstream, decision) = match self.upstream(&mut case, &ask).await {
            Ok(reached) => reached,
            Err((reason, detail)) => return words(&case.deny(Stage::Address, reason, detail)),
        };
        let id = case.tracked.id;
        self.findings.serves(&case.tracked);
        let Some(allowed) = case.allow(Stage::Address, decision) else {
            return words(&self.trouble(id, Reason::Limit, "its record cannot be written"));
        };
        let Some(tunnel) = Tunnel::open(allowed) else {
            let detail = "the policy changed while this request was on its way";
            return words(&self.trouble(id, Reason::NoRule, detail));
        };
        let exchange = Arc::new(Exchange {
            tracked: Arc::clone(&tunnel.tracked),
            tunnel: Mutex::new(Some(tunnel)),
            findings: Arc::clone(&self.findings),
        });
        let websocket = is_websocket(head);
        let mut request = self.outgoing(request, &ask, head, &exchange);
        let response = loop {
            match upstream.sender.try_send_request(request).await {
                Ok(response) => break response,
                // The upstream closed a kept connection before it took anything: a new one is asked once, after the guard.
                Err(mut error) => match error.take_message() {
                    Some(unsent) if upstream.reused => match self.dial_again(&exchange, &ask).await {
                        Some(fresh) => {
                            upstream = fresh;
                            request = unsent;
                        }
                        None => return self.broken(&exchange, id),
                    },
                    _ => return self.broken(&exchange, id),
                },
            }
        };
        if fields::head_len(&response) > MAX_RESPONSE_HEAD {
            return self.broken(&exchange, id);
        }
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return if websocket {
                self.switch(&exchange, response).await
            } else {
                self.broken(&exchange, id)
            };
        }
        let mut response = response.map(|body| {
            let exchange = Arc::clone(&exchange);
            Either::Right(Passing::new(Way::Down, body, exchange))
        });
        if !fields::settle_framing(response.headers_mut()) {
            return self.broken(&exchange, id);
        }
        fields::strip_hop_by_hop(response.headers_mut());
        self.upstreams.keep(upstream);
        response
    }
}

impl Exchanges {
    /// An upstream connection for an allowed ask: a kept one if the same rule opened it, else a new one.
    async fn upstream(&self, case: &mut Case, ask: &Ask) -> Result<(Upstream, Decision), (Reason, Option<String>)> {
        if let Some(kept) = self.upstreams.take(&ask.host, ask.port).await {
            let decision = case.judge(ask.clone().dialling(kept.address));
            if decision.is_allowed() && kept.serves(&decision) {
                return Ok((kept, decision));
            }
        }
        self.upstreams.make_room();
        let (dialled, decision) = case.reach(ask).await?;
        let to = (ask.host.clone(), ask.port, dialled.address);
        match Upstream::over(dialled.stream, to, decision.rule, decision.generation).await {
            Ok(upstream) => Ok((upstream, decision)),
            Err(error) => Err((Reason::Upstream, Some(error.to_string()))),
        }
    }

    /// Dials once more for a request that a kept connection did not take.
    async fn dial_again(&self, exchange: &Exchange, ask: &Ask) -> Option<Upstream> {
        self.upstreams.make_room();
        let (dialled, decision) = dial_allowed(&self.connection, ask).await?;
        if let Some(tunnel) = &mut *lock(&exchange.tunnel) {
            tunnel.redialled(dialled.address);
        }
        let to = (ask.host.clone(), ask.port, dialled.address);
        Upstream::over(dialled.stream, to, decision.rule, decision.generation)
            .await
            .ok()
    }

    /// The request as it leaves: origin form, the canonical Host, nothing that speaks of this hop.
    fn outgoing(
        &self,
        request: Request<Incoming>,
        ask: &Ask,
        head: &RequestHead,
        exchange: &Arc<Exchange>,
    ) -> Request<Passing> {
        let (mut parts, body) = request.into_parts();
        let whole_server =
            parts.method == Method::OPTIONS && matches!(head.target, Target::Absolute { bare: true, .. });
        let path = match parts.uri.path_and_query() {
            // The one form in which a server is asked about itself (RFC 9112, section 3.2.4).
            _ if whole_server => PathAndQuery::from_static("*"),
            Some(path) => path.clone(),
            None => PathAndQuery::from_static("/"),
        };
        parts.uri = Uri::from(path);
        parts.version = http::Version::HTTP_11;
        fields::strip_hop_by_hop(&mut parts.headers);
        fields::strip_claims(&mut parts.headers);
        // hyper answers `Expect` itself, when the body is first asked for; a refused request never gets that far.
        parts.headers.remove(header::EXPECT);
        let authority = match ask.port {
            Port::HTTP => ask.host.to_string(),
            port => format!("{}:{port}", ask.host),
        };
        let via = match head.via.as_deref() {
            None => self.via.clone(),
            received => HeaderValue::try_from(fields::via(received, &self.connection.proxy.ids.pseudonym)).ok(),
        };
        for (name, value) in [
            (header::HOST, HeaderValue::try_from(authority).ok()),
            (header::VIA, via),
        ] {
            if let Some(value) = value {
                parts.headers.insert(name, value);
            }
        }
        if head.framing == Framing::Chunked {
            // Without it hyper sends no body of a GET, whatever it is given.
            parts
                .headers
                .insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        if is_websocket(head) {
            fields::set_upgrade(&mut parts.headers);
        }
        let exchange = Arc::clone(exchange);
        Request::from_parts(parts, Passing::new(Way::Up, body, exchange))
    }

    /// Makes a tunnel of a connection whose upstream granted the upgrade.
    async fn switch(&self, exchange: &Exchange, mut response: Response<Incoming>) -> Answer {
        let id = exchange.tracked.id;
        let upgraded = hyper::upgrade::on(&mut response).await;
        let parts = upgraded
            .ok()
            .and_then(|upgraded: Upgraded| upgraded.downcast::<TokioIo<TcpStream>>().ok());
        let (Some(parts), Some(tunnel)) = (parts, lock(&exchange.tunnel).take()) else {
            return self.broken(exchange, id);
        };
        *lock(&self.switched) = Some(Switched {
            tunnel,
            upstream: parts.io.into_inner(),
            early: parts.read_buf,
        });
        let mut response = response.map(|_| Either::Left(Full::default()));
        fields::strip_hop_by_hop(response.headers_mut());
        fields::set_upgrade(response.headers_mut());
        response
    }

    /// The exchange failed after its verdict: by the client's own body, or by the upstream.
    fn broken(&self, exchange: &Exchange, id: u64) -> Answer {
        if let Some(Stop::Body(detail)) = self.findings.stopped() {
            exchange.ended(End::Malformed);
            return words(&self.trouble(id, Reason::BadFraming, detail));
        }
        exchange.ended(End::UpstreamReset);
        let detail = "the destination did not answer with HTTP, or with a head of more than 64 KiB or 100 fields";
        words(&self.trouble(id, Reason::Upstream, detail))
    }

    fn trouble(&self, id: u64, reason: Reason, detail: &str) -> Refusal {
        let client = self.connection.source.address.to_string();
        Refusal::new(
            reason,
            id,
            &Page {
                client,
                detail: Some(detail),
                ..Page::default()
            },
        )
    }
}

impl Exchange {
    /// Notes bytes of a body.
    pub(super) fn moved(&self, way: Way, bytes: usize) {
        match way {
            Way::Up => self.tracked.activity.moved_up(bytes),
            Way::Down => self.tracked.activity.moved_down(bytes),
        }
    }

    /// Notes that a body has broken off.
    pub(super) fn broke_off(&self, way: Way) {
        match (way, self.findings.stopped()) {
            (Way::Up, Some(Stop::Body(_))) => self.ended(End::Malformed),
            (Way::Up, _) => self.ended(End::ClientReset),
            (Way::Down, _) => {
                self.ended(End::UpstreamReset);
                // An answer whose end is the end of the connection would look complete.
                self.findings.cut_short();
            }
        }
    }

    /// Notes how it ended, unless it already has.
    pub(super) fn ended(&self, end: End) {
        if let Some(tunnel) = &mut *lock(&self.tunnel) {
            tunnel.ended(end);
        }
    }
}

fn is_websocket(head: &RequestHead) -> bool {
    head.upgrade.as_deref() == Some("websocket")
}

/// Our own words as an answer.
fn words(refusal: &Refusal) -> Answer {
    refusal.to_response().map(|text| Either::Left(Full::new(text)))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
