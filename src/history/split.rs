//! Cuts the bytes of a log into lines and JSON objects, however they are laid out: one per line, an array, indented.
//! Must not hold more than one piece, and must find its feet again after a torn one.
//! Called by the reader, with whatever chunks the file comes in.

/// What a piece is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// One JSON object, as far as its braces tell.
    Object,
    /// A line that does not begin with one.
    Text,
    /// Something that began as JSON and is none; the bytes say why, for a person.
    Broken,
}

/// Takes chunks, gives pieces.
#[derive(Debug)]
pub(super) struct Splitter {
    state: State,
    /// The piece so far.
    piece: Vec<u8>,
    /// Number of the line that is being read, from 1, and of the one where the piece began.
    line: u64,
    began: u64,
    in_array: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// At the start of a line, past its white space.
    Start,
    /// After a `[` at the start of a line: an array, or text such as `[INFO]`.
    Bracket,
    Text,
    /// Between two elements of an array, or after an object.
    Between,
    Object(Scan),
    /// Past something that is broken, up to the end of the line.
    Skip,
}

/// Where in an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Scan {
    depth: u32,
    in_string: bool,
    escaped: bool,
    /// The byte before was a line end.
    at_margin: bool,
}

impl Splitter {
    pub(super) fn new() -> Self {
        Self {
            state: State::Start,
            piece: Vec::new(),
            line: 1,
            began: 1,
            in_array: false,
        }
    }

    /// Takes the next bytes; `give` gets each piece with the line on which it began.
    pub(super) fn push(&mut self, chunk: &[u8], give: &mut impl FnMut(u64, Kind, &[u8])) {
        for byte in chunk {
            self.byte(*byte, give);
            if *byte == b'\n' {
                self.line += 1;
            }
        }
    }

    /// The log ends here.
    pub(super) fn finish(mut self, give: &mut impl FnMut(u64, Kind, &[u8])) {
        match self.state {
            State::Object(_) => self.give_broken("the object does not end", give),
            State::Bracket | State::Text => self.give(Kind::Text, give),
            State::Between if self.in_array => self.give_broken("the array does not end", give),
            State::Start | State::Between | State::Skip => {}
        }
    }

    fn byte(&mut self, byte: u8, give: &mut impl FnMut(u64, Kind, &[u8])) {
        match self.state {
            State::Start => match byte {
                b' ' | b'\t' | b'\r' | b'\n' => {}
                b'{' => self.begin_object(),
                _ => {
                    self.began = self.line;
                    self.piece.push(byte);
                    self.state = if byte == b'[' { State::Bracket } else { State::Text };
                }
            },
            State::Bracket => match byte {
                b' ' | b'\t' | b'\r' | b'\n' => {}
                b'{' => {
                    self.in_array = true;
                    self.piece.clear();
                    self.begin_object();
                }
                b']' => {
                    self.piece.clear();
                    self.state = State::Between;
                }
                _ => {
                    self.state = State::Text;
                    self.piece.push(byte);
                }
            },
            State::Text => match byte {
                b'\n' => self.give(Kind::Text, give),
                _ if self.piece.len() >= MAX_PIECE => self.too_long(give),
                _ => self.piece.push(byte),
            },
            State::Between => match byte {
                b'\n' if !self.in_array => self.state = State::Start,
                b' ' | b'\t' | b'\r' | b'\n' | b',' => {}
                b'{' => self.begin_object(),
                b']' if self.in_array => self.in_array = false,
                _ => {
                    self.began = self.line;
                    self.give_broken("an object is followed by something else", give);
                    self.state = State::Skip;
                }
            },
            State::Object(scan) => self.object(byte, scan, give),
            State::Skip => {
                if byte == b'\n' {
                    self.resume();
                }
            }
        }
    }

    fn object(&mut self, byte: u8, scan: Scan, give: &mut impl FnMut(u64, Kind, &[u8])) {
        if self.piece.len() >= MAX_PIECE {
            return self.too_long(give);
        }
        if byte == b'\n' && scan.in_string {
            self.give_broken("the line ends within a text", give);
            return self.resume();
        }
        // Indented output has no brace at the margin but the first one and the last: this is the next record.
        if byte == b'{' && scan.at_margin {
            self.give_broken("the object does not end before the next one begins", give);
            return self.begin_object();
        }
        self.piece.push(byte);
        let mut next = Scan {
            at_margin: byte == b'\n',
            escaped: false,
            ..scan
        };
        match byte {
            _ if scan.escaped => {}
            b'\\' => next.escaped = scan.in_string,
            b'"' => next.in_string = !scan.in_string,
            b'{' | b'[' if !scan.in_string => next.depth += 1,
            b'}' | b']' if !scan.in_string => next.depth -= 1,
            _ => {}
        }
        if next.depth == 0 {
            self.give(Kind::Object, give);
            self.state = State::Between;
        } else {
            self.state = State::Object(next);
        }
    }

    fn begin_object(&mut self) {
        self.began = self.line;
        self.piece.push(b'{');
        self.state = State::Object(Scan {
            depth: 1,
            in_string: false,
            escaped: false,
            at_margin: false,
        });
    }

    fn give(&mut self, kind: Kind, give: &mut impl FnMut(u64, Kind, &[u8])) {
        give(self.began, kind, &self.piece);
        self.piece.clear();
        self.state = State::Start;
    }

    fn give_broken(&mut self, why: &str, give: &mut impl FnMut(u64, Kind, &[u8])) {
        give(self.began, Kind::Broken, why.as_bytes());
        self.piece.clear();
        self.state = State::Start;
    }

    fn too_long(&mut self, give: &mut impl FnMut(u64, Kind, &[u8])) {
        self.give_broken("it is longer than any record", give);
        self.state = State::Skip;
    }

    fn resume(&mut self) {
        self.state = if self.in_array { State::Between } else { State::Start };
    }
}

/// The longest record that is read, and the most that is ever held; whole answers of REST APIs fit as well.
const MAX_PIECE: usize = 64 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    /// The same pieces come out whatever chunks the text comes in.
    #[test]
    fn pieces_are_found_in_every_layout() {
        for (text, expected) in [
            ("", &[][..]),
            ("a\nb", &["1 a", "2 b"]),
            ("\n\n  a \r\n", &["3 a \r"]),
            ("{\"a\":1}\n{\"b\":{}}\n", &["1 {\"a\":1}", "2 {\"b\":{}}"]),
            ("[{\"a\":1},{\"b\":2}]\ntext", &["1 {\"a\":1}", "1 {\"b\":2}", "2 text"]),
            (
                "[\n  {\n    \"a\": \"}\\\"]\"\n  },\n  {\"b\": [1]}\n]\n",
                &["2 {\n    \"a\": \"}\\\"]\"\n  }", "5 {\"b\": [1]}"],
            ),
            ("[]\n{\"a\":1}", &["2 {\"a\":1}"]),
            ("[INFO] x\n[ERROR] y", &["1 [INFO] x", "2 [ERROR] y"]),
            ("{\"a\":1}{\"b\":2}", &["1 {\"a\":1}", "1 {\"b\":2}"]),
            (
                "{\"a\":\"torn\n{\"b\":2}\n",
                &["1 ! the line ends within a text", "2 {\"b\":2}"],
            ),
            (
                "{\"a\":1,\n{\"b\":2}\n",
                &["1 ! the object does not end before the next one begins", "2 {\"b\":2}"],
            ),
            ("{\"a\":1", &["1 ! the object does not end"]),
            ("[{\"a\":1},", &["1 {\"a\":1}", "1 ! the array does not end"]),
            (
                "{\"a\":1} x\n{\"b\":2}",
                &[
                    "1 {\"a\":1}",
                    "1 ! an object is followed by something else",
                    "2 {\"b\":2}",
                ],
            ),
        ] {
            for size in [1, 2, 7, 1000] {
                let mut found = Vec::new();
                let mut give = |line, kind, piece: &[u8]| {
                    let mark = if kind == Kind::Broken { "! " } else { "" };
                    found.push(format!("{line} {mark}{}", String::from_utf8_lossy(piece)));
                };
                let mut splitter = Splitter::new();
                for chunk in text.as_bytes().chunks(size) {
                    splitter.push(chunk, &mut give);
                }
                splitter.finish(&mut give);
                assert_eq!(found, expected, "{text:?} in chunks of {size}");
            }
        }
    }
}
