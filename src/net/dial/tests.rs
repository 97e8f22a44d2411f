//! The race, against scripted DNS and a scripted network in paused time.
//! Must not open a socket; who is dialled when is what counts.
//! Called by the test run.

use std::collections::HashMap;
use std::sync::Mutex;

use super::*;
use crate::net::scripted::{Line, Script, found, ms, name, nothing, resolver, silence};

const ASKER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
const A: &str = "192.0.2.1";
const B: &str = "192.0.2.2";
const C: &str = "192.0.2.3";
const A6: &str = "2001:db8::1";
const B6: &str = "2001:db8::2";

/// A network where each address accepts or fails after a while; others never answer.
#[derive(Default)]
struct Network {
    hosts: HashMap<IpAddr, (Duration, Option<io::ErrorKind>)>,
    start: Mutex<Option<Instant>>,
    dialled: Mutex<Vec<(String, u64)>>,
}

impl Network {
    fn accepts(mut self, address: &str, after: u64) -> Self {
        self.hosts.insert(address.parse().unwrap(), (ms(after), None));
        self
    }

    fn fails(mut self, address: &str, after: u64, error: io::ErrorKind) -> Self {
        self.hosts.insert(address.parse().unwrap(), (ms(after), Some(error)));
        self
    }

    /// What was dialled, and when, in milliseconds.
    fn dialled(&self) -> Vec<(String, u64)> {
        self.dialled.lock().unwrap().clone()
    }
}

impl Connect for Network {
    type Stream = SocketAddr;

    async fn connect(&self, to: SocketAddr) -> io::Result<SocketAddr> {
        let start = *self.start.lock().unwrap().get_or_insert_with(Instant::now);
        let at = u64::try_from(start.elapsed().as_millis()).unwrap();
        self.dialled.lock().unwrap().push((to.ip().to_string(), at));
        match self.hosts.get(&to.ip()) {
            None => std::future::pending().await,
            Some((after, outcome)) => {
                tokio::time::sleep(*after).await;
                outcome.map_or(Ok(to), |kind| Err(kind.into()))
            }
        }
    }
}

#[expect(clippy::unnecessary_wraps, reason = "it is a judge")]
fn anything(_: IpAddr) -> Result<(), Reason> {
    Ok(())
}

async fn dialled(
    network: &Network,
    lines: impl Fn(&str, Family) -> Line + Send + Sync + 'static,
    judge: Judge<'_>,
) -> Result<Dialled<SocketAddr>, DialError> {
    dialled_by(network, &resolver(lines), judge).await
}

async fn dialled_by(
    network: &Network,
    resolver: &Resolver<Script>,
    judge: Judge<'_>,
) -> Result<Dialled<SocketAddr>, DialError> {
    *network.start.lock().unwrap() = Some(Instant::now());
    let limits = Limits::within(Duration::from_secs(10));
    dial_through(
        network,
        resolver,
        ASKER,
        &Host::Name(name("a.test")),
        Port::HTTPS,
        judge,
        &limits,
    )
    .await
}

fn at(address: &str, at: u64) -> (String, u64) {
    (address.to_owned(), at)
}

#[tokio::test(start_paused = true)]
async fn ipv6_goes_first_if_it_comes_first() {
    let network = Network::default().accepts(A, 5).accepts(A6, 20);
    let lines = |_: &str, family| match family {
        Family::V6 => (ms(10), found(&[A6], 60)),
        Family::V4 => (ms(30), found(&[A], 60)),
    };
    let dialled = dialled(&network, lines, &anything).await.unwrap();
    assert_eq!(
        (dialled.address.to_string(), dialled.stream.port()),
        (A6.to_owned(), 443)
    );
    assert_eq!((dialled.dns_took, dialled.connect_took), (ms(10), ms(20)));
    assert_eq!(network.dialled(), [at(A6, 10)]);
}

#[tokio::test(start_paused = true)]
async fn ipv4_waits_a_moment_for_ipv6() {
    let network = Network::default().accepts(A, 5).accepts(A6, 5);
    let lines = |_: &str, family| match family {
        Family::V6 => (ms(40), found(&[A6], 60)),
        Family::V4 => (ms(10), found(&[A], 60)),
    };
    assert_eq!(
        dialled(&network, lines, &anything).await.unwrap().address.to_string(),
        A6
    );
    let network = Network::default().accepts(A, 5).accepts(A6, 5);
    let lines = |_: &str, family| match family {
        Family::V6 => (ms(2000), found(&[A6], 60)),
        Family::V4 => (ms(10), found(&[A], 60)),
    };
    assert_eq!(
        dialled(&network, lines, &anything).await.unwrap().address.to_string(),
        A
    );
    assert_eq!(network.dialled(), [at(A, 60)]);
}

/// What is remembered of one family has no right of way.
#[tokio::test(start_paused = true)]
async fn remembered_ipv4_waits_a_moment_for_ipv6() {
    let network = Network::default().accepts(A, 5).accepts(A6, 5);
    let resolver = resolver(|_, family| match family {
        Family::V6 => (ms(20), found(&[A6], 1)),
        Family::V4 => (ms(0), found(&[A], 3600)),
    });
    dialled_by(&network, &resolver, &anything).await.unwrap();
    tokio::time::sleep(ms(1001)).await;
    dialled_by(&network, &resolver, &anything).await.unwrap();
    assert_eq!(network.dialled(), [at(A6, 20), at(A6, 20)]);
}

#[tokio::test(start_paused = true)]
async fn ipv4_does_not_wait_for_ipv6_that_is_not_there() {
    let network = Network::default().accepts(A, 5);
    let lines = |_: &str, family| match family {
        Family::V6 => (ms(15), nothing(ResolveError::NoAddress, 60)),
        Family::V4 => (ms(10), found(&[A], 60)),
    };
    dialled(&network, lines, &anything).await.unwrap();
    assert_eq!(network.dialled(), [at(A, 15)]);
}

/// D23: a dead IPv6 costs less than 300 ms.
#[tokio::test(start_paused = true)]
async fn dead_ipv6_falls_to_ipv4() {
    let network = Network::default().accepts(A, 5);
    let lines = |_: &str, family| match family {
        Family::V6 => (ms(1), found(&[A6, B6], 60)),
        Family::V4 => (ms(1), found(&[A, B], 60)),
    };
    let dialled = dialled(&network, lines, &anything).await.unwrap();
    assert_eq!(dialled.address.to_string(), A);
    assert_eq!(network.dialled(), [at(A6, 1), at(A, 251)]);
    assert_eq!(dialled.connect_took, ms(255));
    // Without any route to it, it costs nothing.
    let network = Network::default()
        .accepts(A, 5)
        .fails(A6, 0, io::ErrorKind::NetworkUnreachable);
    dialled_by(&network, &resolver(lines), &anything).await.unwrap();
    assert_eq!(network.dialled()[..2], [at(A6, 1), at(A, 1)]);
}

#[tokio::test(start_paused = true)]
async fn families_take_turns_and_failures_do_not_wait() {
    let refused = io::ErrorKind::ConnectionRefused;
    let network = Network::default()
        .fails(A6, 10, refused)
        .fails(B, 100, refused)
        .accepts(C, 5);
    let lines = |_: &str, family| match family {
        Family::V6 => (ms(0), found(&[A6, B6], 60)),
        Family::V4 => (ms(0), found(&[A, B, C], 60)),
    };
    let dialled = dialled(&network, lines, &anything).await.unwrap();
    assert_eq!(dialled.address.to_string(), C);
    assert_eq!(
        network.dialled(),
        [at(A6, 0), at(A, 10), at(B6, 260), at(B, 510), at(C, 610)]
    );
}

#[tokio::test(start_paused = true)]
async fn addresses_of_a_late_answer_join_the_race() {
    let network = Network::default()
        .accepts(A, 5)
        .fails(A6, 10, io::ErrorKind::ConnectionRefused);
    let lines = |_: &str, family| match family {
        Family::V6 => (ms(0), found(&[A6], 60)),
        Family::V4 => (ms(1000), found(&[A], 60)),
    };
    dialled(&network, lines, &anything).await.unwrap();
    assert_eq!(network.dialled(), [at(A6, 0), at(A, 1000)]);
}

#[tokio::test(start_paused = true)]
async fn only_judged_addresses_are_dialled() {
    let network = Network::default().accepts(A, 5).accepts(B, 5).accepts(A6, 5);
    let judged = Mutex::new(Vec::new());
    let judge = |address: IpAddr| {
        judged.lock().unwrap().push(address.to_string());
        if address.to_string() == B {
            Ok(())
        } else {
            Err(Reason::ForbiddenAddress)
        }
    };
    let lines = |_: &str, family| match family {
        Family::V6 => (ms(0), found(&[A6], 60)),
        Family::V4 => (ms(0), found(&[A, B], 60)),
    };
    let dialled = dialled(&network, lines, &judge).await.unwrap();
    assert_eq!(dialled.address.to_string(), B);
    assert_eq!(network.dialled(), [at(B, 0)]);
    let refused: Vec<_> = dialled
        .refused
        .iter()
        .map(|(address, reason)| (address.to_string(), *reason))
        .collect();
    assert_eq!(
        refused,
        [A6, A].map(|address| (address.to_owned(), Reason::ForbiddenAddress))
    );
    assert_eq!(*judged.lock().unwrap(), [A6, A, B]);
}

#[tokio::test(start_paused = true)]
async fn with_all_addresses_refused_nothing_is_dialled() {
    let network = Network::default();
    let judge = |address: IpAddr| {
        Err(if address.is_ipv6() {
            Reason::DenyRule
        } else {
            Reason::ForbiddenAddress
        })
    };
    let lines = |_: &str, family| match family {
        Family::V6 => (ms(5), found(&[A6], 60)),
        Family::V4 => (ms(0), found(&[A], 60)),
    };
    let error = dialled(&network, lines, &judge).await.unwrap_err();
    assert_eq!((error.reason, error.refused.len()), (Reason::DenyRule, 2));
    assert_eq!(
        error.detail,
        "a.test has no address that may be dialled: 192.0.2.1 (forbidden_address), 2001:db8::1 (deny_rule)"
    );
    // The other family's trouble does not hide it.
    let lines = |_: &str, family| match family {
        Family::V6 => (ms(2000), silence()),
        Family::V4 => (ms(0), found(&[A], 60)),
    };
    let error = dialled(&network, lines, &judge).await.unwrap_err();
    assert_eq!(error.reason, Reason::ForbiddenAddress);
    assert_eq!(network.dialled(), []);
}

/// D10: what is dialled is what was judged, even if the name has moved since; and there is one question.
#[tokio::test(start_paused = true)]
async fn a_rebinding_name_is_asked_once_per_family() {
    let network = Network::default().accepts(A, 5000 - 1);
    let asked = std::sync::atomic::AtomicU32::new(0);
    let resolver = resolver(move |_, family| match family {
        Family::V6 => (ms(0), nothing(ResolveError::NoAddress, 0)),
        Family::V4 if asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 0 => (ms(0), found(&[A], 0)),
        Family::V4 => (ms(0), found(&["127.0.0.1"], 0)),
    });
    let dialled = dialled_by(&network, &resolver, &anything).await.unwrap();
    assert_eq!(dialled.address.to_string(), A);
    assert_eq!(resolver.servers().asked().len(), 2);
    assert_eq!(network.dialled(), [at(A, 0)]);
}

#[tokio::test(start_paused = true)]
async fn dns_trouble_has_its_reasons() {
    use ResolveError::{Busy, Failed, NoAddress, NotFound, TimedOut, TooMany};
    let failed = || Failed("DNS server 192.0.2.53:53: it answered \"Server Failure\"".into());
    for (v6, v4, reason, detail) in [
        (NotFound, NotFound, Reason::Dns, "a.test does not exist (NXDOMAIN)"),
        (NotFound, TimedOut, Reason::Dns, "a.test does not exist (NXDOMAIN)"),
        (
            NoAddress,
            NoAddress,
            Reason::Dns,
            "a.test exists, but has neither A nor AAAA records",
        ),
        (
            NoAddress,
            TimedOut,
            Reason::DnsTimeout,
            "no DNS server answered the question for A records of a.test",
        ),
        (
            TimedOut,
            TimedOut,
            Reason::DnsTimeout,
            "no DNS server answered the question for AAAA records of a.test",
        ),
        (
            failed(),
            TimedOut,
            Reason::DnsTimeout,
            "no DNS server answered the question for A records of a.test",
        ),
        (
            NoAddress,
            failed(),
            Reason::Dns,
            "a.test has no usable A records: DNS server 192.0.2.53:53: it answered \"Server Failure\"",
        ),
        (
            TimedOut,
            TooMany,
            Reason::Limit,
            "this client waits for too many names at once",
        ),
        (
            Busy,
            NoAddress,
            Reason::Limit,
            "the proxy waits for too many names at once",
        ),
    ] {
        let lines = move |_: &str, family| {
            let error = match family {
                Family::V6 => v6.clone(),
                Family::V4 => v4.clone(),
            };
            (ms(3), nothing(error, 60))
        };
        let error = dialled(&Network::default(), lines, &anything).await.unwrap_err();
        assert_eq!(
            (error.reason, error.detail.as_str(), error.dns_took),
            (reason, detail, ms(3))
        );
    }
}

#[tokio::test(start_paused = true)]
async fn connect_trouble_has_its_reasons() {
    let both = |_: &str, family| match family {
        Family::V6 => (ms(2), found(&[A6], 60)),
        Family::V4 => (ms(2), found(&[A, B], 60)),
    };
    let refused = io::ErrorKind::ConnectionRefused;
    let network = Network::default()
        .fails(A6, 0, io::ErrorKind::NetworkUnreachable)
        .fails(A, 1, refused)
        .fails(B, 1, refused);
    let error = dialled(&network, both, &anything).await.unwrap_err();
    assert_eq!((error.reason, error.dns_took), (Reason::Connect, ms(2)));
    assert_eq!(
        error.detail,
        "a.test cannot be reached: 2001:db8::1 (network unreachable), 192.0.2.1 (connection refused), \
         192.0.2.2 (connection refused)"
    );
    // Nobody answers: each address has 5 s, and they overlap.
    let network = Network::default().fails(A6, 0, io::ErrorKind::NetworkUnreachable);
    let start = Instant::now();
    let error = dialled(&network, both, &anything).await.unwrap_err();
    assert_eq!((error.reason, start.elapsed()), (Reason::ConnectTimeout, ms(5252)));
    assert!(error.detail.ends_with("192.0.2.2 (no answer)"), "{}", error.detail);
}

#[tokio::test(start_paused = true)]
async fn the_time_for_everything_is_bounded() {
    let addresses: Vec<_> = (0..64).map(|i| format!("192.0.2.{i}")).collect();
    let lines = move |_: &str, family| match family {
        Family::V6 => (ms(0), nothing(ResolveError::NoAddress, 60)),
        Family::V4 => (
            ms(0),
            found(&addresses.iter().map(String::as_str).collect::<Vec<_>>(), 60),
        ),
    };
    let network = Network::default();
    let start = Instant::now();
    let error = dialled(&network, lines, &anything).await.unwrap_err();
    assert_eq!((error.reason, start.elapsed()), (Reason::ConnectTimeout, ms(10_000)));
    assert_eq!(network.dialled().len(), 2 * MAX_ATTEMPTS, "8 at once, for 5 s each");
    // DNS alone may use it up too.
    let start = Instant::now();
    let error = dialled(&network, |_: &str, _| (ms(60_000), silence()), &anything)
        .await
        .unwrap_err();
    assert_eq!((error.reason, start.elapsed()), (Reason::DnsTimeout, ms(10_000)));
    assert_eq!(error.detail, "a.test was not resolved in time");
}

#[tokio::test(start_paused = true)]
async fn a_literal_address_is_judged_and_dialled_without_a_question() {
    let network = Network::default().accepts(A6, 7);
    let resolver = resolver(|_, _| panic!("nobody is asked"));
    let host = Host::parse(format!("[{A6}]").as_bytes()).unwrap();
    let limits = Limits::within(Duration::ZERO);
    let dialled = dial_through(&network, &resolver, ASKER, &host, Port::HTTPS, &anything, &limits)
        .await
        .unwrap();
    assert_eq!((dialled.dns_took, dialled.connect_took), (ms(0), ms(7)));
    let judge = |_: IpAddr| Err(Reason::SelfAddress);
    let error = dial_through(&network, &resolver, ASKER, &host, Port::HTTPS, &judge, &limits)
        .await
        .unwrap_err();
    assert_eq!(error.reason, Reason::SelfAddress);
    assert_eq!(network.dialled().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn aliases_and_staleness_are_told() {
    let resolver = resolver(|_, family| match family {
        Family::V6 => (ms(0), nothing(ResolveError::NoAddress, 3600)),
        Family::V4 => {
            let mut outcome = found(&[A], 1);
            outcome.as_mut().unwrap().aliases = [name("b.test"), name("c.test")].into();
            (ms(0), outcome)
        }
    });
    let network = Network::default().accepts(A, 1);
    let fresh = dialled_by(&network, &resolver, &anything).await.unwrap();
    assert_eq!(
        (fresh.aliases, fresh.stale, fresh.resolution),
        (vec![name("b.test"), name("c.test")], false, Some(Resolution::Answered))
    );
    let again = dialled_by(&network, &resolver, &anything).await.unwrap();
    assert_eq!(again.resolution, Some(Resolution::Cached));
    resolver.servers().now_say(|_, _| (ms(100), silence()));
    tokio::time::sleep(ms(1001)).await;
    let stale = dialled_by(&network, &resolver, &anything).await.unwrap();
    assert_eq!((stale.stale, stale.resolution), (true, Some(Resolution::Stale)));
    let judge = |_: IpAddr| Err(Reason::ForbiddenAddress);
    let error = dialled_by(&network, &resolver, &judge).await.unwrap_err();
    assert_eq!((error.aliases.len(), error.stale), (2, true));
}

/// The real thing: sockets with their options, dropped attempts leave nothing behind.
#[tokio::test]
async fn a_real_socket_is_ready_for_a_tunnel() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = Port::new(listener.local_addr().unwrap().port()).unwrap();
    let resolver = resolver(|_, family| match family {
        Family::V6 => (ms(0), found(&["::1"], 60)),
        Family::V4 => (ms(0), found(&["127.0.0.1"], 60)),
    });
    let limits = Limits::within(Duration::from_secs(10));
    let dialled = dial(&resolver, ASKER, &Host::Name(name("a.test")), port, &anything, &limits)
        .await
        .unwrap();
    assert_eq!(dialled.address.to_string(), "127.0.0.1", "nobody listens on [::1]");
    let socket = socket2::SockRef::from(&dialled.stream);
    assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
    assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_mins(5)));
    assert_eq!(dialled.stream.peer_addr().unwrap().port(), port.number());
}
