//! What reading a request head costs: a CONNECT, a plain request as browsers send them, the largest; whole and trickled.
//! Must not measure anything that a connection does not do; httparse alone stands beside it as the floor.
//! Called by `cargo bench --bench head`; results and machine stand in `benches/README.md`.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use sluicegate::wire::Progress;
use sluicegate::wire::body::{BodyReader, BodyStep, Framing};
use sluicegate::wire::head::{Form, HeadReader, MAX_HEAD};

fn heads(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("head");
    let mut largest = GET.trim_end().to_owned() + "\r\nX-Padding: ";
    largest.push_str(&"x".repeat(MAX_HEAD - largest.len() - 4));
    largest.push_str("\r\n\r\n");
    for (name, sent) in [("connect", CONNECT), ("get", GET), ("largest", &largest)] {
        group.throughput(Throughput::Bytes(sent.len() as u64));
        group.bench_function(format!("{name}/whole"), |bencher| {
            bencher.iter(|| whole(black_box(sent.as_bytes())));
        });
        group.bench_function(format!("{name}/byte by byte"), |bencher| {
            bencher.iter(|| trickled(black_box(sent.as_bytes())));
        });
        group.bench_function(format!("{name}/httparse alone"), |bencher| {
            bencher.iter(|| parsed(black_box(sent.as_bytes())));
        });
    }
    group.finish();
}

fn bodies(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("body");
    for size in [1, 100, 8192] {
        let chunk = format!("{size:x}\r\n{}\r\n", "x".repeat(size));
        let sent = chunk.repeat(65536 / chunk.len()) + "0\r\n\r\n";
        group.throughput(Throughput::Bytes(sent.len() as u64));
        group.bench_function(format!("64 KiB in chunks of {size}"), |bencher| {
            bencher.iter(|| {
                let step = BodyReader::new(Framing::Chunked).advance(black_box(sent.as_bytes()));
                assert_eq!(step, BodyStep::Done(sent.len()));
            });
        });
    }
    group.finish();
}

fn whole(sent: &[u8]) {
    let Progress::Value(head) = HeadReader::new(Form::Proxy).advance(sent) else {
        panic!("refused");
    };
    black_box(head);
}

fn trickled(sent: &[u8]) {
    let mut reader = HeadReader::new(Form::Proxy);
    for end in 1..sent.len() {
        assert!(matches!(reader.advance(&sent[..end]), Progress::Need(_)));
    }
    assert!(matches!(reader.advance(sent), Progress::Value(_)));
}

fn parsed(sent: &[u8]) {
    let mut fields = [httparse::EMPTY_HEADER; 100];
    let mut request = httparse::Request::new(&mut fields);
    assert!(request.parse(sent).is_ok_and(|status| status.is_complete()));
    black_box(request.headers.len());
}

criterion_group!(benches, heads, bodies);
criterion_main!(benches);

const CONNECT: &str = "CONNECT api.allowed.test:443 HTTP/1.1\r\nHost: api.allowed.test:443\r\nUser-Agent: curl/7.88.1\r\n\
                       Proxy-Connection: Keep-Alive\r\n\r\n";
const GET: &str = "GET http://plain.allowed.test/assets/app.js?v=20260101 HTTP/1.1\r\nHost: plain.allowed.test\r\n\
                   User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/150.0.0.0 \
                   Safari/537.36\r\nAccept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8\r\n\
                   Accept-Language: en-GB,en;q=0.9\r\nAccept-Encoding: gzip, deflate, br\r\nReferer: \
                   http://plain.allowed.test/\r\nCookie: session=0123456789abcdef0123456789abcdef; theme=dark\r\n\
                   Cache-Control: no-cache\r\nProxy-Connection: keep-alive\r\n\r\n";
