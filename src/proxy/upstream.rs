//! HTTP connections to upstreams, kept per client connection and reused only for the same name, port, rule and generation.
//! Must not dial; it takes dialled streams. Nothing here outlives the client connection or a reload.
//! Called by the plain HTTP front for each request that passed the gate.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::forward::Passing;
use crate::name::{Host, Port};
use crate::policy::{Decision, Generation, RuleId};

/// An HTTP/1.1 connection to an upstream.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) sender: http1::SendRequest<Passing>,
    pub(crate) host: Host,
    pub(crate) port: Port,
    pub(crate) address: IpAddr,
    /// It has served a request before, so its upstream may have closed it since.
    pub(crate) reused: bool,
    rule: Option<RuleId>,
    generation: Generation,
    /// Drives it, no longer than there is somebody to drive it for.
    _driver: AbortOnDropHandle<()>,
    /// For its descriptor. `None`: it has the one that admission counts for the client connection's upstream.
    spare: Option<OwnedSemaphorePermit>,
}

/// The idle upstream connections of one client connection.
#[derive(Debug)]
pub(crate) struct Upstreams {
    idle: Mutex<Vec<Upstream>>,
    spare: Arc<Semaphore>,
}

impl Upstream {
    /// Speaks HTTP over a stream that was dialled for this decision.
    pub(crate) async fn over(
        stream: TcpStream,
        (host, port, address): (Host, Port, IpAddr),
        rule: Option<RuleId>,
        generation: Generation,
    ) -> hyper::Result<Self> {
        let (sender, connection) = http1::Builder::new()
            .preserve_header_case(true)
            .max_buf_size(MAX_RESPONSE_HEAD)
            .handshake(TokioIo::new(stream))
            .await?;
        // Errors come out at the sender. Left alone, it would wait for an upstream that does not read for ever.
        let driver = tokio::spawn(async move { drop(connection.with_upgrades().await) });
        Ok(Self {
            sender,
            host,
            port,
            address,
            reused: false,
            rule,
            generation,
            _driver: AbortOnDropHandle::new(driver),
            spare: None,
        })
    }

    /// Whether this connection was opened by the very rule that decided now.
    pub(crate) fn serves(&self, decision: &Decision) -> bool {
        self.rule == decision.rule && self.generation == decision.generation
    }
}

impl Upstreams {
    /// None yet. Those that are kept beside the one in use take descriptors from `spare`.
    pub(crate) fn new(spare: Arc<Semaphore>) -> Self {
        Self {
            idle: Mutex::default(),
            spare,
        }
    }

    /// Leaves the descriptor that was counted for an upstream to the one that is dialled next: what is kept takes a spare
    /// one, or is closed where there is none.
    pub(crate) fn make_room(&self) {
        self.lock().retain_mut(|upstream| {
            if upstream.spare.is_none() {
                upstream.spare = Arc::clone(&self.spare).try_acquire_owned().ok();
            }
            upstream.spare.is_some()
        });
    }

    /// Takes out a connection to this name and port, if one is open. Whether it may be used is judged by the caller.
    pub(crate) async fn take(&self, host: &Host, port: Port) -> Option<Upstream> {
        loop {
            let mut candidate = {
                let mut idle = self.lock();
                let index = idle
                    .iter()
                    .position(|upstream| upstream.port == port && upstream.host == *host)?;
                idle.swap_remove(index)
            };
            // One that is not done with the last request by now reads no more, or slower than a new one is there.
            if candidate.sender.is_ready() || matches!(timeout(READY, candidate.sender.ready()).await, Ok(Ok(()))) {
                return Some(candidate);
            }
        }
    }

    /// Waits until all have taken the requests that they were given, and closes them.
    pub(crate) async fn finish(&self) {
        let idle = std::mem::take(&mut *self.lock());
        for mut upstream in idle {
            // An error is an upstream that has closed.
            drop(upstream.sender.ready().await);
        }
    }

    /// Keeps a connection for the next request; the oldest makes room.
    pub(crate) fn keep(&self, mut upstream: Upstream) {
        upstream.reused = true;
        let mut idle = self.lock();
        idle.retain(|other| other.generation == upstream.generation && !other.sender.is_closed());
        if idle.len() == MAX_IDLE {
            idle.remove(0);
        }
        idle.push(upstream);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Upstream>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const MAX_IDLE: usize = 2;
/// For a kept connection to become ready.
const READY: Duration = Duration::from_secs(1);
/// In bytes. To hyper it is the bound of a buffer that it may pass by one read.
pub(crate) const MAX_RESPONSE_HEAD: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;
    use crate::name::HostName;
    use crate::proxy::fixture::pair;

    /// What a reload finds kept is closed with the next request, whatever that one asks for.
    #[tokio::test]
    async fn nothing_is_kept_from_an_older_generation() {
        let upstreams = Upstreams::new(Arc::new(Semaphore::new(0)));
        let mut peers = Vec::new();
        for (name, generation) in [("a.test", 1), ("b.test", 1), ("c.test", 2)] {
            let (peer, stream) = pair().await;
            let to = (host(name), Port::HTTP, [127, 0, 0, 1].into());
            let upstream = Upstream::over(stream, to, None, Generation(generation)).await;
            upstreams.keep(upstream.unwrap());
            peers.push(peer);
        }
        for (name, kept) in [("a.test", false), ("b.test", false), ("c.test", true)] {
            let taken = upstreams.take(&host(name), Port::HTTP).await;
            assert_eq!(taken.is_some(), kept, "{name}");
        }
        for mut peer in peers {
            assert_eq!(peer.read(&mut [0]).await.unwrap(), 0, "it is closed");
        }
    }

    fn host(name: &str) -> Host {
        Host::Name(HostName::parse(name.as_bytes()).unwrap())
    }
}
