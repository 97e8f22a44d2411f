//! The generated policies in force: what each pod can still reach, for each engine, and what it reaches by the proxy.
//! Must not trust the evaluator alone: the ways that matter stand here by their case ids, and every other way that a
//! connection finds open must be one that the evaluator allows. Called by `tests/run` as root.

use std::io::Read;
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use super::cluster::{
    API_SERVER, Cluster, DATABASE, LOAD_BALANCER, METADATA, NODE, OTHER_NODE, PLATFORM, PROXY_SERVICE, RESOLVER,
    RESOLVER6, WEB,
};
use crate::netpol::{Engine, Protocol, Ways};

#[test]
fn cilium_closes_everything_else() {
    locked(Engine::Cilium);
}

#[test]
fn calico_closes_everything_else() {
    locked(Engine::Calico);
}

#[test]
fn azure_npm_closes_everything_else_but_ipv6() {
    locked(Engine::AzureNpm);
}

fn locked(engine: Engine) {
    let cluster = Cluster::start(engine);
    let proxy = cluster.proxy_in("proxy");
    // Without policies everything is open: what is closed below is closed by them. A loopback bind is no policy's doing.
    let rows = rows(&cluster);
    for ((id, pod, _, to, _), reached) in rows.iter().zip(tried(&cluster, &rows)) {
        assert!(
            reached || to.ends_with(":9090"),
            "{id}: {pod} to {to} is dead, not closed"
        );
    }
    assert!(echoes(&cluster, "trips", WEB), "nothing answers an echo request");
    let policies = cluster.generated();
    cluster.enforce(&policies);
    assert!(!echoes(&cluster, "trips", WEB), "L11: ICMP goes out");
    let outcomes = tried(&cluster, &rows);
    let mut wrong = Vec::new();
    for ((id, pod, protocol, to, open), reached) in rows.iter().zip(outcomes) {
        if reached != open.in_force(engine) {
            wrong.push(format!(
                "{id}: {pod} to {protocol:?} {to} is {}",
                if reached { "open" } else { "closed" }
            ));
        }
    }
    assert!(wrong.is_empty(), "{engine:?}:\n{}", wrong.join("\n"));
    evaluator_agrees(&cluster, &policies);
    through_the_proxy(&cluster);
    // L20: without the proxy there is no way out.
    let outcome = proxy.stop();
    assert!(outcome.decisions.iter().any(|record| record.verdict() == "allow rule"));
    let gone = cluster.client(
        "trips",
        "curl",
        &curl("http://10.0.3.10:3201", "https://api.allowed.test/"),
    );
    assert!(!gone.ok, "{}", gone.text);
    assert!(!reaches(&cluster, "trips", Protocol::Tcp, &format!("{WEB}:443")));
}

/// What a row expects while the policies are in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Open {
    Yes,
    No,
    /// Only this engine closes it; for the others it is reported, not closed.
    Unless(Engine),
    /// This engine alone leaves it open; reported.
    Only(Engine),
}

impl Open {
    fn in_force(self, engine: Engine) -> bool {
        match self {
            Self::Yes => true,
            Self::No => false,
            Self::Unless(closing) => engine != closing,
            Self::Only(opening) => engine == opening,
        }
    }
}

/// Case id, who, protocol, to whom, and whether it is open.
type Row = (&'static str, &'static str, Protocol, String, Open);

fn rows(cluster: &Cluster) -> Vec<Row> {
    use Open::{No, Only, Unless, Yes};
    use Protocol::{Tcp, Udp};
    let at = |pod: &str, port: u16| format!("{}:{port}", cluster.address(pod));
    vec![
        ("L01", "trips", Tcp, format!("{WEB}:443"), No),
        ("L01", "poi", Tcp, format!("{WEB}:80"), No),
        ("L02", "trips", Udp, format!("{RESOLVER}:443"), No),
        ("L02", "trips", Udp, format!("{RESOLVER}:53"), No),
        ("L02", "trips", Tcp, format!("{RESOLVER}:53"), No),
        ("L02", "trips", Tcp, format!("{RESOLVER}:853"), No),
        ("L02", "trips", Udp, format!("{RESOLVER}:123"), No),
        ("L03", "trips", Tcp, format!("{METADATA}:80"), No),
        ("L04", "trips", Tcp, format!("{PLATFORM}:80"), No),
        ("L04", "trips", Tcp, format!("{PLATFORM}:32526"), No),
        ("L05", "trips", Tcp, format!("{OTHER_NODE}:10250"), No),
        ("L05", "trips", Tcp, format!("{OTHER_NODE}:22"), No),
        ("L05", "trips", Tcp, format!("{OTHER_NODE}:30080"), No),
        (
            "L05 own node",
            "trips",
            Tcp,
            format!("{NODE}:10250"),
            Unless(Engine::Cilium),
        ),
        ("L06", "trips", Tcp, "10.0.0.1:443".to_owned(), No),
        ("L06", "trips", Tcp, format!("{API_SERVER}:443"), No),
        ("L06 allowed", "orders", Tcp, "10.0.0.1:443".to_owned(), Yes),
        ("L06 allowed", "orders", Tcp, format!("{API_SERVER}:443"), Yes),
        ("L07", "trips", Tcp, at("orders", 8080), No),
        ("L07", "trips", Tcp, "10.0.1.12:80".to_owned(), No),
        ("L07", "poi", Tcp, at("trips", 8080), No),
        ("L07", "poi", Tcp, at("orders", 8080), No),
        ("L07", "open", Tcp, at("trips", 8080), No),
        ("L07 other port", "trips", Tcp, at("poi", 8081), No),
        ("L07 edge", "trips", Tcp, at("poi", 8080), Yes),
        ("L07 edge", "trips", Tcp, "10.0.1.11:80".to_owned(), Yes),
        ("L07 called_by", "ingress", Tcp, at("trips", 8080), Yes),
        ("L07 called_by", "ingress", Tcp, at("poi", 8080), No),
        ("L08", "trips", Tcp, at("proxy", 9090), No),
        ("L08", "trips", Tcp, at("proxy", 9091), No),
        ("L08 own port", "trips", Tcp, at("proxy", 3201), Yes),
        ("L08 other's port", "trips", Tcp, at("proxy", 3202), No),
        ("L08 shared port", "trips", Tcp, at("proxy", 3128), No),
        ("L08 shared port", "poi", Tcp, at("proxy", 3128), Yes),
        ("L08 shared port", "poi", Tcp, at("proxy", 8443), Yes),
        ("L08 trips' port", "poi", Tcp, at("proxy", 3201), No),
        ("L08 unlocked", "open", Tcp, at("proxy", 3128), No),
        (
            "L10",
            "trips",
            Tcp,
            format!("[{RESOLVER6}]:443"),
            Only(Engine::AzureNpm),
        ),
        ("L12 residual", "trips", Udp, "10.0.0.10:53".to_owned(), Yes),
        ("L15", "stray", Tcp, format!("{WEB}:443"), No),
        ("L15", "stray", Tcp, at("proxy", 3128), No),
        ("L15", "stray", Tcp, at("poi", 8080), No),
        ("L18", "trips", Tcp, format!("{LOAD_BALANCER}:443"), No),
        ("L19", "proxy", Tcp, at("poi", 8080), No),
        ("L19", "proxy", Tcp, "10.0.1.11:80".to_owned(), No),
        ("L19", "proxy", Tcp, format!("{METADATA}:80"), No),
        ("L19", "proxy", Tcp, format!("{PLATFORM}:80"), No),
        ("L19", "proxy", Tcp, format!("{API_SERVER}:443"), No),
        ("L19", "proxy", Tcp, format!("{OTHER_NODE}:10250"), No),
        ("L19 its DNS", "proxy", Udp, format!("{PLATFORM}:53"), Yes),
        ("L19 the world", "proxy", Tcp, format!("{WEB}:443"), Yes),
        ("direct", "trips", Tcp, format!("{DATABASE}:1433"), Yes),
        ("direct, other port", "trips", Tcp, format!("{DATABASE}:1434"), No),
        ("direct, other pod", "poi", Tcp, format!("{DATABASE}:1433"), No),
        ("unlocked", "open", Tcp, format!("{WEB}:443"), Yes),
    ]
}

/// All at once: what is dropped takes its time.
fn tried(cluster: &Cluster, rows: &[Row]) -> Vec<bool> {
    thread::scope(|scope| {
        let tries = rows
            .iter()
            .map(|(_, pod, protocol, to, _)| scope.spawn(|| reaches(cluster, pod, *protocol, to)));
        let tries: Vec<_> = tries.collect();
        tries.into_iter().map(|one| one.join().unwrap()).collect()
    })
}

/// A handshake, which nothing between the pods could fake here; or an answer to a datagram.
fn reaches(cluster: &Cluster, pod: &str, protocol: Protocol, to: &str) -> bool {
    let to: SocketAddr = to.parse().unwrap();
    cluster.pod(pod).run(|| match protocol {
        Protocol::Tcp => TcpStream::connect_timeout(&to, PATIENCE).is_ok(),
        Protocol::Udp => {
            let socket = UdpSocket::bind(if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            // A DNS question, which the echo servers send back as it is.
            let question = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07example\x03com\x00\x00\x01\x00\x01";
            let sent = socket.send_to(question, to).is_ok();
            sent && socket.recv(&mut [0; 512]).is_ok()
        }
    })
}

/// Whether an ICMP echo request (RFC 792) with a payload is answered.
fn echoes(cluster: &Cluster, pod: &str, to: &str) -> bool {
    static TRIES: AtomicU16 = AtomicU16::new(1);
    let to = SocketAddr::new(to.parse().unwrap(), 0);
    cluster.pod(pod).run(|| {
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(socket2::Protocol::ICMPV4)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut request = *b"\x08\x00\x00\x00\x00\x00\x00\x01secrets!";
        // Another identifier each time: what was let out before the lock is an established exchange.
        request[4..6].copy_from_slice(&TRIES.fetch_add(1, Ordering::Relaxed).to_be_bytes());
        let sum: u32 = request
            .chunks(2)
            .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
            .sum();
        let sum = u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap();
        request[2..4].copy_from_slice(&(!sum).to_be_bytes());
        let _ = socket.send_to(&request, &to.into());
        // Answers of a router (unreachable) are no echo.
        let (mut answer, end) = ([0; 256], Instant::now() + PATIENCE);
        while Instant::now() < end {
            let Ok(len) = (&socket).read(&mut answer) else { break };
            if answer[..len].ends_with(b"secrets!") && answer.get(20) == Some(&0) {
                return true;
            }
        }
        false
    })
}

/// Every pod to every other on a few ports: the kernel and the evaluator must say the same.
fn evaluator_agrees(cluster: &Cluster, policies: &[String]) {
    let ways = Ways::of(policies, &cluster.model);
    let pods = ["trips", "stray", "poi", "orders", "ingress", "open", "proxy"];
    let targets = [
        ("trips", 8080),
        ("poi", 8080),
        ("poi", 8081),
        ("orders", 8080),
        ("open", 8080),
        ("ingress", 443),
    ];
    thread::scope(|scope| {
        for from in pods {
            for (to, port) in targets.into_iter().filter(|(to, _)| *to != from) {
                let ways = &ways;
                scope.spawn(move || {
                    let address: IpAddr = cluster.address(to);
                    let expected = ways.allow(cluster.address(from), address, Protocol::Tcp, port);
                    let reached = reaches(cluster, from, Protocol::Tcp, &format!("{address}:{port}"));
                    assert_eq!(reached, expected, "{from} to {to}:{port}");
                });
            }
        }
    });
}

fn through_the_proxy(cluster: &Cluster) {
    let own = format!("http://{PROXY_SERVICE}:3201");
    let allowed = cluster.client("trips", "curl", &curl(&own, "https://api.allowed.test/hello"));
    assert!(
        allowed.ok && allowed.text.contains("/hello of api.allowed.test"),
        "{}",
        allowed.text
    );
    for (url, reason) in [
        ("https://other.allowed.test/", "no_rule_for_source"),
        ("https://denied.test/", "no_rule"),
        ("https://myaks.hcp.westeurope.azmk8s.io/", "deny_rule"),
        ("https://10.0.0.1/", "ip_literal"),
        ("http://169.254.169.254/metadata/instance", "ip_literal"),
    ] {
        let denied = cluster.client("trips", "curl", &curl(&own, url));
        assert!(denied.text.contains(reason), "{url}: {}", denied.text);
    }
    // L09: a client that goes round the proxy gets nowhere.
    let around = ["-sS", "--max-time", "2", "--noproxy", "*", "https://api.allowed.test/"];
    let around = cluster.client("trips", "curl", &around);
    assert!(!around.ok, "{}", around.text);
}

fn curl<'a>(proxy: &'a str, url: &'a str) -> [&'a str; 6] {
    ["-sSv", "--max-time", "5", "-x", proxy, url]
}

/// Everything is one machine away; what does not answer within this was dropped.
const PATIENCE: Duration = Duration::from_millis(1500);
