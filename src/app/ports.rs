//! The listeners of workloads that have a `port`: opened and closed as the policy changes.
//! Must not close a port before the policy that drops it is in force, nor serve one before its policy is.
//! Called by the app at start, and by the policy watch around every reload.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Listening;
use super::fit::{self, Fixed};
use super::workers::Handles;
use crate::net;
use crate::policy::{Policy, Problem};
use crate::proxy::Proxy;
use crate::proxy::accept::{Bound, Door};
use crate::proxy::session::Front;
use crate::proxy::tls::Certificates;
use crate::settings::{self, Mode};
use crate::source::{Adopt, Outcome};

/// All workload ports that are open.
#[derive(Debug)]
pub(super) struct WorkloadPorts {
    proxy: Arc<Proxy>,
    workers: Handles,
    sessions: TaskTracker,
    /// Ports of the settings' own listeners.
    fixed: Fixed,
    /// Workload ports are explicit listeners beside the first explicit one: same address, same certificates.
    ip: IpAddr,
    mode: Mode,
    certificates: Option<Arc<Certificates>>,
    open: HashMap<u16, Open>,
    /// Bound before serving begins.
    waiting: Vec<(Bound, CancellationToken)>,
}

#[derive(Debug)]
struct Open {
    front: Arc<ArcSwap<Front>>,
    closed: CancellationToken,
}

/// What a new policy needs: sockets that are bound, and who has which port.
#[derive(Debug)]
pub(super) struct Prepared {
    bound: Vec<(u16, Vec<TcpListener>)>,
    wanted: HashMap<u16, Arc<str>>,
}

impl WorkloadPorts {
    pub(super) fn new(
        proxy: Arc<Proxy>,
        workers: Handles,
        fixed: Fixed,
        beside: Option<(&settings::Listener, &Bound)>,
    ) -> Self {
        let (ip, mode, certificates) = match beside {
            Some((listener, bound)) => (
                listener.bind.ip(),
                listener.mode.clone(),
                bound.door.certificates.clone(),
            ),
            None => (Ipv4Addr::LOCALHOST.into(), Mode::Explicit { tls: None }, None),
        };
        let open = HashMap::new();
        let waiting = Vec::new();
        Self {
            proxy,
            workers,
            sessions: TaskTracker::new(),
            fixed,
            ip,
            mode,
            certificates,
            open,
            waiting,
        }
    }

    /// The tasks of all connections, of these listeners and of the others.
    pub(super) fn sessions(&self) -> TaskTracker {
        self.sessions.clone()
    }

    /// Binds the ports of the first policy.
    pub(super) fn open(&mut self, policy: &Policy) -> Result<Vec<Listening>, Vec<Problem>> {
        let prepared = self.bind(policy)?;
        let wanted: Vec<_> = prepared
            .wanted
            .iter()
            .map(|(port, workload)| (*port, Arc::clone(workload)))
            .collect();
        self.apply(prepared);
        let listening = wanted.into_iter().map(|(port, name)| Listening {
            name,
            mode: "workload",
            address: SocketAddr::new(self.ip, port),
        });
        let mut listening: Vec<_> = listening.collect();
        listening.sort_by_key(|socket| socket.address.port());
        Ok(listening)
    }

    /// Serves what was opened so far; from here on a commit serves at once.
    pub(super) fn serve(mut self) -> Serving {
        for (bound, closed) in std::mem::take(&mut self.waiting) {
            self.spawn(bound, &closed);
        }
        Serving(self)
    }

    fn bind(&self, policy: &Policy) -> Result<Prepared, Vec<Problem>> {
        let mut problems = fit::taken(policy, &self.fixed);
        let mut wanted = HashMap::new();
        let mut bound = Vec::new();
        for workload in policy.workloads() {
            let Some(port) = workload.port else { continue };
            let number = port.value.number();
            wanted.insert(number, Arc::clone(&workload.name));
            if self.open.contains_key(&number) || self.fixed.contains_key(&number) {
                continue;
            }
            let socket = net::listen::bind(SocketAddr::new(self.ip, number), &[]);
            match socket.and_then(|socket| self.workers.share(&socket)) {
                Ok(sockets) => bound.push((number, sockets)),
                Err(error) => problems.push(fit::port_problem(policy, &workload.name, port, &error.to_string())),
            }
        }
        if problems.is_empty() {
            Ok(Prepared { bound, wanted })
        } else {
            Err(problems)
        }
    }

    fn apply(&mut self, Prepared { bound, wanted }: Prepared) {
        self.open.retain(|port, open| {
            let stays = wanted.contains_key(port);
            if !stays {
                open.closed.cancel();
            }
            stays
        });
        for (port, workload) in &wanted {
            if let Some(open) = self.open.get(port)
                && open.front.load().workload.as_ref() != Some(workload)
            {
                open.front.store(self.front(workload));
            }
        }
        for (port, sockets) in bound {
            let Some(workload) = wanted.get(&port) else { continue };
            let front = Arc::new(ArcSwap::new(self.front(workload)));
            // Closed by the policy that drops it, or by the shutdown of the process.
            let closed = self.proxy.draining.child_token();
            self.open.insert(
                port,
                Open {
                    front: Arc::clone(&front),
                    closed: closed.clone(),
                },
            );
            self.waiting.push((
                Bound {
                    sockets,
                    door: Door {
                        front,
                        certificates: self.certificates.clone(),
                    },
                },
                closed,
            ));
        }
        self.proxy
            .own
            .listen_on(self.fixed.keys().chain(self.open.keys()).copied());
    }

    fn front(&self, workload: &Arc<str>) -> Arc<Front> {
        let metrics = self.proxy.telemetry.metrics().listener(workload);
        Arc::new(Front {
            name: Arc::clone(workload),
            mode: self.mode.clone(),
            workload: Some(Arc::clone(workload)),
            metrics,
        })
    }

    fn spawn(&self, bound: Bound, closed: &CancellationToken) {
        self.workers.accept(&self.proxy, bound, &self.sessions, closed);
    }
}

/// The workload ports while the proxy serves.
#[derive(Debug)]
pub(super) struct Serving(WorkloadPorts);

impl Adopt for Serving {
    type Ready = Prepared;

    async fn prepare(&mut self, policy: &Policy) -> Result<Prepared, Vec<Problem>> {
        self.0.bind(policy)
    }

    fn commit(&mut self, ready: Prepared) {
        self.0.apply(ready);
        for (bound, closed) in std::mem::take(&mut self.0.waiting) {
            tracing::info!(workload = %bound.door.front.load().name, "listening on the workload's own port");
            self.0.spawn(bound, &closed);
        }
    }

    fn loaded(&mut self, outcome: Outcome) {
        let metrics = self.0.proxy.telemetry.metrics();
        match outcome {
            Outcome::Accepted(_) => {
                let state = &self.0.proxy.state;
                metrics.policy_in_force(&state.policy(), state.since());
                metrics.reload_accepted();
            }
            Outcome::Refused(_) => metrics.reload_refused(),
            Outcome::Restored => metrics.reload_restored(),
        }
    }
}
