//! Where the body of a request ends: nothing, a length, or chunks read strictly (RFC 9112, sections 6 and 7).
//! Must not change bytes; it says how many of them belong to the body, so that the next head starts at the right one.
//! Called between two request heads of a connection.

use crate::policy::Reason;

/// How the end of a request body is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// No body.
    Empty,
    /// This many bytes, at least 1.
    Length(u64),
    Chunked,
}

/// Follows one request body.
#[derive(Debug)]
pub struct BodyReader {}

/// What [`BodyReader::advance`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyStep {
    /// The first `n` bytes belong to the body (all that were given, or as many as can be judged yet); more must come.
    More(usize),
    /// The body ends after the first `n` bytes.
    Done(usize),
    /// The chunk framing is malformed; nothing from here on may be passed. Always `bad_framing`.
    Reject(&'static str),
}

impl BodyReader {
    pub fn new(framing: Framing) -> Self {
        let _ = framing;
        todo!()
    }

    /// `bytes` are those that follow what earlier calls said belongs to the body.
    pub fn advance(&mut self, bytes: &[u8]) -> BodyStep {
        let _ = (bytes, Reason::BadFraming);
        todo!()
    }
}
