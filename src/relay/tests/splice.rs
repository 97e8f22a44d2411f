//! Spliced directions between real sockets: every rule of splicing that somebody has learnt by a bug.
//! Must not sleep or ask for wall time: what blocks is seen by the pipe that it holds, what spins by its system calls.
//! Called by the test run.

use std::os::fd::OwnedFd;
use std::time::Duration;

use proptest::prelude::*;
use socket2::SockRef;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use super::chaos::pattern;
use super::sockets::{Tunnel, assert_reset, eager, join, pair, reset};
use super::*;
use crate::relay::pipe::spliced;

/// Two connected sockets that hold little: the first does not receive more than that, the second does not send more.
async fn narrow_pair(bytes: u32) -> (TcpStream, TcpStream) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(bytes).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (near, accepted) = tokio::join!(socket.connect(listener.local_addr().unwrap()), listener.accept());
    let accepted = accepted.unwrap().0;
    SockRef::from(&accepted).set_send_buffer_size(bytes as usize).unwrap();
    (near.unwrap(), accepted)
}

/// A tunnel whose upstream reads nothing, with bytes in a pipe. Both ends still hold their sockets.
async fn blocked(pipes: &Arc<Pipes>, bytes: &[u8]) -> Tunnel {
    let mut tunnel = join(pair().await, narrow_pair(4096).await, pipes);
    tunnel.near.write_all(bytes).await.unwrap();
    blocks(pipes, 1).await;
    tunnel
}

/// Waits until so many pipes are held. They are held only between two turns of a relay, and only by one that waits for its
/// writer.
async fn blocks(pipes: &Pipes, count: usize) {
    until(|| pipes.in_use() == count).await;
}

/// Lets the others run until something has happened.
async fn until(happened: impl Fn() -> bool) {
    let patience = async {
        while !happened() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, patience).await.expect("it does not happen");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// Both ends cut where they like, buffers and pipes are of any size, both directions at once.
    #[test]
    fn every_byte_arrives_in_order_and_is_counted(
        seed in any::<u64>(),
        up in 0_usize..3_000_000,
        down in 0_usize..3_000_000,
        buffers in 2_000_u32..200_000,
        pages in 1_usize..64,
        promote_after in 0_u8..3,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (sent_up, sent_down) = (pattern(up, seed), pattern(down, !seed));
        let pipes = Arc::new(Pipes::with(2, pages << 12, promote_after));
        let (end, received_down, received_up, counted) = runtime.block_on(async {
            let Tunnel { near, far, activity, end } = join(narrow_pair(buffers).await, narrow_pair(buffers).await, &pipes);
            let (received_down, received_up) = tokio::join!(
                send_and_receive(near, &sent_up, seed),
                send_and_receive(far, &sent_down, !seed),
            );
            (end.await.unwrap(), received_down, received_up, (activity.up(), activity.down()))
        });
        prop_assert_eq!(end, End::Finished);
        prop_assert!(received_up == sent_up && received_down == sent_down);
        prop_assert_eq!(counted, (up as u64, down as u64));
        prop_assert_eq!((pipes.in_use(), buffer::leased()), (0, 0));
    }
}

async fn send_and_receive(mut stream: TcpStream, bytes: &[u8], seed: u64) -> Vec<u8> {
    let (mut reader, mut writer) = stream.split();
    let sending = async move {
        let mut rest = bytes;
        for turn in 0.. {
            let length = 1 + usize::try_from(seed.rotate_left(turn * 7) % 40_000).unwrap();
            let (block, after) = rest.split_at(length.min(rest.len()));
            writer.write_all(block).await.unwrap();
            tokio::task::yield_now().await;
            rest = after;
            if rest.is_empty() {
                break;
            }
        }
        writer.shutdown().await.unwrap();
    };
    let receiving = async move {
        let mut received = Vec::new();
        let mut block = vec![0; 50_000];
        for turn in 0.. {
            let length = 1 + usize::try_from(seed.rotate_right(turn * 5) % 50_000).unwrap();
            match reader.read(&mut block[..length]).await.unwrap() {
                0 => break,
                n => received.extend_from_slice(&block[..n]),
            }
        }
        received
    };
    tokio::join!(sending, receiving).1
}

/// The end of the input comes while the pipe is full and nobody takes its bytes.
#[tokio::test]
async fn an_end_waits_for_what_is_in_the_pipe() {
    let pipes = eager(1);
    let bytes = pattern(300_000, 5);
    let mut tunnel = blocked(&pipes, &bytes).await;
    tunnel.near.shutdown().await.unwrap();
    settle().await;
    assert!(!tunnel.activity.is_half_closed());
    assert_eq!(pipes.in_use(), 1);
    let mut received = Vec::new();
    tunnel.far.read_to_end(&mut received).await.unwrap();
    assert!(received == bytes);
    assert!(tunnel.activity.is_half_closed());
    assert_eq!((pipes.in_use(), pipes.opened()), (0, 1), "it is kept, empty");
    tunnel.far.shutdown().await.unwrap();
    assert_eq!(tunnel.end.await.unwrap(), End::Finished);
}

/// A pipe of 16 pages takes 16 pieces, however small: 200 of them need several turns, and the last one must not wait for
/// another byte.
#[tokio::test]
async fn many_tiny_segments_use_up_the_pipe_and_all_arrive() {
    let (mut client, mut upstream) = (pair().await, pair().await);
    client.0.set_nodelay(true).unwrap();
    let bytes = pattern(200, 1);
    for byte in &bytes {
        client.0.write_all(&[*byte]).await.unwrap();
    }
    // All are there before the first read.
    until(|| {
        SockRef::from(&client.1)
            .peek(&mut [std::mem::MaybeUninit::uninit(); 200])
            .is_ok_and(|there| there == 200)
    })
    .await;
    let before = spliced();
    let (pipes, activity) = (Pipes::with(1, 1 << 16, 0), Activity::new(&Clock::new()));
    let mut received = vec![0; 200];
    tokio::select! {
        end = relay(&mut client.1, &mut upstream.1, &activity, &pipes) => panic!("{end:?}"),
        read = upstream.0.read_exact(&mut received) => assert_eq!(read.unwrap(), 200),
    }
    assert_eq!(received, bytes);
    assert!(spliced() - before <= 2 * 200 + 2, "{}", spliced() - before);
}

/// While a tunnel waits, for its reader or its writer, it makes no system calls; while it moves, few.
#[tokio::test]
async fn nothing_spins() {
    let pipes = eager(1);
    let mut idle = join(pair().await, pair().await, &pipes);
    idle.near.write_all(b"ping").await.unwrap();
    idle.far.read_exact(&mut [0; 4]).await.unwrap();
    settle().await;
    let before = spliced();
    settle().await;
    assert_eq!(spliced(), before, "idle");
    idle.end.abort();

    let mut tunnel = blocked(&pipes, &vec![1; 300_000]).await;
    settle().await;
    let before = spliced();
    settle().await;
    assert_eq!(spliced(), before, "blocked");

    let mut bytes = vec![0; 300_000];
    tunnel.far.read_exact(&mut bytes).await.unwrap();
    let Tunnel { mut near, mut far, .. } = join(pair().await, pair().await, &pipes);
    let before = spliced();
    let sending = async {
        let bytes = vec![1; 1 << 20];
        for _ in 0..MIB {
            near.write_all(&bytes).await.unwrap();
        }
    };
    let receiving = async {
        let mut bytes = vec![0; 1 << 20];
        for _ in 0..MIB {
            far.read_exact(&mut bytes).await.unwrap();
        }
    };
    tokio::join!(sending, receiving);
    let calls = (spliced() - before) / MIB;
    assert!(calls <= 150, "{calls} calls for each MiB, with a pipe of 64 KiB");
}

/// The last words of an upstream that goes while bytes for it are in a pipe arrive; those bytes are gone with the pipe.
#[tokio::test]
async fn a_reset_discards_what_is_in_the_pipe() {
    let pipes = eager(1);
    let Tunnel {
        mut near,
        mut far,
        end,
        activity,
    } = blocked(&pipes, &vec![1; 300_000]).await;
    far.write_all(b"last words").await.unwrap();
    reset(far);
    let mut words = [0; 10];
    near.read_exact(&mut words).await.unwrap();
    assert_eq!(&words, b"last words");
    assert_reset(near).await;
    assert_eq!(end.await.unwrap(), End::UpstreamReset);
    assert!(activity.up() < 300_000);
    assert_eq!(pipes.in_use(), 0);
}

/// What one tunnel leaves in its pipe when it is cut is never seen by the next.
#[tokio::test]
async fn a_pipe_with_bytes_is_never_used_again() {
    let pipes = eager(1);
    let Tunnel { end, near, far, .. } = blocked(&pipes, &vec![1; 300_000]).await;
    end.abort();
    assert!(end.await.unwrap_err().is_cancelled());
    assert_eq!((pipes.in_use(), pipes.opened()), (0, 0));
    drop((near, far));
    let mut next = join(pair().await, pair().await, &pipes);
    next.near.write_all(b"mine").await.unwrap();
    next.near.shutdown().await.unwrap();
    let mut received = Vec::new();
    next.far.read_to_end(&mut received).await.unwrap();
    assert_eq!(received, b"mine");
    assert_eq!((pipes.in_use(), pipes.opened()), (0, 1));
}

#[tokio::test]
async fn without_a_free_pipe_bytes_are_copied() {
    let pipes = eager(1);
    let holder = blocked(&pipes, &vec![1; 300_000]).await;
    let bytes = pattern(3_000_000, 3);
    let mut other = join(pair().await, pair().await, &pipes);
    let before = spliced();
    let sending = async {
        other.near.write_all(&bytes).await.unwrap();
        other.near.shutdown().await.unwrap();
    };
    let mut received = Vec::new();
    let ((), read) = tokio::join!(sending, other.far.read_to_end(&mut received));
    read.unwrap();
    assert!(received == bytes);
    assert_eq!((spliced(), pipes.in_use(), pipes.opened()), (before, 1, 1));
    drop(holder);
}

/// What calls itself a pipe and cannot be spliced: nothing is lost, and nobody tries again.
#[tokio::test]
async fn a_system_that_does_not_splice_copies() {
    let pipes = eager(4);
    pipes.spoil();
    let mut tunnel = join(pair().await, pair().await, &pipes);
    let before = spliced();
    for _ in 0..3 {
        tunnel.near.write_all(b"question").await.unwrap();
        let mut bytes = [0; 8];
        tunnel.far.read_exact(&mut bytes).await.unwrap();
        assert_eq!(&bytes, b"question");
    }
    assert_eq!((spliced() - before, pipes.opened()), (1, 0));
    assert!(pipes.take().is_none());
}

/// Splicing is for what has proven bulk, and ends when that does.
#[tokio::test]
async fn only_bulk_is_spliced() {
    let pipes = Arc::new(Pipes::with(1, 1 << 18, 16));
    let (client, upstream) = (pair().await, pair().await);
    let mut tunnel = join(client, upstream, &pipes);
    ping(&mut tunnel, 1000).await;
    assert_eq!((spliced(), pipes.opened()), (0, 0));

    let before = tunnel.activity.up();
    // Until it is: how much of it a read finds is the kernel's business.
    let bulk = async {
        let (mut sent, block) = (0, vec![0; 1 << 20]);
        while spliced() == 0 {
            sent += tunnel.near.write(&block).await.unwrap();
        }
        sent
    };
    let mut taken = 0;
    let mut bytes = vec![0; 1 << 20];
    let sent = {
        let mut bulk = std::pin::pin!(bulk);
        loop {
            tokio::select! {
                biased;
                sent = &mut bulk => break sent,
                read = tunnel.far.read(&mut bytes) => taken += read.unwrap(),
            }
        }
    };
    while taken < sent {
        taken += tunnel.far.read(&mut bytes).await.unwrap();
    }
    assert!(tunnel.activity.up() - before >= 1 << 20);

    ping(&mut tunnel, 10).await;
    let before = spliced();
    ping(&mut tunnel, 10).await;
    assert_eq!((spliced(), pipes.in_use()), (before, 0));
}

async fn ping(tunnel: &mut Tunnel, times: usize) {
    for _ in 0..times {
        tunnel.near.write_all(b"ping").await.unwrap();
        let mut bytes = [0; 4];
        tunnel.far.read_exact(&mut bytes).await.unwrap();
        tunnel.far.write_all(&bytes).await.unwrap();
        tunnel.near.read_exact(&mut bytes).await.unwrap();
    }
}

/// One that asks waits for a bounded number of bytes of others, not for as many as they have.
#[tokio::test]
async fn a_ping_beside_32_streams_waits_for_little() {
    let pipes = eager(64);
    let mut streams = Vec::new();
    for _ in 0..32 {
        let Tunnel {
            near,
            far,
            activity,
            end,
        } = join(pair().await, pair().await, &pipes);
        let mut sending = near;
        let mut receiving = far;
        let sender = tokio::spawn(async move {
            let block = vec![0; 1 << 16];
            while sending.write_all(&block).await.is_ok() {
                tokio::task::yield_now().await;
            }
        });
        let receiver = tokio::spawn(async move {
            let mut block = vec![0; 1 << 16];
            while receiving.read(&mut block).await.is_ok_and(|read| read > 0) {
                tokio::task::yield_now().await;
            }
        });
        streams.push((activity, [sender, receiver], end));
    }
    let moved = || streams.iter().map(|(activity, ..)| activity.up()).sum::<u64>();
    let mut tunnel = join(pair().await, pair().await, &pipes);
    until(|| moved() > 64 << 20).await;
    for _ in 0..50 {
        let before = moved();
        ping(&mut tunnel, 1).await;
        let waited_for = moved() - before;
        assert!(waited_for <= 16 << 20, "{} MiB", waited_for >> 20);
    }
    for (_, tasks, end) in streams {
        tasks.iter().for_each(tokio::task::JoinHandle::abort);
        end.abort();
    }
}

/// 100,000 pipes are used by relays that are dropped in any state, on the same few sockets.
#[tokio::test]
async fn no_descriptor_is_left_behind() {
    let pipes = eager(4);
    let (mut client, mut upstream) = (pair().await, pair().await);
    let activity = Activity::new(&Clock::new());
    // What the runtime opens for itself is open by now.
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let before = descriptors();
    for number in 0..100_000_u32 {
        client.0.write_all(b"p").await.unwrap();
        let byte = &mut [0];
        if number % 3 == 0 {
            // Dropped with the byte in it.
            let mut pipe = pipes.take().unwrap();
            client.1.readable().await.unwrap();
            assert_eq!(pipe.fill(&client.1, pipes.size).unwrap(), 1);
            pipes.give_back(pipe);
        } else {
            tokio::select! {
                biased;
                end = relay(&mut client.1, &mut upstream.1, &activity, &pipes) => panic!("{end:?}"),
                read = upstream.0.read_exact(byte) => assert_eq!(read.unwrap(), 1),
            }
        }
    }
    assert!(pipes.opened() <= 1);
    // Other tests of the same process may open and close some meanwhile.
    assert!(descriptors() < before + 1000);
    drop(pipes);
}

/// Neither a ping nor bulk allocates anything, copied or spliced, once there are buffers and a pipe.
#[test]
fn no_byte_costs_an_allocation() {
    for pipes in [Arc::new(Pipes::with(0, 1 << 16, 0)), eager(1)] {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let mut tunnel = runtime.block_on(async { join(pair().await, pair().await, &pipes) });
        let sizes = [buffer::Size::Small, buffer::Size::Middle, buffer::Size::Large];
        drop(sizes.map(|size| [buffer::borrow(size), buffer::borrow(size)]));
        let (sent, mut received) = (vec![0; 1 << 20], vec![0; 1 << 20]);
        let mut use_it = || {
            runtime.block_on(async {
                ping(&mut tunnel, 100).await;
                for _ in 0..8 {
                    let Tunnel { near, far, .. } = &mut tunnel;
                    let (sending, receiving) = tokio::join!(near.write_all(&sent), far.read_exact(&mut received));
                    sending.unwrap();
                    receiving.unwrap();
                }
            });
        };
        use_it();
        let counted = allocation_counter::measure(use_it);
        // The runtime's own list of those that have yielded, which begins anew with each `block_on`.
        assert!(counted.count_total <= 1, "{counted:?}");
        assert_eq!(tunnel.activity.up(), 2 * (400 + (8 << 20)));
    }
}

/// The state of a direction grows by nothing for being able to splice.
#[test]
fn a_direction_stays_small() {
    assert!(size_of::<Copy>() <= 48, "{}", size_of::<Copy>());
    assert_eq!(size_of::<OwnedFd>(), 4);
}

const MIB: usize = 64;
/// Against a hang only.
const PATIENCE: Duration = Duration::from_mins(1);
