//! A proxy without listeners, and connections to it that nobody accepted.
//! Must not be part of any build but a test's, nor be made outside of a tokio runtime.
//! Called by the unit tests of the data path.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::Proxy;
use super::session::{Connection, Front};
use crate::net::Resolver;
use crate::policy::{Policy, Source};
use crate::settings::{Inputs, Mode, Settings, load};
use crate::state::State;
use crate::telemetry::{Colour, Metrics, Telemetry};

/// The settings that nobody has changed, and a name server that is not there.
pub(super) fn settings() -> Settings {
    let mut settings = load(&Inputs::default()).unwrap();
    settings.dns.servers = vec![(Ipv4Addr::LOCALHOST, 53).into()];
    settings
}

/// A proxy under a policy, and its explicit listener as sessions see it.
pub(super) fn proxy(settings: &Settings, policy: Policy) -> (Arc<Proxy>, Arc<Front>) {
    let now = Timestamp::now();
    let metrics = Metrics::new(now);
    let front = Front {
        name: "proxy".into(),
        mode: Mode::Explicit { tls: None },
        workload: None,
        metrics: metrics.listener("proxy"),
    };
    let proxy = Proxy::new(
        settings,
        Arc::new(State::new(policy, now)),
        Telemetry::new(&settings.log, metrics, std::io::sink(), Colour::Never).unwrap(),
        Resolver::new(&settings.dns).unwrap(),
        1024,
    );
    (Arc::new(proxy), Arc::new(front))
}

/// A connection that was accepted now.
pub(super) fn connection(proxy: &Arc<Proxy>, front: &Arc<Front>, peer: SocketAddr) -> Arc<Connection> {
    Arc::new(Connection {
        proxy: Arc::clone(proxy),
        front: Arc::clone(front),
        peer,
        source: Source::at(peer.ip()),
        accepted: Instant::now(),
        cut: Notify::new(),
    })
}
