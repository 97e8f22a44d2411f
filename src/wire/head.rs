//! The head of an HTTP/1.x request, read strictly (RFC 9112) before hyper may see it.
//! Must not repair: one Host, CRLF only, one spelling of everything that decides where bytes go or where a body ends.
//! Called for each request of each connection that speaks HTTP to us.

mod fields;
mod line;

use std::mem::MaybeUninit;
use std::ops::Range;

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
    /// `http://host[:port]/path`: the port is filled in. `bare` if neither path nor query followed the authority.
    Absolute { host: Host, port: Port, bare: bool },
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
///
/// Each byte is looked at once while the head comes in, and bytes that no head can hold are refused at once; the fields
/// are read when the head is whole.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone, PartialEq))]
pub struct HeadReader {
    form: Form,
    /// Bytes that were looked at.
    scanned: usize,
    /// Where the line begins that is coming in.
    line_start: usize,
    /// Field lines so far.
    fields: usize,
    /// The first line, once it is whole.
    line: Option<RequestLine>,
}

/// The first line of a request, judged.
#[derive(Clone, Debug, PartialEq, Eq)]
struct RequestLine {
    method: Method,
    version: Version,
    target: Target,
    written: Option<Written>,
}

/// The authority of a target as it stands in the head, so that a Host field of the same text is not read again.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Written {
    place: Range<usize>,
    read: Authority,
}

impl HeadReader {
    pub fn new(form: Form) -> Self {
        Self {
            form,
            scanned: 0,
            line_start: 0,
            fields: 0,
            line: None,
        }
    }

    /// `received` begins with the first byte of this head and only ever grows between calls.
    pub fn advance(&mut self, received: &[u8]) -> Progress<RequestHead, HeadReject> {
        match self.scan(received) {
            Ok(Some(len)) => match self.finish(received.get(..len).unwrap_or_default()) {
                Ok(head) => Progress::Value(head),
                Err(reject) => Progress::Reject(reject),
            },
            Ok(None) => Progress::Need(1),
            Err(reject) => Progress::Reject(reject),
        }
    }

    /// Looks at the new bytes; the length of the head once its empty line is there.
    fn scan(&mut self, received: &[u8]) -> Result<Option<usize>, HeadReject> {
        while self.scanned < received.len() {
            let after_return = self.scanned > 0 && received.get(self.scanned - 1) == Some(&b'\r');
            if !after_return {
                let end = self.next_bound().min(received.len());
                self.scanned += plain_len(received.get(self.scanned..end).unwrap_or_default());
            }
            let Some(byte) = received.get(self.scanned) else { break };
            let line = received.get(self.line_start..self.scanned).unwrap_or_default();
            if self.look(*byte, line, after_return)? {
                return Ok(Some(self.scanned));
            }
        }
        Ok(None)
    }

    /// At which byte something must be judged though it may be as plain as all before it.
    fn next_bound(&self) -> usize {
        match self.line {
            None if self.scanned <= MAX_METHOD + 1 => MAX_METHOD + 1,
            None if self.scanned <= MAX_LINE => MAX_LINE,
            _ => MAX_HEAD,
        }
    }

    /// Judges the next byte, of which only those matter that are not plain or stand at a bound. `line` is what stands
    /// before it in its line. `true`: the head ends with it.
    fn look(&mut self, byte: u8, line: &[u8], after_return: bool) -> Result<bool, HeadReject> {
        let at = self.scanned;
        if at == MAX_HEAD {
            return Err(reject(Reason::HeadTooLarge, "the head is longer than 16 KiB"));
        }
        let bad = match byte {
            b'\n' => !after_return,
            _ if after_return => true,
            b'\r' => false,
            _ => !is_plain(byte),
        };
        if self.line.is_none() {
            if bad || at == MAX_METHOD + 1 || at == MAX_LINE || (at == 0 && byte == b'\r') {
                line::check_unfinished(line, bad)?;
            }
        } else if bad {
            return Err(reject(
                Reason::BadRequest,
                "a control byte stands in a field, or a line ends without CRLF",
            ));
        }
        self.scanned = at + 1;
        if byte != b'\n' {
            return Ok(false);
        }
        self.line_start = at + 1;
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if self.line.is_none() {
            self.line = Some(line::read(line, self.form)?);
        } else if line.is_empty() {
            return Ok(true);
        } else {
            self.fields += 1;
            if self.fields > MAX_FIELDS {
                return Err(reject(Reason::HeadTooLarge, "the head has more than 100 fields"));
            }
        }
        Ok(false)
    }

    fn finish(&mut self, head: &[u8]) -> Result<RequestHead, HeadReject> {
        let line = self
            .line
            .take()
            .ok_or(reject(Reason::BadRequest, "the request line is missing"))?;
        let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
        let mut request = httparse::Request::new(&mut []);
        match request.parse_with_uninit_headers(head, &mut fields) {
            Ok(httparse::Status::Complete(len)) if len == head.len() => {}
            _ => return Err(reject(Reason::BadRequest, "a header field is malformed")),
        }
        fields::read(line, head, request.headers, self.form)
    }
}

/// How many bytes at the front are plain. Whole blocks are looked at without a branch for each byte.
fn plain_len(bytes: &[u8]) -> usize {
    let (blocks, _) = bytes.as_chunks::<16>();
    let all_plain = |block: &&[u8; 16]| block.iter().fold(true, |all, byte| all & is_plain(*byte));
    let start = blocks.iter().take_while(all_plain).count() * 16;
    let rest = bytes.get(start..).unwrap_or_default();
    start + rest.iter().position(|byte| !is_plain(*byte)).unwrap_or(rest.len())
}

/// Whether a byte may stand anywhere within a line, as far as the scan is concerned.
fn is_plain(byte: u8) -> bool {
    (byte >= b' ' || byte == b'\t') && byte != 0x7f
}

fn reject(reason: Reason, detail: &'static str) -> HeadReject {
    HeadReject { reason, detail }
}

/// Longest head in bytes, with request line and empty line.
pub const MAX_HEAD: usize = 16 * 1024;
/// Longest request target in bytes.
pub const MAX_TARGET: usize = 8 * 1024;
/// Most fields in one head.
pub const MAX_FIELDS: usize = 100;
/// Longest method in bytes; the longest registered one has 17.
const MAX_METHOD: usize = 32;
/// No request line is longer, with its carriage return.
const MAX_LINE: usize = MAX_METHOD + 1 + MAX_TARGET + " HTTP/1.1\r".len();

#[cfg(test)]
pub(super) mod tests;
