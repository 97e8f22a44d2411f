//! The process: binds every socket, returns its addresses, then runs until a signal and drains.
//! Must not read policy files or print; it wires state, proxy, admin and the policy watch together.
//! Called by the `run` command, and by nothing else.

mod fit;
mod ports;
mod shutdown;
mod upkeep;
mod workers;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::runtime::{self, Runtime};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub(crate) use self::fit::unfit;
use self::ports::WorkloadPorts;
use self::workers::{Handles, Workers};
use crate::admin;
use crate::net::{self, Resolver};
use crate::policy::render;
use crate::proxy::Proxy;
use crate::proxy::accept::{Bound, Door};
use crate::proxy::session::Front;
use crate::proxy::tls::Certificates;
use crate::settings::{self, Settings, UpstreamPort};
use crate::source::{Compiled, PolicySource, Watch};
use crate::state::State;
use crate::telemetry::{Metrics, Telemetry};

/// A proxy with all its sockets bound, not yet serving.
#[derive(Debug)]
pub struct App {
    /// Listeners, sessions, DNS. Apart from `control`, so that a costly scrape or reload does not stall a tunnel.
    workers: Workers,
    /// Signals, reload, sweeps, admin and health.
    control: Runtime,
    settings: Settings,
    proxy: Arc<Proxy>,
    bound: Vec<Bound>,
    ports: WorkloadPorts,
    admin: TcpListener,
    health: TcpListener,
    readiness: admin::Readiness,
    watch: Watch,
    listening: Vec<Listening>,
}

/// One bound socket, for a person to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listening {
    pub name: Arc<str>,
    /// `explicit`, `tls`, `http`, `tcp`, `admin` or `health`; `workload` for a workload's own port.
    pub mode: &'static str,
    pub address: SocketAddr,
}

/// Why the proxy cannot start. Each says what to change.
#[derive(Debug, Error)]
pub enum StartError {
    #[error("listener `{name}` cannot listen on {address}: {cause}; {}", advice(cause))]
    Bind {
        name: String,
        address: SocketAddr,
        cause: io::Error,
    },
    #[error("listener `{name}`: {cause}")]
    Certificates { name: String, cause: String },
    #[error("dns: {0}")]
    Dns(String),
    #[error("workload ports that cannot be had\n{0}")]
    Ports(String),
    #[error("the system gives no {what}: {cause}")]
    System { what: &'static str, cause: io::Error },
}

impl App {
    /// Binds everything that the settings and the first policy want. Nothing is served yet.
    ///
    /// # Errors
    /// All sockets and certificates that do not work, not only the first.
    pub fn bind(settings: Settings, source: PolicySource, compiled: Compiled) -> Result<Self, Vec<StartError>> {
        let no_threads = |cause| vec![StartError::System { what: "threads", cause }];
        let workers = Workers::start(cpus()).map_err(no_threads)?;
        let mut control = runtime::Builder::new_multi_thread();
        let control = control.worker_threads(1).enable_all().thread_name("control");
        let control = control.build().map_err(no_threads)?;
        let resolver = {
            let _in = control.enter();
            Resolver::new(&settings.dns).map_err(|error| vec![StartError::Dns(error.to_string())])?
        };
        let now = Timestamp::now();
        let texts = compiled.texts.clone();
        let (state, watch) = source.start(compiled, now);
        let metrics = Metrics::new(now);
        metrics.policy_in_force(&state.policy(), now);
        let telemetry = Telemetry::to_stdout(&settings.log, metrics).map_err(|cause| {
            vec![StartError::System {
                what: "standard output",
                cause,
            }]
        })?;
        let descriptors = net::descriptors::raise().map_err(|cause| {
            vec![StartError::System {
                what: "descriptor limit",
                cause,
            }]
        })?;
        let balance = workers.balance();
        let proxy = Arc::new(Proxy::new(&settings, state, telemetry, resolver, balance, descriptors));

        let mut problems = Vec::new();
        let mut bound = Vec::new();
        let mut listening = Vec::new();
        let listeners = settings.listeners.iter().map(|listener| listener.bind);
        let binds: Vec<SocketAddr> = listeners.chain([settings.admin, settings.health]).collect();
        for listener in &settings.listeners {
            match bind_listener(&proxy, workers.handles(), listener, &binds) {
                Ok((socket, address)) => {
                    listening.push(Listening {
                        name: Arc::clone(&listener.name),
                        mode: mode_name(&listener.mode),
                        address,
                    });
                    bound.push(socket);
                }
                Err(problem) => problems.push(problem),
            }
        }
        let mut bind_page = |name: &'static str, address: SocketAddr| {
            let _in = control.enter();
            match net::listen::bind(address, &binds)
                .and_then(|socket| Ok((socket.local_addr()?, TcpListener::from_std(socket)?)))
            {
                Ok((address, socket)) => {
                    listening.push(Listening {
                        name: name.into(),
                        mode: name,
                        address,
                    });
                    Some(socket)
                }
                Err(cause) => {
                    problems.push(StartError::Bind {
                        name: name.to_owned(),
                        address,
                        cause,
                    });
                    None
                }
            }
        };
        let (admin, health) = (bind_page("admin", settings.admin), bind_page("health", settings.health));
        let fixed = listening.iter();
        let fixed = fixed.map(|socket| (socket.address.port(), Arc::clone(&socket.name)));
        let explicit = settings
            .listeners
            .iter()
            .zip(&bound)
            .find(|(listener, _)| is_explicit(&listener.mode));
        let mut ports = WorkloadPorts::new(Arc::clone(&proxy), workers.handles().clone(), fixed.collect(), explicit);
        match ports.open(&proxy.state.policy()) {
            Ok(opened) => listening.extend(opened),
            Err(refused) => problems.push(StartError::Ports(render(&refused, &texts, false))),
        }
        let (Some(admin), Some(health), true) = (admin, health, problems.is_empty()) else {
            return Err(problems);
        };
        let readiness = admin::Readiness::default();
        Ok(Self {
            workers,
            control,
            settings,
            proxy,
            bound,
            ports,
            admin,
            health,
            readiness,
            watch,
            listening,
        })
    }

    /// Every bound socket.
    pub fn listening(&self) -> &[Listening] {
        &self.listening
    }

    /// The policy in force.
    pub fn state(&self) -> &Arc<State> {
        &self.proxy.state
    }

    /// Client connections that are served at the same time: the setting, or what the descriptor limit leaves.
    pub fn connection_limit(&self) -> usize {
        self.proxy.admission.limit()
    }

    /// Serves until SIGTERM or SIGINT, then drains. A second signal ends the drain at once.
    ///
    /// # Errors
    /// Signals cannot be caught.
    pub fn run(self) -> io::Result<()> {
        let (workers, proxy, readiness) = (self.workers, self.proxy, self.readiness);
        let closed = CancellationToken::new();
        let stop = CancellationToken::new();
        let sessions = self.ports.sessions();
        let clock = proxy.clock.clone();
        self.control.spawn(clock.run());
        self.control
            .spawn(upkeep::sweep(Arc::clone(&proxy), self.settings.clone(), stop.clone()));
        self.control.spawn(upkeep::refresh_certificates(
            self.bound
                .iter()
                .filter_map(|bound| bound.door.certificates.clone())
                .collect(),
            stop.clone(),
        ));
        for bound in self.bound {
            workers.handles().accept(&proxy, bound, &sessions, &closed);
        }
        let ended = self.control.block_on(async {
            let mut signals = shutdown::Signals::new()?;
            let pages = admin::Pages {
                state: Arc::clone(&proxy.state),
                telemetry: proxy.telemetry.clone(),
                readiness: readiness.clone(),
                tunnels: {
                    let proxy = Arc::clone(&proxy);
                    Arc::new(move || proxy.tracker.live())
                },
            };
            tokio::spawn(admin::serve_admin(pages.clone(), self.admin, stop.clone()));
            tokio::spawn(admin::serve_health(pages, self.health, stop.clone()));
            tokio::spawn(self.watch.run(self.ports.serve(), stop.clone()));
            readiness.listeners_bound();
            readiness.policy_in_force();
            signals.next().await;
            tracing::info!(
                "shutting down: no new connections; open tunnels have {:?}",
                self.settings.timeouts.drain
            );
            readiness.drain();
            closed.cancel();
            proxy.draining.cancel();
            drain(&proxy, &sessions, self.settings.timeouts.drain, &mut signals).await;
            io::Result::Ok(())
        });
        stop.cancel();
        // What a worker still carries leaves its record as it ends.
        workers.shut_down(LAST_TASKS);
        if !proxy.telemetry.flush(LAST_RECORDS) {
            tracing::warn!("the last records were not written: nobody took them within {LAST_RECORDS:?}");
        }
        self.control.shutdown_timeout(LAST_TASKS);
        ended
    }
}

fn bind_listener(
    proxy: &Arc<Proxy>,
    workers: &Handles,
    listener: &settings::Listener,
    binds: &[SocketAddr],
) -> Result<(Bound, SocketAddr), StartError> {
    let name = listener.name.to_string();
    let transparent = matches!(
        listener.mode,
        settings::Mode::Tls {
            port: UpstreamPort::Tproxy
        } | settings::Mode::Http {
            port: UpstreamPort::Tproxy
        }
    );
    let socket = if transparent {
        net::listen::bind_transparent(listener.bind, binds)
    } else {
        net::listen::bind(listener.bind, binds)
    };
    let socket = socket.and_then(|socket| Ok((socket.local_addr()?, workers.share(&socket)?)));
    let (address, sockets) = socket.map_err(|cause| StartError::Bind {
        name: name.clone(),
        address: listener.bind,
        cause,
    })?;
    let certificates = match &listener.mode {
        settings::Mode::Explicit { tls: Some(tls) } => {
            let loaded = Certificates::load(tls);
            Some(Arc::new(loaded.map_err(|cause| StartError::Certificates {
                name,
                cause: cause.to_string(),
            })?))
        }
        _ => None,
    };
    let front = Arc::new(Front {
        name: Arc::clone(&listener.name),
        mode: listener.mode.clone(),
        workload: None,
        metrics: proxy.telemetry.metrics().listener(&listener.name),
    });
    Ok((
        Bound {
            sockets,
            door: Door {
                front: arc_swap::ArcSwap::new(front).into(),
                certificates,
            },
        },
        address,
    ))
}

/// Waits for the sessions to end by themselves, then ends those that have not, and what was accepted just now.
async fn drain(proxy: &Proxy, sessions: &TaskTracker, limit: Duration, signals: &mut shutdown::Signals) {
    sessions.close();
    let deadline = (!limit.is_zero()).then(|| Instant::now() + limit);
    tokio::select! {
        () = sessions.wait() => {}
        () = async {
            match deadline {
                Some(deadline) => sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        } => tracing::info!("the drain time is over; {} connections are cut", sessions.len()),
        () = signals.next() => tracing::info!("told again to stop; {} connections are cut", sessions.len()),
    }
    proxy.end_drain();
    // What was cut resets its peers and writes its record on its way out.
    if tokio::time::timeout(LAST_SESSIONS, sessions.wait()).await.is_err() {
        tracing::warn!("{} connections have not ended within {LAST_SESSIONS:?}", sessions.len());
    }
}

/// One per CPU that the process may use; the standard library reads the cgroup's quota and the affinity mask.
fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn is_explicit(mode: &settings::Mode) -> bool {
    matches!(mode, settings::Mode::Explicit { .. })
}

fn mode_name(mode: &settings::Mode) -> &'static str {
    match mode {
        settings::Mode::Explicit { .. } => "explicit",
        settings::Mode::Tls { .. } => "tls",
        settings::Mode::Http { .. } => "http",
        settings::Mode::Tcp { .. } => "tcp",
    }
}

/// What to change where a socket cannot be bound.
fn advice(cause: &io::Error) -> &'static str {
    match cause.kind() {
        io::ErrorKind::AddrInUse => "something else listens there: stop it, or give this one another port",
        io::ErrorKind::AddrNotAvailable => "this host has no such address: bind to one that it has, or to [::]",
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 need CAP_NET_BIND_SERVICE, `original: tproxy` needs CAP_NET_ADMIN"
        }
        _ => "bind to another address",
    }
}

const LAST_RECORDS: Duration = Duration::from_secs(2);
/// What is cut ends at once, unless others leave little of the CPUs to thousands of them.
const LAST_SESSIONS: Duration = Duration::from_secs(5);
const LAST_TASKS: Duration = Duration::from_secs(1);
