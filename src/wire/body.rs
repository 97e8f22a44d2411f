//! Where the body of a request ends: nothing, a length, or chunks read strictly (RFC 9112, sections 6 and 7).
//! Must not change bytes; it says how many of them belong to the body, so that the next head starts at the right one.
//! Called between two request heads of a connection.

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
pub struct BodyReader {
    at: At,
}

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

/// What the next byte is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// One of so many of a body with a length.
    Body(u64),
    /// A digit of a chunk's size, after this many that say this much so far; or the end of the digits.
    Size {
        digits: u8,
        size: u64,
    },
    /// The line feed behind the size.
    SizeEnd {
        size: u64,
    },
    /// One of so many of a chunk.
    Chunk(u64),
    /// The carriage return behind a chunk, and then its line feed.
    ChunkReturn,
    ChunkEnd,
    /// The carriage return behind the last chunk, and then its line feed.
    LastReturn,
    LastEnd,
    /// Nothing: the body is over.
    End,
    /// Nothing: it was refused.
    Refused(&'static str),
}

impl BodyReader {
    pub fn new(framing: Framing) -> Self {
        let at = match framing {
            Framing::Empty | Framing::Length(0) => At::End,
            Framing::Length(length) => At::Body(length),
            Framing::Chunked => At::Size { digits: 0, size: 0 },
        };
        Self { at }
    }

    /// `bytes` are those that follow what earlier calls said belongs to the body. All of them are judged: `More` says
    /// how many were given.
    ///
    /// Chunk extensions and trailers are refused: real clients do not send them in clear requests, and hops that read
    /// them differently are how requests get smuggled.
    pub fn advance(&mut self, bytes: &[u8]) -> BodyStep {
        let mut used = 0;
        loop {
            let left = bytes.len() - used;
            match &mut self.at {
                At::End => return BodyStep::Done(used),
                At::Refused(why) => return BodyStep::Reject(why),
                _ if left == 0 => return BodyStep::More(used),
                At::Body(missing) => {
                    used += pass(missing, left);
                    if *missing == 0 {
                        self.at = At::End;
                    }
                }
                At::Chunk(missing) => {
                    used += pass(missing, left);
                    if *missing == 0 {
                        self.at = At::ChunkReturn;
                    }
                }
                at => {
                    let Some(byte) = bytes.get(used) else {
                        return BodyStep::More(used);
                    };
                    *at = at.after(*byte);
                    used += 1;
                }
            }
        }
    }
}

impl At {
    /// What comes after this byte of the framing.
    fn after(self, byte: u8) -> Self {
        match (self, byte) {
            (Self::Size { digits: 16, .. }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                Self::Refused("a chunk size has more than 16 digits")
            }
            (Self::Size { digits, size }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => Self::Size {
                digits: digits + 1,
                // 16 digits are 64 bits: no bit is lost.
                size: size << 4 | u64::from(hexadecimal(byte)),
            },
            (Self::Size { digits: 1.., size }, b'\r') => Self::SizeEnd { size },
            (Self::Size { digits: 1.., .. }, b';') => Self::Refused("chunk extensions are refused"),
            (Self::Size { .. }, _) => Self::Refused("a chunk size is not a plain hexadecimal number with CRLF"),
            (Self::SizeEnd { size: 0 }, b'\n') => Self::LastReturn,
            (Self::SizeEnd { size }, b'\n') => Self::Chunk(size),
            (Self::SizeEnd { .. }, _) => Self::Refused("a chunk size does not end with CRLF"),
            (Self::ChunkReturn, b'\r') => Self::ChunkEnd,
            (Self::ChunkEnd, b'\n') => Self::Size { digits: 0, size: 0 },
            (Self::ChunkReturn | Self::ChunkEnd, _) => Self::Refused("a chunk does not end with CRLF"),
            (Self::LastReturn, b'\r') => Self::LastEnd,
            (Self::LastReturn, _) => Self::Refused("trailers are refused"),
            (Self::LastEnd, b'\n') => Self::End,
            (Self::LastEnd, _) => Self::Refused("the last chunk does not end with CRLF"),
            (Self::Body(_) | Self::Chunk(_) | Self::End | Self::Refused(_), _) => self,
        }
    }
}

/// Takes what is there of what is missing.
fn pass(missing: &mut u64, left: usize) -> usize {
    let taken = usize::try_from(*missing).map_or(left, |missing| missing.min(left));
    *missing -= taken as u64;
    taken
}

fn hexadecimal(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}
