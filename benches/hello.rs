//! What reading a ClientHello costs: real ones whole, in the smallest TLS records, and trickled; rustls beside it.
//! Must not measure anything that a connection does not do.
//! Called by `cargo bench --bench hello`; results and machine stand in `benches/README.md`.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rustls::server::Acceptor;
use sluicegate::wire::Progress;
use sluicegate::wire::hello::HelloReader;

fn hellos(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("hello");
    for (name, sent) in [
        (
            "openssl",
            include_bytes!("../tests/corpus/hello/openssl.bin").as_slice(),
        ),
        ("curl", include_bytes!("../tests/corpus/hello/curl.bin")),
        ("chrome", include_bytes!("../tests/corpus/hello/chrome-boringssl.bin")),
    ] {
        group.throughput(Throughput::Bytes(sent.len() as u64));
        group.bench_function(format!("{name}/whole"), |bencher| {
            bencher.iter(|| whole(black_box(sent)));
        });
        let records = in_small_records(sent);
        group.bench_function(format!("{name}/records of 1"), |bencher| {
            bencher.iter(|| whole(black_box(&records)));
        });
        group.bench_function(format!("{name}/byte by byte"), |bencher| {
            bencher.iter(|| trickled(black_box(sent)));
        });
        group.bench_function(format!("{name}/records of 1, byte by byte"), |bencher| {
            bencher.iter(|| trickled(black_box(&records)));
        });
        group.bench_function(format!("{name}/rustls"), |bencher| {
            bencher.iter(|| accepted(black_box(sent)));
        });
    }
    group.finish();
}

fn whole(sent: &[u8]) {
    let Progress::Value(hello) = HelloReader::new().advance(sent) else {
        panic!("refused");
    };
    black_box(hello);
}

fn trickled(sent: &[u8]) {
    let mut reader = HelloReader::new();
    for end in 1..sent.len() {
        assert!(matches!(reader.advance(&sent[..end]), Progress::Need(_)));
    }
    assert!(matches!(reader.advance(sent), Progress::Value(_)));
}

fn accepted(mut sent: &[u8]) {
    let mut acceptor = Acceptor::default();
    assert!(acceptor.read_tls(&mut sent).is_ok());
    let Ok(Some(accepted)) = acceptor.accept() else {
        panic!("refused");
    };
    black_box(accepted.client_hello().server_name());
}

fn in_small_records(sent: &[u8]) -> Vec<u8> {
    sent[5..].iter().flat_map(|byte| [0x16, 3, 1, 0, 1, *byte]).collect()
}

criterion_group!(benches, hellos);
criterion_main!(benches);
