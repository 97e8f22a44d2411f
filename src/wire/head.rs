//! The head of an HTTP/1.x request, read strictly (RFC 9112) before hyper may see it.
//! Must not repair: one Host, CRLF only, one spelling of everything that decides where bytes go or where a body ends.
//! Called for each request of each connection that speaks HTTP to us.

use http::Method;

use crate::name::{Authority, Host, Port};
use crate::policy::Reason;

use super::Progress;
use super::body::Framing;

/// A request head that passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHead {
    /// Length of the head in bytes, with the empty line.
    pub len: usize,
    pub method: Method,
    pub version: Version,
    pub target: Target,
    /// The Host field. HTTP/1.0 may come without one.
    pub host: Option<Authority>,
    pub framing: Framing,
    /// `Expect: 100-continue` on an HTTP/1.1 request.
    pub expect_continue: bool,
    /// The single token of `Upgrade`, lower case, where `Connection: upgrade` names it too.
    pub upgrade: Option<String>,
    /// Every `Via` value, joined by `, `; for loop detection only.
    pub via: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    Http10,
    Http11,
}

/// The request target (RFC 9112, section 3.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// `CONNECT host:port`.
    Connect { host: Host, port: Port },
    /// `http://host[:port]/path`: the port is filled in.
    Absolute { host: Host, port: Port },
    /// `/path`; only where the client believes to speak to the server itself.
    Origin,
}

/// Which target forms the listener takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// An explicit proxy: CONNECT and absolute form. Origin form and `*` are `not_proxy_request`.
    Proxy,
    /// A transparent listener or a tunnel: origin form with a Host, or absolute form whose host equals the Host.
    /// CONNECT is `bad_method`.
    Origin,
}

/// Why bytes are not a request head that we forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadReject {
    pub reason: Reason,
    /// One phrase for the record and the answer; never raw input.
    pub detail: &'static str,
}

/// Reads one request head out of a growing buffer.
#[derive(Debug)]
pub struct HeadReader {
    form: Form,
}

impl HeadReader {
    pub fn new(form: Form) -> Self {
        Self { form }
    }

    /// `received` begins with the first byte of this head and only ever grows between calls.
    pub fn advance(&mut self, received: &[u8]) -> Progress<RequestHead, HeadReject> {
        let _ = (received, self.form);
        todo!()
    }
}

/// Longest head in bytes, with request line and empty line.
pub const MAX_HEAD: usize = 16 * 1024;
/// Longest request target in bytes.
pub const MAX_TARGET: usize = 8 * 1024;
/// Most fields in one head.
pub const MAX_FIELDS: usize = 100;
