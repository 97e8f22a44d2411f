//! The ClientHello of a TLS connection, read strictly across TLS records and TCP segments.
//! Must not accept what rustls would read differently, and never waits for bytes that cannot help.
//! Called by the transparent TLS front and inside tunnels, before one byte reaches the upstream.

use crate::name::HostName;
use crate::policy::Reason;

use super::Progress;

/// What the gate needs to know of a ClientHello.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The server_name; `None` without that extension.
    pub sni: Option<HostName>,
    /// Whether an `encrypted_client_hello` (0xfe0d) or ESNI (0xffce) extension stands in it.
    pub ech: bool,
}

/// Why bytes are not a ClientHello that we read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HelloReject {
    /// `not_tls`, `bad_hello` or `bad_sni`.
    pub reason: Reason,
    /// One phrase for the record.
    pub detail: &'static str,
}

/// Reads one ClientHello out of a growing buffer.
#[derive(Debug, Default)]
pub struct HelloReader {}

impl HelloReader {
    pub fn new() -> Self {
        Self::default()
    }

    /// `received` is everything the client has sent so far, from its first byte; it only ever grows between calls.
    pub fn advance(&mut self, received: &[u8]) -> Progress<Hello, HelloReject> {
        let _ = received;
        todo!()
    }
}
