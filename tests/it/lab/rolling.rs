//! A rolling restart of the proxy under load, behind its Service: no new connection fails.
//! Must not wait by the clock: each step waits until clients have been served through the new set of replicas.
//! Called by `tests/run` as root.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::cluster::{Cluster, PROXY_SERVICE};
use crate::netpol::Engine;
use crate::support::DEADLINE;
use crate::support::client::Client;
use crate::support::proxy::Proxy;

/// What a Deployment with `maxSurge: 1, maxUnavailable: 0` does: a new pod becomes ready and an endpoint, an old one
/// stops being one, lets its connections end, and is replaced in turn.
#[test]
fn no_new_connection_fails() {
    let cluster = Cluster::start(Engine::Calico);
    cluster.enforce(&cluster.generated());
    let mut running: BTreeMap<&str, Proxy> = ["proxy", "proxy2"].map(|pod| (pod, cluster.proxy_in(pod))).into();
    cluster.services(&["proxy", "proxy2"]);
    let load = Load::default();
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| cluster.pod("trips").run(|| load.run()));
        }
        let _over = Over(&load.over);
        load.served_anew();
        for (old, new) in [("proxy", "proxy3"), ("proxy2", "proxy"), ("proxy3", "proxy2")] {
            running.insert(new, cluster.proxy_in(new));
            let all: Vec<_> = running.keys().copied().collect();
            cluster.services(&all);
            load.served_anew();
            let rest: Vec<_> = all.into_iter().filter(|pod| *pod != old).collect();
            cluster.services(&rest);
            load.served_anew();
            let outcome = running.remove(old).unwrap().stop();
            assert!(outcome.status.success(), "{:?}", outcome.status);
            assert!(!outcome.decisions.is_empty(), "{old} never served");
            load.served_anew();
        }
    });
    let failed = load.failed.load(Ordering::Relaxed);
    let served = load.served.load(Ordering::Relaxed);
    assert_eq!(failed, 0, "of {served}");
}

/// Clients that open one connection after the other.
#[derive(Debug, Default)]
struct Load {
    served: AtomicUsize,
    failed: AtomicUsize,
    over: AtomicBool,
}

impl Load {
    fn run(&self) {
        let service: SocketAddr = format!("{PROXY_SERVICE}:3201").parse().unwrap();
        while !self.over.load(Ordering::Relaxed) {
            let answer = std::panic::catch_unwind(|| {
                let mut client = Client::connect(service);
                client.get("http://api.allowed.test/");
                client.response().status()
            });
            match answer {
                Ok(200) => self.served.fetch_add(1, Ordering::Relaxed),
                _ => self.failed.fetch_add(1, Ordering::Relaxed),
            };
        }
    }

    /// Waits until every replica has had its turn since now.
    fn served_anew(&self) {
        let goal = self.served.load(Ordering::Relaxed) + 10 * CLIENTS;
        let end = Instant::now() + DEADLINE;
        while self.served.load(Ordering::Relaxed) < goal && self.failed.load(Ordering::Relaxed) == 0 {
            assert!(Instant::now() < end, "nobody is served");
            thread::park_timeout(Duration::from_millis(5));
        }
    }
}

/// Ends the load, whatever happens.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

const CLIENTS: usize = 4;
