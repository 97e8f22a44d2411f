//! Which worker takes connections, and tunnels that change their worker.
//! Must not depend on how fast the machine is: a runtime that is not to run is not driven.
//! Called by the test run.

use std::future::poll_fn;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::sync::Mutex;
use std::task::{Context, Poll, Wake, Waker};
use std::thread;

use tokio::io::AsyncReadExt;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;

use super::*;
use crate::net;
use crate::proxy::balance::Balance;
use crate::proxy::fixture::{Between, balanced, settings, tunnel};
use crate::relay::give_away;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    Idle,
    /// The origin takes nothing, and the relay holds what it has read.
    Stuck,
    ClientFinished,
}

/// All that comes afterwards is moved by the other worker, since this one's runtime does not run any more.
#[test]
fn a_tunnel_that_is_given_away_goes_on_where_it_was() {
    let (up, down) = (pattern(32 << 20, 251), pattern(3 << 20, 241));
    for when in [When::Idle, When::Stuck, When::ClientFinished] {
        let runtime = runtime();
        let (calm, stop) = other_worker();
        let (proxy, between) = runtime.block_on(tunnel("", Balance::new([calm])));
        let Between {
            client,
            origin,
            tracked,
            established,
        } = between;
        let [mut client, mut origin] = [client, origin].map(|peer| blocking(peer.into_std().unwrap()));
        let sessions = TaskTracker::new();
        let place = Place {
            _open: tracked.connection.front.metrics.connection(),
            _admitted: Admission::admit(&proxy, Ipv4Addr::LOCALHOST.into()).unwrap(),
            _session: sessions.token(),
        };
        sessions.close();
        let carried = runtime.spawn(carry(established, place));

        let sender = thread::spawn({
            let (mut client, up) = (client.try_clone().unwrap(), up.clone());
            move || {
                client.write_all(&up).unwrap();
                client.shutdown(Shutdown::Write).unwrap();
            }
        });
        let mut received = Vec::new();
        match when {
            When::Idle => {}
            When::Stuck => runtime.block_on(async {
                let mut before = 0;
                while before == 0 || tracked.activity.up() > before {
                    before = tracked.activity.up();
                    for _ in 0..1000 {
                        yield_now().await;
                    }
                }
            }),
            When::ClientFinished => {
                let mut origin = origin.try_clone().unwrap();
                let all = thread::spawn(move || {
                    let mut all = Vec::new();
                    origin.read_to_end(&mut all).unwrap();
                    all
                });
                runtime.block_on(async {
                    while !all.is_finished() {
                        yield_now().await;
                    }
                });
                received = all.join().unwrap();
            }
        }
        give_away(1);
        // Something has to move, or nothing asks whether to go.
        origin.write_all(&down).unwrap();
        let mut some = vec![0; if when == When::Stuck { 1 << 20 } else { 0 }];
        origin.read_exact(&mut some).unwrap();
        received.append(&mut some);
        runtime.block_on(carried).unwrap();
        assert!(!sessions.is_empty(), "{when:?}: it goes on elsewhere");

        origin.read_to_end(&mut received).unwrap();
        sender.join().unwrap();
        assert!(received == up, "{when:?}: {} bytes up", received.len());
        origin.shutdown(Shutdown::Write).unwrap();
        let mut received = Vec::new();
        client.read_to_end(&mut received).unwrap();
        assert!(received == down, "{when:?}: {} bytes down", received.len());
        runtime.block_on(sessions.wait());
        assert_eq!(
            (tracked.activity.up(), tracked.activity.down()),
            (32 << 20, 3 << 20),
            "{when:?}"
        );
        assert_eq!(proxy.admission.admitted(), 0);
        drop(stop);
    }
}

/// Looks what is left of all connections in the moment in which none is under way any more.
struct Witness {
    proxy: Arc<Proxy>,
    left: Mutex<Option<(usize, usize)>>,
}

impl Wake for Witness {
    fn wake(self: Arc<Self>) {
        let left = (self.proxy.tracker.live().len(), self.proxy.admission.admitted());
        *self.left.lock().unwrap() = Some(left);
    }
}

/// Whoever waits for the end of all connections counts on their records. A tunnel that is cut off leaves one, too.
#[test]
fn a_connection_ends_when_all_of_it_has_ended() {
    let runtime = runtime();
    for cut_off in [false, true] {
        let (proxy, between) = runtime.block_on(tunnel("", Balance::new([])));
        let Between {
            client,
            origin,
            tracked,
            established,
        } = between;
        let sessions = TaskTracker::new();
        let place = Place {
            _open: tracked.connection.front.metrics.connection(),
            _admitted: Admission::admit(&proxy, Ipv4Addr::LOCALHOST.into()).unwrap(),
            _session: sessions.token(),
        };
        drop(tracked);
        sessions.close();
        let witness = Arc::new(Witness {
            proxy: Arc::clone(&proxy),
            left: Mutex::default(),
        });
        let waker = Waker::from(Arc::clone(&witness));
        let mut ended = Box::pin(sessions.wait());
        assert!(ended.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        let mut carried = Box::pin(carry(established, place));
        runtime.block_on(async {
            assert!(poll_fn(|cx| Poll::Ready(carried.as_mut().poll(cx))).await.is_pending());
            assert_eq!((proxy.tracker.live().len(), proxy.admission.admitted()), (1, 1));
            if cut_off {
                drop(carried);
            } else {
                drop((client, origin));
                carried.await;
            }
        });
        assert_eq!(*witness.left.lock().unwrap(), Some((0, 0)), "cut off: {cut_off}");
    }
}

/// The other worker does not run: there it would never end.
#[test]
fn a_tunnel_that_has_moved_little_stays() {
    let [runtime, never_driven] = [runtime(), runtime()];
    let calm = never_driven.handle().clone();
    let (_proxy, between) = runtime.block_on(tunnel("", Balance::new([calm])));
    let Between {
        client,
        mut origin,
        mut established,
        ..
    } = between;
    give_away(1);
    let mut client = blocking(client.into_std().unwrap());
    client.write_all(&pattern((256 << 10) - 1, 251)).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    runtime.block_on(async {
        let mut all = Vec::new();
        let peer = async {
            origin.read_to_end(&mut all).await.unwrap();
            drop(origin);
        };
        let (relayed, ()) = tokio::join!(established.relay(), peer);
        assert!(relayed.is_break());
        assert_eq!(all.len(), (256 << 10) - 1);
    });
    give_away(0);
}

#[test]
fn the_second_worker_accepts_when_the_first_is_full() {
    let first = runtime();
    let (second, stop) = other_worker();
    let balance = Balance::new([first.handle().clone(), second.clone()]);
    let policy = crate::policy::fixture::load("allow: []\n");
    let (proxy, front) = first.block_on(async { balanced(&settings(), policy, balance) });
    let socket = net::listen::bind((Ipv4Addr::LOCALHOST, 0).into(), &[]).unwrap();
    let address = socket.local_addr().unwrap();
    let sessions = TaskTracker::new();
    for (worker, runtime) in [first.handle(), &second].into_iter().enumerate() {
        runtime.spawn(accept(
            Arc::clone(&proxy),
            worker,
            socket.try_clone().unwrap(),
            Door {
                front: Arc::new(ArcSwap::new(Arc::clone(&front))),
                certificates: None,
            },
            sessions.clone(),
            CancellationToken::new(),
        ));
    }
    let ask = move || {
        let mut client = blocking(TcpStream::connect(address).unwrap());
        client.write_all(b"nothing that is HTTP\r\n\r\n").unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    };
    let now = std::time::Instant::now;
    proxy.balance.beat(0, 1000, now());
    proxy.balance.beat(1, 0, now());
    // The first one does not run.
    ask();
    proxy.balance.beat(0, 0, now());
    proxy.balance.beat(1, 0, now());
    drop(stop);
    let asked = thread::spawn(ask);
    first.block_on(async {
        while !asked.is_finished() {
            yield_now().await;
        }
    });
    asked.join().unwrap();
}

/// Cut while it is with nobody, it ends as soon as somebody has it.
#[test]
fn a_cut_reaches_a_tunnel_on_its_way() {
    let runtime = runtime();
    let (proxy, between) = runtime.block_on(tunnel("", Balance::new([])));
    let Between {
        client,
        established,
        tracked,
        ..
    } = between;
    let moving = established.detach().unwrap();
    assert_eq!(proxy.tracker.cut_all(record::End::Drain), ());
    let mut client = blocking(client.into_std().unwrap());
    runtime.block_on(async {
        let mut established = moving.attach().unwrap();
        assert!(established.relay().await.is_break());
    });
    assert_eq!(tracked.cut_for(), Some(record::End::Drain));
    assert_eq!(
        client.read(&mut [0]).unwrap_err().kind(),
        io::ErrorKind::ConnectionReset
    );
}

/// On its way it belongs to no runtime. If nobody takes it, its peers must not think that all has been said.
#[test]
fn a_tunnel_that_does_not_arrive_is_reset() {
    let runtime = runtime();
    let (_proxy, between) = runtime.block_on(tunnel("", Balance::new([])));
    let Between {
        client,
        origin,
        established,
        ..
    } = between;
    let peers = [client, origin].map(|peer| blocking(peer.into_std().unwrap()));
    drop(established.detach().unwrap());
    for mut peer in peers {
        assert_eq!(peer.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// A thread that runs what it is given, until the sender is dropped.
fn other_worker() -> (tokio::runtime::Handle, oneshot::Sender<()>) {
    let (stop, stopped) = oneshot::channel();
    let runtime = runtime();
    let handle = runtime.handle().clone();
    thread::spawn(move || runtime.block_on(stopped));
    (handle, stop)
}

fn blocking(peer: TcpStream) -> TcpStream {
    peer.set_nonblocking(false).unwrap();
    peer.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
    peer
}

fn pattern(length: usize, period: u8) -> Vec<u8> {
    (0..period).cycle().take(length).collect()
}
