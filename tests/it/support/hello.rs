//! `ClientHellos` made by hand, cut into TLS records and TCP segments at will.
//! Must not check what it is told to make; hostile hellos come from here too.
//! Called by tests of the TLS fronts.

/// A ClientHello under construction.
#[derive(Clone, Debug, Default)]
pub struct Hello {
    extensions: Vec<u8>,
}

impl Hello {
    /// Without any extension.
    pub fn bare() -> Self {
        Self::default()
    }

    /// With a `server_name`.
    pub fn sni(name: &str) -> Self {
        Self::bare().with_sni(name.as_bytes())
    }

    pub fn with_sni(self, name: &[u8]) -> Self {
        let mut entry = vec![0];
        entry.extend(len16(name));
        let list = len16(&entry);
        self.extension(0, &list)
    }

    pub fn extension(mut self, number: u16, data: &[u8]) -> Self {
        self.extensions.extend(number.to_be_bytes());
        self.extensions.extend(len16(data));
        self
    }

    /// An encrypted ClientHello as browsers send it, whether real or as a decoy.
    pub fn with_ech(self) -> Self {
        self.extension(0xfe0d, &[0, 0, 1, 0, 1, 7, 0, 2, 0xaa, 0xbb, 0, 4, 1, 2, 3, 4])
    }

    /// The key shares of a post-quantum hello make it 1.2 KiB longer.
    pub fn with_big_key_share(self) -> Self {
        let mut share = vec![0x11, 0xec];
        share.extend(len16(&[7; 1216]));
        let list = len16(&share);
        self.extension(51, &list)
    }

    /// The handshake message, without record headers.
    pub fn message(&self) -> Vec<u8> {
        let mut body = vec![3, 3];
        body.extend([0x5a; 32]);
        body.push(32);
        body.extend([0xa5; 32]);
        body.extend([0, 4, 0x13, 0x01, 0x13, 0x02, 1, 0]);
        body.extend(len16(&self.extensions));
        let mut message = vec![1];
        message.extend(&u32::try_from(body.len()).unwrap().to_be_bytes()[1..]);
        message.extend(body);
        message
    }

    /// In one TLS record.
    pub fn bytes(&self) -> Vec<u8> {
        record(&self.message())
    }

    /// In records with payloads of at most `size` bytes.
    pub fn in_records(&self, size: usize) -> Vec<u8> {
        self.message().chunks(size).flat_map(record).collect()
    }
}

/// One handshake record.
pub fn record(payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x16, 3, 1];
    bytes.extend(len16(payload));
    bytes
}

/// The alert that a TLS client got: level and description, if the bytes are one plain alert record.
pub fn alert(bytes: &[u8]) -> Option<(u8, u8)> {
    match bytes {
        [0x15, 3, _, 0, 2, level, description] => Some((*level, *description)),
        _ => None,
    }
}

fn len16(data: &[u8]) -> Vec<u8> {
    let mut bytes = u16::try_from(data.len()).unwrap().to_be_bytes().to_vec();
    bytes.extend(data);
    bytes
}

pub const ACCESS_DENIED: (u8, u8) = (2, 49);
pub const DECODE_ERROR: (u8, u8) = (2, 50);
pub const INTERNAL_ERROR: (u8, u8) = (2, 80);
