//! What one tunnel costs in allocations: all of them while it is set up, and what an idle one keeps.
//! Must not count what client and origin need: they run in threads of their own, which the counter does not see.
//! Called by the test run.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::pin::Pin;
use std::sync::Arc;
use std::thread;

use allocation_counter::measure;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;

use super::client::Client;
use super::fixture::{connection, proxy, settings};
use super::session::Front;
use super::tunnel::Established;
use super::{Proxy, explicit};
use crate::policy::fixture::load;

#[test]
fn a_tunnel_costs_few_allocations_and_keeps_little() {
    let lab = Lab::new();
    // The first ones make tables and buffers that stay.
    for _ in 0..WARM_UP {
        lab.open_and_close();
    }
    let whole = measure(|| lab.open_and_close());
    assert!(whole.count_total <= ALLOCATIONS, "{whole:?}");
    let mut open = None;
    let kept = measure(|| open = Some(lab.open()));
    assert!(kept.bytes_current <= KEPT, "{kept:?}");
}

/// A proxy on this thread.
struct Lab {
    runtime: Runtime,
    proxy: Arc<Proxy>,
    front: Arc<Front>,
    listener: tokio::net::TcpListener,
    origin: SocketAddr,
}

/// An idle tunnel with its client.
type Open = (Pin<Box<dyn Future<Output = ()>>>, TcpStream);

impl Lab {
    fn new() -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let context = runtime.enter();
        let origin = origin();
        let policy = load(&format!(
            "allow:\n  - {{to: [\"tls://127.0.0.1:{port}\"], sni: listed}}\n  - tls://{NAME}:{port}\n",
            port = origin.port()
        ));
        let (proxy, front) = proxy(&settings(), policy);
        let listener = runtime.block_on(tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
        drop(context);
        Self {
            runtime,
            proxy,
            front,
            listener: listener.unwrap(),
            origin,
        }
    }

    /// From accept to the last byte; the client closes first.
    fn open_and_close(&self) {
        self.runtime.block_on(async {
            let client = self.client();
            let mut established = self.serve().await;
            let (relayed, ()) = tokio::join!(established.relay(), async { drop(client.await.unwrap()) });
            assert!(relayed.is_break());
        });
    }

    /// Until the client has its answer.
    fn open(&self) -> Open {
        self.runtime.block_on(async {
            let client = self.client();
            let mut established = self.serve().await;
            let mut relay = Box::pin(async move {
                assert!(established.relay().await.is_break());
            });
            let client = tokio::select! {
                () = &mut relay => panic!("it ended"),
                client = client => client.unwrap(),
            };
            let relay: Pin<Box<dyn Future<Output = ()>>> = relay;
            (relay, client)
        })
    }

    /// A client that comes, asks, says hello and has its answer.
    fn client(&self) -> oneshot::Receiver<TcpStream> {
        let (proxy, port) = (self.listener.local_addr().unwrap(), self.origin.port());
        let (done, client) = oneshot::channel();
        thread::spawn(move || {
            let mut stream = TcpStream::connect(proxy).unwrap();
            let host = format!("127.0.0.1:{port}");
            write!(stream, "CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n\r\n").unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                head.push(byte[0]);
            }
            assert!(head.starts_with(b"HTTP/1.1 200"), "{}", head.escape_ascii());
            stream.write_all(HELLO).unwrap();
            stream.read_exact(&mut [0; ANSWER.len()]).unwrap();
            done.send(stream).unwrap();
        });
        client
    }

    async fn serve(&self) -> Established {
        let (stream, peer) = self.listener.accept().await.unwrap();
        let connection = connection(&self.proxy, &self.front, peer);
        explicit::serve(connection, Client::Plain(stream))
            .await
            .expect("an allowed tunnel")
    }
}

/// Takes a hello, answers it, and waits for the end.
fn origin() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            thread::spawn(move || {
                stream.read_exact(&mut [0; HELLO.len()]).unwrap();
                stream.write_all(ANSWER).unwrap();
                let _ = stream.read(&mut [0]);
            });
        }
    });
    address
}

const NAME: &str = "api.allowed.test";
const HELLO: &[u8] = include_bytes!("../../tests/corpus/hello/curl-tls12.bin");
const ANSWER: &[u8] = &[0x16; 127];
const WARM_UP: usize = 64;
/// 23 when this was written, both records included.
const ALLOCATIONS: u64 = 26;
/// In bytes: its sockets, what is known of it, and its decision record, which `/decisions` keeps.
const KEPT: i64 = 4096;
