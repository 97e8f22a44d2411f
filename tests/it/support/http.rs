//! HTTP/1.1 messages as tests see them: heads byte-exact, bodies by their framing.
//! Must not forgive: what is not a well-formed message fails the test that reads it.
//! Called by the origins for requests and by the raw client for answers.

use std::io::{self, Read};

/// A message that was read: its head byte for byte, and its body without framing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    pub head: String,
    pub body: Vec<u8>,
}

impl Message {
    /// The request or status line.
    pub fn line(&self) -> &str {
        self.head.lines().next().unwrap_or_default()
    }

    pub fn method(&self) -> &str {
        self.line().split(' ').next().unwrap_or_default()
    }

    pub fn target(&self) -> &str {
        self.line().split(' ').nth(1).unwrap_or_default()
    }

    pub fn status(&self) -> u16 {
        self.target()
            .parse()
            .unwrap_or_else(|_| panic!("no status in {:?}", self.head))
    }

    /// The one value of a field. More than one fails the test.
    pub fn field(&self, name: &str) -> Option<&str> {
        let values = self.fields(name);
        assert!(values.len() < 2, "{name} stands more than once in {:?}", self.head);
        values.first().copied()
    }

    pub fn fields(&self, name: &str) -> Vec<&str> {
        let fields = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        fields
            .filter(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
            .collect()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Reads a head; `None` where the stream ends before its first byte.
    pub fn read_head(stream: &mut impl Read) -> io::Result<Option<Self>> {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read(&mut byte)? {
                0 if head.is_empty() => return Ok(None),
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                _ => head.push(byte[0]),
            }
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        Ok(Some(Self { head, body: Vec::new() }))
    }

    /// Reads the body that belongs to the head. `to_close`: without framing it goes on to the end of the stream.
    pub fn read_body(&mut self, stream: &mut impl Read, to_close: bool) -> io::Result<()> {
        if self.fields("transfer-encoding") == ["chunked"] {
            return self.read_chunks(stream);
        }
        match self.field("content-length") {
            Some(length) => {
                let length: u64 = length.parse().unwrap();
                let read = stream.take(length).read_to_end(&mut self.body)?;
                if read as u64 != length {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            None if to_close => {
                stream.read_to_end(&mut self.body)?;
            }
            None => {}
        }
        Ok(())
    }

    fn read_chunks(&mut self, stream: &mut impl Read) -> io::Result<()> {
        loop {
            let line = read_line(stream)?;
            let size = u64::from_str_radix(line.split(';').next().unwrap_or_default().trim(), 16)
                .map_err(|_| io::Error::other(format!("bad chunk size {line:?}")))?;
            if size == 0 {
                while !read_line(stream)?.is_empty() {}
                return Ok(());
            }
            stream.take(size).read_to_end(&mut self.body)?;
            let end = read_line(stream)?;
            assert!(end.is_empty(), "a chunk does not end where it says: {end:?}");
        }
    }
}

fn read_line(stream: &mut impl Read) -> io::Result<String> {
    let mut line = Vec::new();
    let mut byte = [0];
    while !line.ends_with(b"\r\n") {
        if stream.read(&mut byte)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        line.push(byte[0]);
    }
    line.truncate(line.len() - 2);
    Ok(String::from_utf8_lossy(&line).into_owned())
}
