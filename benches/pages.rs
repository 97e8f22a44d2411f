//! How long an operator waits for `/policy` when the policy has 100,000 rules.
//! Must go through a socket: the page is what it costs to make and to send.
//! Called by `cargo bench --bench pages`.

use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use jiff::Timestamp;
use sluicegate::admin::{Pages, Readiness, serve_admin};
use sluicegate::policy::{Generation, SourceText, load};
use sluicegate::settings::{Log, LogFormat, LoggedDecisions};
use sluicegate::state::State;
use sluicegate::telemetry::{Colour, Metrics, Telemetry};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

criterion_group!(benches, policy);
criterion_main!(benches);

fn policy(c: &mut Criterion) {
    #[expect(clippy::expect_used, reason = "a benchmark")]
    let runtime = Runtime::new().expect("a runtime");
    let address = serve(&runtime);
    let mut group = c.benchmark_group("policy");
    group.sample_size(20);
    for (name, query) in [
        ("first_page", ""),
        ("last_page", "?offset=99900"),
        ("10000_rules", "?limit=10000"),
        ("search_one", "?match=host77777."),
        ("search_none", "?match=nothing"),
    ] {
        #[expect(clippy::expect_used, reason = "a benchmark")]
        group.bench_function(name, |bench| bench.iter(|| get(address, query).expect("an answer")));
    }
    group.finish();
}

#[expect(clippy::expect_used, reason = "a benchmark")]
fn serve(runtime: &Runtime) -> SocketAddr {
    let now = Timestamp::UNIX_EPOCH;
    let mut text = String::from("allow:\n");
    for number in 0..100_000 {
        let _ = writeln!(text, "  - host{number}.example.com");
    }
    let file = SourceText {
        name: "policy.yaml".into(),
        text: text.into(),
    };
    let policy = load(&[file], now, Generation(1), None).expect("a valid policy").policy;
    let log = Log {
        format: LogFormat::Json,
        decisions: LoggedDecisions::All,
        required: false,
    };
    let pages = Pages {
        state: Arc::new(State::new(policy, now)),
        telemetry: Telemetry::new(&log, Metrics::new(now), io::sink(), Colour::Never).expect("a thread"),
        readiness: Readiness::default(),
        tunnels: Arc::new(Vec::new),
    };
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port");
    let address = listener.local_addr().expect("an address");
    runtime.spawn(serve_admin(pages, listener, CancellationToken::new()));
    address
}

fn get(address: SocketAddr, query: &str) -> io::Result<usize> {
    let mut stream = TcpStream::connect(address)?;
    write!(
        stream,
        "GET /policy{query} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    assert!(answer.starts_with(b"HTTP/1.1 200 "));
    Ok(answer.len())
}
