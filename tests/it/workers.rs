//! Workers that share a load: a full one gives tunnels away, and nobody outside can tell.
//! Must not measure. Who has a tunnel is what the kernel says: in whose epoll its sockets are.
//! Called by `tests/run`, alone on the machine.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::hint::spin_loop;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::support::DEADLINE;
use crate::support::client::Client;
use crate::support::origin::{Origin, pattern};
use crate::support::setup::Setup;

/// The one that has all tunnels is kept from running, so that it is full whatever machine this is; then some of them go on
/// with another one, bytes under way and all.
#[test]
fn tunnels_of_a_full_worker_go_on_with_another_one() {
    let origin = Origin::start("127.0.0.1:0", |tap| echo(&tap.stream));
    let target = origin.address.to_string();
    let proxy = Setup::new(&format!(
        "allow: [{{to: [\"tcp://{target}\"], addresses: [127.0.0.0/8]}}]\n"
    ))
    .start();
    let process = Process(proxy.pid());
    let open = || Client::tunnel(proxy.address(), &target);
    // Behind it, all that comes to be watched belongs to a tunnel; the listener may be watched later than it is bound.
    let mut clients = vec![open()];
    let before = process.sockets();
    clients.extend((0..TUNNELS).map(|_| open()));
    let mut homes = process.sockets();
    homes.retain(|socket, _| !before.contains_key(socket));
    assert_eq!(homes.len(), TUNNELS * 2, "{homes:?}");

    let enough = AtomicBool::new(false);
    let everywhere = sched_getaffinity(None).unwrap();
    let somewhere = one_of(&everywhere);
    let (moved, sent) = thread::scope(|scope| {
        let streams = clients.iter().map(|client| scope.spawn(|| stream(client, &enough)));
        let streams: Vec<_> = streams.collect();
        let full = process.busiest_worker();
        for _ in 0..RIVALS {
            scope.spawn(|| {
                sched_setaffinity(None, &somewhere).unwrap();
                while !enough.load(Ordering::Relaxed) {
                    spin_loop();
                }
            });
        }
        sched_setaffinity(Some(full), &somewhere).unwrap();
        let moved = wait(|| {
            let now = process.sockets();
            let moved = |(socket, home)| now.get(socket).is_some_and(|watched| watched.is_disjoint(home));
            homes.iter().any(moved)
        });
        sched_setaffinity(Some(full), &everywhere).unwrap();
        enough.store(true, Ordering::Relaxed);
        let sent: Vec<_> = streams.into_iter().map(|stream| stream.join().unwrap()).collect();
        (moved, sent)
    });
    assert!(moved, "all sockets are where they were: {:?}", process.sockets());

    proxy.wait_metric("sluicegate_open_connections", &[], |open| open == 0);
    assert_eq!(proxy.metric("sluicegate_open_tunnels", &[]), 0);
    for direction in ["up", "down"] {
        let counted = proxy.metric("sluicegate_bytes_total", &[("direction", direction)]);
        assert_eq!(counted, sent.iter().sum::<u64>(), "{direction}");
    }
    let mut expected: Vec<_> = clients
        .iter()
        .zip(sent)
        .map(|(client, sent)| (u64::from(client.stream.local_addr().unwrap().port()), sent, sent))
        .collect();
    expected.sort_unstable();
    let outcome = proxy.stop();
    let mut recorded: Vec<_> = outcome
        .tunnels
        .iter()
        .map(|tunnel| {
            assert_eq!(tunnel.text("end"), "finished");
            (
                tunnel.number("source_port"),
                tunnel.number("up_bytes"),
                tunnel.number("down_bytes"),
            )
        })
        .collect();
    recorded.sort_unstable();
    assert_eq!(recorded, expected);
}

/// Sends until it is enough, then some more, and checks that all of it comes back. Gives the bytes that were sent.
fn stream(client: &Client, enough: &AtomicBool) -> u64 {
    let block = pattern(PERIOD << 10);
    let sent = thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let (mut stream, mut blocks, mut left) = (&client.stream, 0, LAST_BLOCKS);
            while left > 0 {
                if enough.load(Ordering::Relaxed) {
                    left -= 1;
                }
                stream.write_all(&block).expect("the proxy takes bytes");
                blocks += 1;
            }
            stream.shutdown(Shutdown::Write).unwrap();
            blocks * block.len()
        });
        let (mut stream, mut received, mut bytes) = (&client.stream, 0, vec![0; PERIOD << 9]);
        loop {
            let read = stream.read(&mut bytes).expect("the bytes come");
            if read == 0 {
                break;
            }
            let from = received % PERIOD;
            assert!(
                bytes[..read] == block[from..from + read],
                "other bytes after {received}"
            );
            received += read;
        }
        let sent = sender.join().unwrap();
        assert_eq!(received, sent, "what was sent comes back");
        sent
    });
    sent as u64
}

fn echo(mut stream: &TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; 256 << 10];
    loop {
        match stream.read(&mut buffer)? {
            0 => return stream.shutdown(Shutdown::Write),
            len => stream.write_all(&buffer[..len])?,
        }
    }
}

/// A process from outside.
#[derive(Clone, Copy, Debug)]
struct Process(Pid);

impl Process {
    /// Its sockets, and in which of its epolls each one is.
    fn sockets(self) -> HashMap<String, BTreeSet<String>> {
        let folder = format!("/proc/{}", self.0);
        let entries = fs::read_dir(format!("{folder}/fd")).unwrap().map(Result::unwrap);
        let names = entries.filter_map(|entry| {
            let name = fs::read_link(entry.path()).ok()?.into_os_string().into_string().ok()?;
            Some((entry.file_name().into_string().ok()?, name))
        });
        let (epolls, others): (Vec<_>, HashMap<_, _>) = {
            let (epolls, others): (Vec<_>, Vec<_>) = names.partition(|(_, name)| name.contains("eventpoll"));
            (epolls, others.into_iter().collect())
        };
        let mut sockets: HashMap<_, BTreeSet<_>> = HashMap::new();
        for (epoll, _) in epolls {
            // proc_pid_fdinfo(5): a line for each descriptor that is waited for.
            let text = fs::read_to_string(format!("{folder}/fdinfo/{epoll}")).unwrap_or_default();
            let watched = text.lines().filter_map(|line| line.strip_prefix("tfd:"));
            let watched = watched.filter_map(|rest| others.get(rest.split_whitespace().next()?));
            for name in watched.filter(|name| name.starts_with("socket:")) {
                sockets.entry(name.clone()).or_default().insert(epoll.clone());
            }
        }
        sockets
    }

    /// The thread that has carried by far the most.
    fn busiest_worker(self) -> Pid {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.0)).unwrap();
        let tasks = tasks.map(|task| task.unwrap().path());
        let workers: Vec<_> = tasks
            .filter(|task| fs::read_to_string(task.join("comm")).is_ok_and(|name| name == "data\n"))
            .collect();
        assert!(workers.len() > 1, "one CPU has one worker, and this test needs two");
        let mut busiest = None;
        let found = wait(|| {
            let ran = workers.iter().map(|task| {
                let times = fs::read_to_string(task.join("schedstat")).unwrap();
                let ran: u64 = times.split_whitespace().next().unwrap().parse().unwrap();
                (Duration::from_nanos(ran), task)
            });
            let mut ran: Vec<_> = ran.collect();
            ran.sort_unstable();
            let [.., (second, _), (first, task)] = &ran[..] else {
                return false;
            };
            busiest = Some(task.file_name().unwrap().to_str().unwrap().parse().unwrap());
            *first > *second + BY_FAR
        });
        assert!(found, "no worker carries all tunnels");
        busiest.and_then(Pid::from_raw).unwrap()
    }
}

/// Asks again and again; `false` if the answer is never yes.
fn wait(mut until: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + DEADLINE;
    while !until() {
        if Instant::now() > end {
            return false;
        }
        thread::park_timeout(TURN);
    }
    true
}

fn one_of(cpus: &CpuSet) -> CpuSet {
    let mut one = CpuSet::new();
    let first = (0..CpuSet::MAX_CPU).find(|cpu| cpus.is_set(*cpu));
    one.set(first.expect("a test runs somewhere"));
    one
}

const TUNNELS: usize = 4;
/// Of [`pattern`].
const PERIOD: usize = 251;
/// For each tunnel after some have moved.
const LAST_BLOCKS: usize = 16;
/// More than a worker without tunnels needs in a minute.
const BY_FAR: Duration = Duration::from_millis(100);
/// Threads that share a CPU with the full worker. That one has less than 6 % of it then, and needs more.
const RIVALS: usize = 16;
/// Between two looks.
const TURN: Duration = Duration::from_millis(10);
