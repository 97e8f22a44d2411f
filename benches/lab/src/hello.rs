//! A ClientHello of 517 bytes, the size that clients without post-quantum key exchange pad to.
//! Must be valid: each proxy that reads it is first seen to refuse one whose name is not on its list.
//! Called by the lab, once per name.

use anyhow::{Context, ensure};

/// Bytes of the hello, its record header included.
pub(crate) const LENGTH: usize = 517;

/// What the origin is to do after its answer; it stands in the random bytes, where no proxy looks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Wish {
    /// Send back what comes.
    Echo,
    /// Send so many bytes whenever it is told to.
    Down(u64),
    /// Take so many bytes, say so, and again.
    Up(u64),
    /// Send back what comes, on a thread that does nothing else.
    Alone,
}

impl Wish {
    /// What a hello of this module wishes for.
    pub(crate) fn of(hello: &[u8]) -> Option<Self> {
        let (kind, rest) = hello.get(RANDOM..)?.split_first()?;
        let length = u64::from_be_bytes(*rest.first_chunk()?);
        match kind {
            b'e' => Some(Self::Echo),
            b'd' => Some(Self::Down(length)),
            b'u' => Some(Self::Up(length)),
            b'a' => Some(Self::Alone),
            _ => None,
        }
    }

    fn random(self) -> [u8; 32] {
        let (kind, length) = match self {
            Self::Echo => (b'e', 0),
            Self::Down(length) => (b'd', length),
            Self::Up(length) => (b'u', length),
            Self::Alone => (b'a', 0),
        };
        let mut random = [1; 32];
        for (to, from) in random.iter_mut().zip([kind].into_iter().chain(length.to_be_bytes())) {
            *to = from;
        }
        random
    }
}

/// A whole TLS record with a ClientHello for that server name.
pub(crate) fn hello(name: &str, wish: Wish) -> anyhow::Result<Vec<u8>> {
    let mut extensions = Vec::new();
    let host = name.as_bytes();
    let mut server_name = vec![0];
    server_name.extend(with_length(host)?);
    extension(&mut extensions, 0, &with_length(&server_name)?)?;
    extension(&mut extensions, 23, &[])?; // extended_master_secret
    extension(&mut extensions, 10, &[0, 4, 0, 29, 0, 23])?; // supported_groups: x25519, secp256r1
    extension(&mut extensions, 11, &[1, 0])?; // ec_point_formats: uncompressed
    extension(&mut extensions, 16, b"\x00\x0c\x02h2\x08http/1.1")?; // ALPN
    extension(&mut extensions, 13, &[0, 8, 4, 3, 8, 4, 4, 1, 8, 5])?; // signature_algorithms
    let mut share = vec![0, 36, 0, 29, 0, 32];
    share.extend([7; 32]);
    extension(&mut extensions, 51, &share)?;
    extension(&mut extensions, 45, &[1, 1])?; // psk_key_exchange_modes
    extension(&mut extensions, 43, &[4, 3, 4, 3, 3])?; // supported_versions: 1.3, 1.2

    let mut body = vec![3, 3];
    body.extend(wish.random());
    body.push(32);
    body.extend([2; 32]); // legacy_session_id
    body.extend(with_length(&[0x13, 1, 0x13, 2, 0x13, 3, 0xc0, 0x2b, 0xc0, 0x2f])?);
    body.extend([1, 0]); // no compression
    let before_padding = RECORD_HEADER + MESSAGE_HEADER + body.len() + 2 + extensions.len();
    let padding = LENGTH
        .checked_sub(before_padding + EXTENSION_HEADER)
        .with_context(|| format!("{name} is too long for a hello of {LENGTH} bytes"))?;
    extension(&mut extensions, 21, &vec![0; padding])?;
    body.extend(with_length(&extensions)?);

    let mut message = vec![1, 0]; // client_hello; the length has three bytes
    message.extend(with_length(&body)?);
    let mut record = vec![22, 3, 1];
    record.extend(with_length(&message)?);
    ensure!(record.len() == LENGTH, "the hello has {} bytes", record.len());
    Ok(record)
}

fn extension(all: &mut Vec<u8>, kind: u8, content: &[u8]) -> anyhow::Result<()> {
    all.extend([0, kind]);
    all.extend(with_length(content)?);
    Ok(())
}

fn with_length(content: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut bytes = u16::try_from(content.len())?.to_be_bytes().to_vec();
    bytes.extend(content);
    Ok(bytes)
}

/// Where the random bytes begin: after both headers and the version.
const RANDOM: usize = RECORD_HEADER + MESSAGE_HEADER + 2;
const RECORD_HEADER: usize = 5;
const MESSAGE_HEADER: usize = 4;
const EXTENSION_HEADER: usize = 4;
