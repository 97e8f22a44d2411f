//! Tunnels that change their worker, or are on their way, and what is left of a connection at its end.
//! Must not depend on how fast the machine is: a runtime that is not to run is not driven.
//! Called by the test run.

use std::future::poll_fn;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::yield_now;

use super::*;
use crate::proxy::Proxy;
use crate::proxy::admission::Admission;
use crate::proxy::balance::Balance;
use crate::proxy::fixture::{Between, blocking, other_worker, runtime, tunnel};
use crate::proxy::tracker::Tracked;
use crate::relay::{give_away, give_away_beside_another};
use crate::telemetry::record::End;

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
        let place = place(&proxy, &tracked, &sessions);
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
        give_away_beside_another(1);
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

/// Each time with bytes in a pipe, before a half-close and behind it.
#[tokio::test]
async fn a_tunnel_may_move_again_and_again() {
    let (_proxy, between) = tunnel("", Balance::new([])).await;
    let Between {
        client,
        origin,
        tracked,
        mut established,
    } = between;
    let (up, down) = (pattern(16 << 20, 251), pattern(12 << 20, 241));
    let client = tokio::spawn(talk(client, up.clone(), down.clone()));
    let origin = tokio::spawn(talk(origin, down, up));
    let mut moves = 0;
    while established.relay().await.is_continue() {
        established = established.detach().unwrap().attach().unwrap();
        moves += 1;
    }
    drop(established);
    client.await.unwrap();
    origin.await.unwrap();
    assert_eq!((tracked.activity.up(), tracked.activity.down()), (16 << 20, 12 << 20));
    assert!(moves > 8, "{moves}");
}

/// Sends all at once, and reads more slowly than it is relayed. Again and again the tunnel is to move.
async fn talk(mut stream: TcpStream, sent: Vec<u8>, expected: Vec<u8>) {
    socket2::SockRef::from(&stream).set_recv_buffer_size(64 << 10).unwrap();
    let (mut reader, mut writer) = stream.split();
    let sending = async {
        writer.write_all(&sent).await.unwrap();
        writer.shutdown().await.unwrap();
    };
    let receiving = async {
        let (mut received, mut some) = (Vec::new(), vec![0; 4 << 10]);
        for piece in 1.. {
            match reader.read(&mut some).await.unwrap() {
                0 => break,
                read => received.extend_from_slice(&some[..read]),
            }
            if piece % 32 == 0 {
                give_away_beside_another(1);
            }
            yield_now().await;
        }
        assert!(received == expected, "{} of {} bytes", received.len(), expected.len());
    };
    tokio::join!(sending, receiving);
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
        let place = place(&proxy, &tracked, &sessions);
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

#[test]
fn a_tunnel_that_has_moved_little_stays() {
    let runtime = runtime();
    let (_proxy, between) = runtime.block_on(tunnel("", Balance::new([])));
    let Between {
        client,
        mut origin,
        mut established,
        ..
    } = between;
    give_away_beside_another(1);
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
    proxy.tracker.cut_all(End::Drain);
    let mut client = blocking(client.into_std().unwrap());
    runtime.block_on(async {
        let mut established = moving.attach().unwrap();
        assert!(established.relay().await.is_break());
    });
    assert_eq!(tracked.cut_for(), Some(End::Drain));
    assert_eq!(client.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
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
        assert_eq!(peer.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    }
}

fn place(proxy: &Arc<Proxy>, tracked: &Tracked, sessions: &TaskTracker) -> Place {
    let admitted = Admission::admit(proxy, Ipv4Addr::LOCALHOST.into()).unwrap();
    Place::new(&tracked.connection.front, admitted, sessions)
}

fn pattern(length: usize, period: u8) -> Vec<u8> {
    (0..period).cycle().take(length).collect()
}
