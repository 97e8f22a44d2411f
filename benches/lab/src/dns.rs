//! A DNS server: every name is at 127.0.0.1, no name has another record.
//! Must not depend on the resolver that it answers; the few bytes are written by hand (RFC 1035, section 4).
//! Called by the lab.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::Context;
use tokio::net::UdpSocket;

/// Starts answering on the port that every resolver asks; returns where. Only in a network of one's own is that port free
/// and this server the one that `/etc/resolv.conf` names (`benches/isolated` sees to both).
pub(crate) async fn start() -> anyhow::Result<SocketAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, PORT))
        .await
        .context("port 53 of 127.0.0.1 is not to be had: start the lab with benches/isolated, as root")?;
    let address = socket.local_addr()?;
    tokio::spawn(async move {
        let mut query = [0; 512];
        while let Ok((length, peer)) = socket.recv_from(&mut query).await {
            if let Some(answer) = query.get(..length).and_then(answer) {
                // Whoever does not get it asks again.
                let _ = socket.send_to(&answer, peer).await;
            }
        }
    });
    Ok(address)
}

fn answer(query: &[u8]) -> Option<Vec<u8>> {
    let end = question_end(query)?;
    let kind = query.get(end - 4..end - 2)?;
    let has_address = kind == TYPE_A;
    let mut bytes = query.get(..2)?.to_vec();
    // Response, authoritative, recursion desired and available, no error; one question.
    bytes.extend([0x85, 0x80, 0, 1]);
    // Answers, authorities, additional records: an address, or else the SOA that says how long there is none.
    bytes.extend(if has_address {
        [0, 1, 0, 0, 0, 0]
    } else {
        [0, 0, 0, 1, 0, 0]
    });
    bytes.extend(query.get(HEADER..end)?);
    bytes.extend([0xc0, 12]);
    bytes.extend(if has_address { TYPE_A } else { TYPE_SOA });
    bytes.extend(CLASS_IN);
    bytes.extend(TTL.to_be_bytes());
    if has_address {
        bytes.extend([0, 4, 127, 0, 0, 1]);
    } else {
        bytes.extend([0, 22, 0, 0]);
        for _ in 0..5 {
            bytes.extend(TTL.to_be_bytes());
        }
    }
    Some(bytes)
}

/// Where the one question ends: its name, type and class.
fn question_end(query: &[u8]) -> Option<usize> {
    let mut at = HEADER;
    loop {
        match query.get(at)? {
            0 => return Some(at + 5).filter(|end| *end <= query.len()),
            label => at += 1 + usize::from(*label),
        }
    }
}

const PORT: u16 = 53;
const HEADER: usize = 12;
const TYPE_A: [u8; 2] = [0, 1];
const TYPE_SOA: [u8; 2] = [0, 6];
const CLASS_IN: [u8; 2] = [0, 1];
/// Seconds; longer than any run.
const TTL: u32 = 86_400;
