//! Exhaustion: too many connections, too few descriptors, slow readers, a log that nobody reads, time-outs.
//! Must not measure; the benches do. Here every limit is hit and the proxy goes on.
//! Called by `tests/run`.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, prlimit};
use serde_json::json;

use crate::support::DEADLINE;
use crate::support::client::{Client, Ending};
use crate::support::hello::Hello;
use crate::support::http::Message;
use crate::support::origin::{Ended, Origin, pattern};
use crate::support::setup::Setup;
use crate::support::world::{Origins, World};

#[test]
fn k01_a_full_proxy_says_503_at_once() {
    let world = World::with(|setup, _| setup.set("limits.connections", json!(3)));
    let mut held: Vec<_> = (0..3).map(|_| world.echo_tunnel()).collect();
    let (mut client, answer) = world.connect(&world.origins.echo_target());
    assert_eq!(answer.line(), "HTTP/1.1 503 Failed by sluicegate (limit)");
    assert_eq!(client.read_to_end().1, Ending::Closed);
    assert_eq!(
        world.proxy.decision(|record| record.reason() == "limit").text("action"),
        "deny"
    );
    assert!(
        world
            .proxy
            .metric("sluicegate_limits_hit_total", &[("limit", "connections")])
            >= 1
    );
    held.pop();
    world
        .proxy
        .wait_metric("sluicegate_open_connections", &[("listener", "proxy")], |open| open < 3);
    drop(world.echo_tunnel());
    for client in &mut held {
        client.send("x");
        assert_eq!(client.read_exact(1), b"x");
    }
}

#[test]
fn k01_one_source_cannot_take_it_all() {
    let world = World::with(|setup, _| {
        setup
            .set("limits.per_source", json!(2))
            .set("limits.connections", json!(4))
    });
    let _held: Vec<_> = (0..2).map(|_| world.echo_tunnel()).collect();
    // However often it is turned away, that takes nobody's place.
    for _ in 0..4 {
        let (_, answer) = world.connect(&world.origins.echo_target());
        assert_eq!(answer.status(), 503);
    }
    assert!(
        world
            .proxy
            .metric("sluicegate_limits_hit_total", &[("limit", "per_source")])
            >= 1
    );
    let mut other = Client::connect_from(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9)), world.proxy.address());
    let target = world.origins.echo_target();
    other.send(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n"));
    assert_eq!(other.head().status(), 200);
}

#[test]
fn k02_half_hellos_are_bounded_and_end() {
    let origins = Origins::start();
    let proxy = Setup::new(&origins.policy())
        .dns(&origins.dns)
        .listener(json!({"name": "tls", "mode": "tls", "bind": "127.0.0.1:0", "port": 443}))
        .set("timeouts.head", json!("2s"))
        .start();
    let before = proxy.metric("process_resident_memory_bytes", &[]);
    let mut clients: Vec<_> = (0..2000).map(|_| Client::connect(proxy.at("tls"))).collect();
    for client in &mut clients {
        client.send([0x16]);
    }
    for client in &mut clients {
        assert_ne!(client.read_to_end().1, Ending::Open);
    }
    proxy.wait_metric("sluicegate_open_connections", &[("listener", "tls")], |open| open == 0);
    let grown = proxy
        .metric("process_resident_memory_bytes", &[])
        .saturating_sub(before);
    assert!(grown < 80_000_000, "2,000 half hellos cost {grown} bytes");
    assert_eq!(
        proxy.metric("sluicegate_decisions_total", &[("reason", "hello_timeout")]),
        2000
    );
}

#[test]
fn k03_idle_and_half_closed_tunnels_end_in_their_time() {
    let world = World::with(|setup, _| {
        setup
            .set("timeouts.idle", json!("1s"))
            .set("timeouts.half_close", json!("500ms"))
            .set("timeouts.lifetime", json!("3s"))
    });
    let started = Instant::now();
    let mut idle = world.echo_tunnel();
    assert_eq!(idle.read_to_end().1, Ending::Reset);
    assert!(
        started.elapsed() >= Duration::from_millis(900),
        "{:?}",
        started.elapsed()
    );

    // An upstream that never ends its side after ours has ended.
    let silent = Origin::start("127.0.0.1:0", |tap| {
        let mut rest = Vec::new();
        tap.read_to_end(&mut rest)?;
        std::thread::park_timeout(Duration::from_secs(30));
        Ok(())
    });
    world.proxy.reload(&format!(
        "{}  - {{to: [nobody.wild.test]}}\n",
        world.origins.policy().replace(
            "name: echo, to: [",
            &format!("name: echo, to: [\"tcp://echo.allowed.test:{}\", ", silent.port())
        )
    ));
    let mut half = Client::tunnel(world.proxy.address(), &format!("echo.allowed.test:{}", silent.port()));
    half.finish();
    assert_ne!(half.read_to_end().1, Ending::Open);
    assert_eq!(silent.expect_end(0), Ended::Finished);

    // Always busy, and still over after its lifetime.
    let mut busy = world.echo_tunnel();
    let started = Instant::now();
    while busy.try_send("x").is_ok() {
        assert!(started.elapsed() < Duration::from_secs(15), "it lives on");
        std::thread::park_timeout(Duration::from_millis(50));
    }
    assert!(started.elapsed() > Duration::from_secs(2), "{:?}", started.elapsed());
    let ends: Vec<String> = world
        .stop()
        .tunnels
        .iter()
        .map(|tunnel| tunnel.text("end").to_owned())
        .collect();
    assert_eq!(ends, ["idle", "half_closed", "lifetime"]);
}

#[test]
fn k03_a_stream_one_way_is_not_idle() {
    let world = World::with(|setup, _| setup.set("timeouts.idle", json!("600ms")));
    let talking = Origin::start("127.0.0.1:0", |tap| {
        for _ in 0..20 {
            tap.write_all(b"tick")?;
            std::thread::park_timeout(Duration::from_millis(100));
        }
        Ok(())
    });
    let policy = format!(
        "allow: [{{to: [\"tcp://echo.allowed.test:{}\"], addresses: [127.0.0.0/8]}}]",
        talking.port()
    );
    world.proxy.reload(&policy);
    let mut client = Client::tunnel(world.proxy.address(), &format!("echo.allowed.test:{}", talking.port()));
    assert_eq!(client.read_to_end(), (b"tick".repeat(20), Ending::Closed));
}

#[test]
fn k03_each_request_of_a_kept_connection_has_its_own_time() {
    let request = |world: &World| {
        let url = world.origins.url("plain.allowed.test", "/head");
        let host = url.split('/').nth(2).unwrap();
        format!("GET {url} HTTP/1.1\r\nHost: {host}\r\n\r\n")
    };
    // In all it takes longer than it may be idle, but never at once.
    let world = World::with(|setup, _| setup.set("timeouts.idle", json!("2s")));
    let mut client = Client::connect(world.proxy.address());
    for _ in 0..4 {
        client.send(request(&world));
        assert_eq!(client.response().status(), 200);
        std::thread::park_timeout(Duration::from_millis(700));
    }
    let idle = Instant::now();
    assert_eq!(client.read_to_end().1, Ending::Closed);
    assert!(idle.elapsed() > Duration::from_millis(700), "{:?}", idle.elapsed());

    // The time for a head is not the one for silence before it.
    let world = World::with(|setup, _| setup.set("timeouts.head", json!("600ms")));
    let mut client = Client::connect(world.proxy.address());
    client.send(request(&world));
    assert_eq!(client.response().status(), 200);
    client.send("GET http");
    assert_eq!(
        client.response().line(),
        "HTTP/1.1 408 Refused by sluicegate (head_timeout)"
    );
}

#[test]
fn k04_a_slow_reader_holds_the_sender_back() {
    let world = World::start();
    let flood = Origin::start("127.0.0.1:0", |tap| {
        let block = vec![7; 1 << 20];
        for _ in 0..400 {
            tap.write_all(&block)?;
        }
        Ok(())
    });
    let policy = format!(
        "allow: [{{to: [\"tcp://echo.allowed.test:{}\"], addresses: [127.0.0.0/8]}}]",
        flood.port()
    );
    world.proxy.reload(&policy);
    let before = world.proxy.metric("process_resident_memory_bytes", &[]);
    let mut clients: Vec<_> = (0..8)
        .map(|_| Client::tunnel(world.proxy.address(), &format!("echo.allowed.test:{}", flood.port())))
        .collect();
    for client in &mut clients {
        client.read_exact(1 << 20);
    }
    let grown = world
        .proxy
        .metric("process_resident_memory_bytes", &[])
        .saturating_sub(before);
    assert!(grown < 32_000_000, "slow readers cost {grown} bytes");
}

#[test]
fn k04_an_upload_that_its_server_pauses_waits_and_then_goes_on() {
    const SIZE: usize = 64 << 20;
    let origins = Origins::start();
    let (go_on, paused) = mpsc::channel();
    let paused = Mutex::new(paused);
    let slow = Origin::start("127.0.0.1:0", move |tap| {
        let length = Message::read_head(tap)?
            .unwrap()
            .field("content-length")
            .map(str::to_owned);
        paused.lock().unwrap().recv().unwrap();
        // Not through the tap, which would keep it all.
        let mut body = Vec::new();
        (&tap.stream)
            .take(length.unwrap().parse().unwrap())
            .read_to_end(&mut body)?;
        let answer = if body == pattern(SIZE) { "whole" } else { "spoilt" };
        write!(
            tap,
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{answer}",
            answer.len()
        )
    });
    let host = format!("plain.allowed.test:{}", slow.port());
    let policy = format!("allow: [{{to: [\"http://{host}\"], addresses: [127.0.0.0/8]}}]");
    let proxy = Setup::new(&policy).dns(&origins.dns).start();
    let before = proxy.metric("process_resident_memory_bytes", &[]);
    let mut client = Client::connect(proxy.address());
    client.send(format!(
        "PUT http://{host}/ HTTP/1.1\r\nHost: {host}\r\nContent-Length: {SIZE}\r\n\r\n"
    ));
    let body = pattern(SIZE);
    // Sends until nobody takes any more.
    client.stream.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
    let mut sent = 0;
    while let Ok(taken) = client.stream.write(&body[sent..]) {
        sent += taken;
    }
    assert!(sent < SIZE, "nobody held it back");
    let grown = proxy
        .metric("process_resident_memory_bytes", &[])
        .saturating_sub(before);
    assert!(grown < 16_000_000, "a paused upload costs {grown} bytes");
    go_on.send(()).unwrap();
    client.stream.set_write_timeout(Some(DEADLINE)).unwrap();
    client.send(&body[sent..]);
    assert_eq!(client.response().text(), "whole");
}

#[test]
fn k07_a_log_that_nobody_reads_stops_nothing() {
    let origins = Origins::start();
    let proxy = Setup::new(&origins.policy()).dns(&origins.dns).deaf().start();
    let end = Instant::now() + Duration::from_mins(1);
    while proxy.metric("sluicegate_records_dropped_total", &[]) == 0 {
        assert!(Instant::now() < end, "nothing was ever dropped");
        for _ in 0..200 {
            assert_eq!(
                Client::connect_request(proxy.address(), "denied.test:443").1.status(),
                403
            );
        }
    }
    let mut client = Client::tunnel(proxy.address(), &origins.echo_target());
    client.send("x");
    assert_eq!(client.read_exact(1), b"x");
}

#[test]
fn k07_where_records_are_required_no_record_means_no_service() {
    let origins = Origins::start();
    let proxy = Setup::new(&origins.policy())
        .dns(&origins.dns)
        .set("log.required", json!(true))
        .deaf()
        .start();
    let end = Instant::now() + Duration::from_mins(1);
    let refused = loop {
        assert!(Instant::now() < end, "it served without records");
        let answer = Client::connect_request(proxy.address(), "denied.test:443").1;
        if answer.status() != 403 {
            break answer;
        }
    };
    assert_eq!(refused.line(), "HTTP/1.1 503 Failed by sluicegate (limit)");
    assert!(proxy.metric("sluicegate_limits_hit_total", &[("limit", "log")]) >= 1);
}

#[test]
fn k07_where_records_are_required_every_request_that_goes_out_has_one() {
    let origins = Origins::start();
    let mut proxy = Setup::new(&origins.policy())
        .dns(&origins.dns)
        .set("log.required", json!(true))
        .set("timeouts.head", json!("60s"))
        .deaf()
        .start();
    // Both are admitted while the log is still taken: it is their decisions that count.
    let mut late = Client::connect(proxy.address());
    let mut client = Client::connect(proxy.address());
    let end = Instant::now() + Duration::from_mins(1);
    let refused = loop {
        assert!(Instant::now() < end, "it served without records");
        for _ in 0..100 {
            client.get(&origins.url("plain.allowed.test", "/size/1"));
        }
        let mut answers = (0..100).map(|_| client.response());
        if let Some(refused) = answers.find(|answer| answer.status() != 200) {
            break refused;
        }
    };
    assert_eq!(refused.line(), "HTTP/1.1 503 Failed by sluicegate (limit)");
    let target = origins.echo_target();
    late.send(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\nx"));
    assert_eq!(late.head().status(), 200);
    assert_eq!(late.read_to_end(), (Vec::new(), Ending::Reset));
    assert_eq!(origins.echo.received(), b"");
    proxy.hear();
    let allowed = proxy.stop().decisions;
    let allowed = allowed.iter().filter(|record| record.verdict() == "allow rule");
    assert_eq!(allowed.count(), origins.http.requests().len());
}

#[test]
fn running_out_of_descriptors_is_not_the_end() {
    let world = World::start();
    let mut kept = world.echo_tunnel();
    let pid = world.proxy.pid();
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count() as u64;
    let narrow = |current| {
        prlimit(
            Some(pid),
            Resource::Nofile,
            Rlimit {
                current: Some(current),
                maximum: Some(20_000),
            },
        )
    };
    let before = narrow(open + 4).unwrap();
    let mut clients: Vec<_> = (0..20).map(|_| Client::connect(world.proxy.address())).collect();
    world.proxy.expect_log("cannot accept");
    // What is open goes on.
    kept.send("x");
    assert_eq!(kept.read_exact(1), b"x");
    narrow(before.current.unwrap()).unwrap();
    // It comes back by itself, also for those who waited.
    let target = world.origins.echo_target();
    for client in &mut clients {
        client.send(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n"));
        assert_eq!(client.head().status(), 200);
    }
    assert!(
        world
            .proxy
            .metric("sluicegate_limits_hit_total", &[("limit", "descriptors")])
            >= 1
    );
}

#[test]
fn the_effective_limits_are_said_at_start() {
    let proxy = Setup::new("allow: []\n")
        .wrapped(&["prlimit", "--nofile=1000:1000"])
        .start();
    let line = proxy.expect_log("connections at once");
    let said: u32 = line.split_whitespace().find_map(|word| word.parse().ok()).unwrap();
    assert!(
        (100..500).contains(&said),
        "a thousand descriptors are not enough for {line}"
    );
}

#[test]
fn kept_connections_take_only_descriptors_that_are_left_over() {
    // 62 of a thousand descriptors are.
    let world = World::with(|setup, _| setup.wrapped(&["prlimit", "--nofile=1000:1000"]));
    let visit = || {
        let mut client = Client::connect(world.proxy.address());
        for name in ["plain.allowed.test", "other.allowed.test"] {
            client.get(&world.origins.url(name, "/"));
            assert!(client.response().text().contains(name));
        }
        client
    };
    let open = || {
        let all = &world.origins.http.connections;
        all.with(|all| all.iter().filter(|one| one.ended.is_none()).count())
    };
    let clients: Vec<_> = (0..70).map(|_| visit()).collect();
    for closed in (62..70).map(|client| 2 * client) {
        world.origins.http.expect_end(closed);
    }
    assert_eq!(open(), 70 + 62);
    // They come back.
    drop(clients);
    world
        .proxy
        .wait_metric("sluicegate_open_connections", &[("listener", "proxy")], |open| {
            open == 0
        });
    for connection in 0..140 {
        world.origins.http.expect_end(connection);
    }
    let mut client = visit();
    client.get(&world.origins.url("plain.allowed.test", "/"));
    client.response();
    assert_eq!(open(), 2);
}

#[test]
fn hellos_in_many_tunnels_at_once_all_pass() {
    let world = World::start();
    let target = world.origins.tls_target("api.allowed.test");
    let hello = Hello::sni("api.allowed.test").with_big_key_share().bytes();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..40 {
                    let mut client = Client::tunnel(world.proxy.address(), &target);
                    client.send(&hello);
                    assert_eq!(client.read_exact(1), [0x15]);
                }
            });
        }
    });
    assert_eq!(
        world.proxy.metric("sluicegate_decisions_total", &[("reason", "rule")]),
        320
    );
}
