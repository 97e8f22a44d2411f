//! The relay between real sockets, copying and splicing: ends and resets in each state, and TLS on the client's side.
//! Must not assume more of the kernel than TCP promises.
//! Called by the test run.

use std::net::SocketAddr;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use super::*;
use crate::net;

impl Side for server::TlsStream<TcpStream> {
    fn socket(&self) -> Option<&TcpStream> {
        None
    }
}

/// A client and an upstream with a relay between them, which resets what it could not finish as the session does.
pub(super) struct Tunnel {
    pub(super) near: TcpStream,
    pub(super) far: TcpStream,
    pub(super) activity: Arc<Activity>,
    pub(super) end: tokio::task::JoinHandle<End>,
}

/// Pipes of which none may be opened, and some that are used from the first byte on.
fn without_and_with_pipes() -> [Arc<Pipes>; 2] {
    [Arc::new(Pipes::with(0, 1 << 16, 0)), eager(2)]
}

pub(super) fn eager(limit: usize) -> Arc<Pipes> {
    Arc::new(Pipes::with(limit, 1 << 16, 0))
}

pub(in crate::relay) async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address: SocketAddr = listener.local_addr().unwrap();
    let (near, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
    (near.unwrap(), accepted.unwrap().0)
}

async fn tunnel(pipes: &Arc<Pipes>) -> Tunnel {
    join(pair().await, pair().await, pipes)
}

/// A relay between the second ones of two pairs.
pub(super) fn join(
    (near, mut client): (TcpStream, TcpStream),
    (far, mut upstream): (TcpStream, TcpStream),
    pipes: &Arc<Pipes>,
) -> Tunnel {
    let pipes = pipes.clone();
    let activity = Arc::new(Activity::new(&Clock::new()));
    let end = tokio::spawn({
        let activity = activity.clone();
        async move {
            let end = relay(&mut client, &mut upstream, &activity, &pipes).await;
            if end != End::Finished {
                net::abort(&client);
                net::abort(&upstream);
            }
            end
        }
    });
    Tunnel {
        near,
        far,
        activity,
        end,
    }
}

pub(super) fn reset(stream: TcpStream) {
    net::abort(&stream);
    drop(stream);
}

pub(super) async fn assert_reset(mut stream: TcpStream) {
    let error = stream.read_to_end(&mut Vec::new()).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

/// Sends until the relay and both its sockets are full.
pub(super) async fn fill(stream: &TcpStream) {
    let block = vec![0; 1 << 20];
    loop {
        while stream.try_write(&block).is_ok() {}
        // The relay may still be moving bytes from one full buffer to the next.
        let more = tokio::time::timeout(std::time::Duration::from_millis(200), stream.writable()).await;
        if more.is_err() {
            return;
        }
    }
}

#[tokio::test]
async fn a_reset_while_idle_is_passed_on() {
    for pipes in without_and_with_pipes() {
        let Tunnel { near, far, end, .. } = tunnel(&pipes).await;
        reset(near);
        assert_reset(far).await;
        assert_eq!(end.await.unwrap(), End::ClientReset);
        let Tunnel { near, far, end, .. } = tunnel(&pipes).await;
        reset(far);
        assert_reset(near).await;
        assert_eq!(end.await.unwrap(), End::UpstreamReset);
        assert_eq!(pipes.in_use(), 0);
    }
}

#[tokio::test]
async fn a_reset_after_the_other_side_has_finished_is_passed_on() {
    for pipes in without_and_with_pipes() {
        let Tunnel {
            mut near,
            mut far,
            end,
            activity,
        } = tunnel(&pipes).await;
        near.shutdown().await.unwrap();
        assert_eq!(far.read(&mut [0]).await.unwrap(), 0);
        assert!(activity.is_half_closed());
        reset(far);
        assert_reset(near).await;
        assert_eq!(end.await.unwrap(), End::UpstreamReset);
        let Tunnel {
            mut near, mut far, end, ..
        } = tunnel(&pipes).await;
        far.shutdown().await.unwrap();
        assert_eq!(near.read(&mut [0]).await.unwrap(), 0);
        reset(near);
        assert_reset(far).await;
        assert_eq!(end.await.unwrap(), End::ClientReset);
        assert_eq!(pipes.in_use(), 0);
    }
}

/// The upstream goes while bytes for it are waiting, and its own last words still arrive before the reset.
#[tokio::test]
async fn a_reset_while_blocked_is_passed_on() {
    for pipes in without_and_with_pipes() {
        let Tunnel {
            near,
            mut far,
            end,
            activity,
        } = tunnel(&pipes).await;
        fill(&near).await;
        assert!(activity.up() > 0);
        far.write_all(b"last words").await.unwrap();
        reset(far);
        let mut near = near;
        let mut words = [0; 10];
        near.read_exact(&mut words).await.unwrap();
        assert_eq!(&words, b"last words");
        assert_reset(near).await;
        assert_eq!(end.await.unwrap(), End::UpstreamReset);
        assert_eq!(pipes.in_use(), 0);
    }
}

/// A client that has asked, finished and closed altogether: its upstream gets the question and is then told.
#[tokio::test]
async fn a_client_that_closes_after_its_question_resets_a_talking_upstream() {
    for pipes in without_and_with_pipes() {
        let Tunnel {
            mut near, mut far, end, ..
        } = tunnel(&pipes).await;
        near.write_all(b"question").await.unwrap();
        drop(near);
        let mut question = String::new();
        far.read_to_string(&mut question).await.unwrap();
        assert_eq!(question, "question");
        while far.write_all(&[0; 1000]).await.is_ok() {
            tokio::task::yield_now().await;
        }
        assert_eq!(end.await.unwrap(), End::ClientReset);
        assert_eq!(pipes.in_use(), 0);
    }
}

#[tokio::test]
async fn both_close_at_once() {
    for pipes in without_and_with_pipes() {
        for _ in 0..100 {
            let Tunnel { near, far, end, .. } = tunnel(&pipes).await;
            drop((near, far));
            assert_eq!(end.await.unwrap(), End::Finished);
        }
        assert_eq!(pipes.in_use(), 0);
    }
}

/// A TLS client, the proxy's side of it, and an upstream.
async fn tls_tunnel() -> (client::TlsStream<TcpStream>, TcpStream, tokio::task::JoinHandle<End>) {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["proxy.test".to_owned()]).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).unwrap();
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
    let server = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let ((near, accepted), (far, mut upstream)) = (pair().await, pair().await);
    let name = ServerName::try_from("proxy.test").unwrap();
    let connector = TlsConnector::from(Arc::new(client));
    let acceptor = TlsAcceptor::from(Arc::new(server));
    let (near, client) = tokio::join!(connector.connect(name, near), acceptor.accept(accepted));
    let mut client: server::TlsStream<TcpStream> = client.unwrap();
    let end = tokio::spawn(async move {
        let end = relay(
            &mut client,
            &mut upstream,
            &Activity::new(&Clock::new()),
            &Pipes::with(9, 1 << 16, 0),
        )
        .await;
        if end != End::Finished {
            net::abort(client.get_ref().0);
            net::abort(&upstream);
        }
        end
    });
    (near.unwrap(), far, end)
}

#[tokio::test]
async fn tls_ends_both_ways() {
    let (mut near, mut far, end) = tls_tunnel().await;
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|i| (i >> 3).to_le_bytes()[0]).collect();
    near.write_all(b"question").await.unwrap();
    near.flush().await.unwrap();
    let mut question = [0; 8];
    far.read_exact(&mut question).await.unwrap();
    let sending = async {
        far.write_all(&bytes).await.unwrap();
        far.shutdown().await.unwrap();
        far
    };
    let receiving = async {
        let mut received = Vec::new();
        near.read_to_end(&mut received).await.unwrap();
        (near, received)
    };
    let (mut far, (mut near, received)) = tokio::join!(sending, receiving);
    assert!(received == bytes);
    near.write_all(b"after the end").await.unwrap();
    near.shutdown().await.unwrap();
    let mut after = String::new();
    far.read_to_string(&mut after).await.unwrap();
    assert_eq!(after, "after the end");
    assert_eq!(end.await.unwrap(), End::Finished);
}

/// A TCP end without `close_notify` may be anybody's: it is no clean end.
#[tokio::test]
async fn a_cut_tls_stream_is_a_reset() {
    let (near, far, end) = tls_tunnel().await;
    let (mut tcp, _) = near.into_inner();
    tcp.shutdown().await.unwrap();
    assert_reset(far).await;
    assert_eq!(end.await.unwrap(), End::ClientReset);
}

#[tokio::test]
async fn a_lost_upstream_ends_tls_without_a_close_notify() {
    let (mut near, far, end) = tls_tunnel().await;
    reset(far);
    let error = near.read_to_end(&mut Vec::new()).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(end.await.unwrap(), End::UpstreamReset);
}
