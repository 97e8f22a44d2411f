//! An explicit listener over TLS: `https://` proxies, client certificates, certificates that change while it runs.
//! Must not look at TLS inside tunnels; that is `inspect`.
//! Called by `tests/run`.

use std::io::{Read, Write};
use std::sync::Arc;

use rustls::{ClientConfig, NamedGroup};
use serde_json::json;

use crate::support::DEADLINE;
use crate::support::ca::Ca;
use crate::support::client::{Client, Tls};
use crate::support::http::Message;
use crate::support::origin::Origin;
use crate::support::proxy::Proxy;
use crate::support::setup::Setup;
use crate::support::world::Origins;

struct Lab {
    origins: Origins,
    ca: Ca,
    proxy: Proxy,
}

fn start(client_ca: Option<&Ca>) -> Lab {
    let (origins, ca) = (Origins::start(), Ca::new("proxy"));
    let mut tls = json!({"cert": "proxy.crt", "key": "proxy.key"});
    let mut setup = Setup::new(&origins.policy()).dns(&origins.dns);
    ca.server(&["proxy.test"]).write(
        &setup.folder.path().join("proxy.crt"),
        &setup.folder.path().join("proxy.key"),
    );
    if let Some(client_ca) = client_ca {
        tls["client_ca"] = json!("clients.crt");
        setup = setup.file("clients.crt", &client_ca.pem());
    }
    let proxy = setup
        .listener(json!({"name": "secure", "mode": "explicit", "bind": "127.0.0.1:0", "tls": tls}))
        .set("timeouts.head", json!("2s"))
        .set("timeouts.half_close", json!("500ms"))
        .start();
    Lab { origins, ca, proxy }
}

fn connect(lab: &Lab, config: &Arc<ClientConfig>) -> std::io::Result<(Tls, Message)> {
    let mut stream = Client::connect(lab.proxy.at("secure")).tls(config, "proxy.test");
    let target = lab.origins.echo_target();
    stream.write_all(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n").as_bytes())?;
    let answer = Message::read_head(&mut stream)?.ok_or(std::io::ErrorKind::UnexpectedEof)?;
    Ok((stream, answer))
}

#[test]
fn a_client_that_goes_away_ends_its_exchange_over_tls_too() {
    let lab = start(None);
    let silent = Origin::start("127.0.0.1:0", |tap| tap.read_to_end(&mut Vec::new()).map(drop));
    let host = format!("plain.allowed.test:{}", silent.port());
    lab.proxy.reload(&format!(
        "allow: [{{to: [\"http://{host}\"], addresses: [127.0.0.0/8]}}]"
    ));
    let config = lab.ca.client_config();
    // A reset, an end of the connection without an end of TLS, and both ends in order.
    for (number, way) in ["reset", "cut", "closed"].into_iter().enumerate() {
        let mut stream = Client::connect(lab.proxy.at("secure")).tls(&config, "proxy.test");
        stream
            .write_all(format!("GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes())
            .unwrap();
        let id = lab.proxy.nth_decision(number).id().to_owned();
        match way {
            "reset" => Client::over(stream.sock).reset(),
            "cut" => drop(stream.sock),
            _ => {
                stream.conn.send_close_notify();
                stream.flush().unwrap();
                assert!(stream.read(&mut [0]).is_err());
            }
        }
        silent.expect_end(number);
        let end = if way == "closed" { "half_closed" } else { "client_reset" };
        assert_eq!(lab.proxy.tunnel(&id).text("end"), end, "{way}");
    }
}

#[test]
fn a_tunnel_through_an_https_proxy_with_a_post_quantum_exchange() {
    let lab = start(None);
    let (mut stream, answer) = connect(&lab, &lab.ca.client_config()).unwrap();
    assert_eq!(answer.status(), 200);
    let group = stream.conn.negotiated_key_exchange_group().unwrap().name();
    assert_eq!(group, NamedGroup::X25519MLKEM768);
    stream.write_all(b"through").unwrap();
    let mut back = [0; 7];
    stream.read_exact(&mut back).unwrap();
    assert_eq!(&back, b"through");
    stream.conn.send_close_notify();
    stream.flush().unwrap();
    drop(stream);
    let record = lab.proxy.nth_decision(0);
    assert_eq!(
        (record.verdict().as_str(), record.text("listener")),
        ("allow rule", "secure")
    );
    lab.proxy.tunnel(record.id());
}

#[test]
fn a_refusal_is_told_inside() {
    let lab = start(None);
    let mut stream = Client::connect(lab.proxy.at("secure")).tls(&lab.ca.client_config(), "proxy.test");
    stream
        .write_all(b"CONNECT denied.test:443 HTTP/1.1\r\nHost: denied.test:443\r\n\r\n")
        .unwrap();
    let mut answer = Message::read_head(&mut stream).unwrap().unwrap();
    assert_eq!(answer.line(), "HTTP/1.1 403 Denied by sluicegate (no_rule)");
    answer.read_body(&mut stream, true).unwrap();
    assert!(answer.text().contains("denied.test"));
    // A clean end: close_notify came.
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
}

#[test]
fn e43_the_outer_name_covers_nothing_inside() {
    let lab = start(None);
    let target = lab.origins.tls_target("api.allowed.test");
    let mut stream = Client::connect(lab.proxy.at("secure")).tls(&lab.ca.client_config(), "proxy.test");
    stream
        .write_all(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n").as_bytes())
        .unwrap();
    assert_eq!(Message::read_head(&mut stream).unwrap().unwrap().status(), 200);
    stream
        .write_all(&crate::support::hello::Hello::sni("denied.test").bytes())
        .unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert_eq!(
        crate::support::hello::alert(&answer),
        Some(crate::support::hello::ACCESS_DENIED)
    );
    assert_eq!(lab.origins.https.received(), b"");
    assert_eq!(lab.proxy.nth_decision(0).verdict(), "deny sni_mismatch");
}

#[test]
fn with_client_ca_a_certificate_is_required() {
    let clients = Ca::new("clients");
    let lab = start(Some(&clients));
    assert!(connect(&lab, &lab.ca.client_config()).is_err());
    let stranger = Ca::new("strangers").client("somebody");
    assert!(connect(&lab, &lab.ca.client_config_with(&stranger)).is_err());
    let own = clients.client("trips");
    assert_eq!(connect(&lab, &lab.ca.client_config_with(&own)).unwrap().1.status(), 200);
    assert!(lab.origins.echo.connections.wait_len(1));
    assert_eq!(lab.origins.echo.accepted(), 1);
}

#[test]
fn certificates_change_without_a_failed_handshake() {
    let lab = start(None);
    let trust = lab.ca.client_config();
    let (mut kept, _) = connect(&lab, &trust).unwrap();
    let first = serial(&kept);
    let (cert, key) = (lab.proxy.path("proxy.crt"), lab.proxy.path("proxy.key"));
    // Half a change: the certificate does not fit the key, and the old pair stays.
    let next = lab.ca.server(&["proxy.test"]);
    std::fs::write(&cert, next.cert.pem()).unwrap();
    lab.proxy.expect_log("proxy.crt");
    assert_eq!(serial(&connect(&lab, &trust).unwrap().0), first);
    next.write(&cert, &key);
    let end = std::time::Instant::now() + DEADLINE;
    let mut handshakes = 0;
    while serial(
        &connect(&lab, &trust)
            .expect("no handshake fails while certificates change")
            .0,
    ) == first
    {
        handshakes += 1;
        assert!(
            std::time::Instant::now() < end,
            "still the old certificate after {handshakes} handshakes"
        );
    }
    kept.write_all(b"old").unwrap();
    kept.read_exact(&mut [0; 3]).unwrap();
}

#[test]
fn plain_http_on_a_tls_port_is_no_crash() {
    let lab = start(None);
    let mut client = Client::connect(lab.proxy.at("secure"));
    client.send("CONNECT api.allowed.test:443 HTTP/1.1\r\n\r\n");
    let (answer, _) = client.read_to_end();
    assert!(!answer.starts_with(b"HTTP/1.1 200"));
    // One that never finishes its handshake is let go.
    let mut silent = Client::connect(lab.proxy.at("secure"));
    assert_ne!(silent.read_to_end().1, crate::support::client::Ending::Open);
    assert!(connect(&lab, &lab.ca.client_config()).is_ok());
}

#[test]
fn bad_certificates_stop_the_start() {
    let origins = Origins::start();
    let tls = json!({"cert": "no.crt", "key": "no.key"});
    let (code, said) = Setup::new(&origins.policy())
        .listener(json!({"name": "secure", "mode": "explicit", "bind": "127.0.0.1:0", "tls": tls}))
        .fails();
    assert!(code == 1 || code == 2, "{said}");
    assert!(said.contains("no.crt") && said.contains("secure"), "{said}");
}

fn serial(stream: &Tls) -> Vec<u8> {
    stream.conn.peer_certificates().unwrap()[0].to_vec()
}
