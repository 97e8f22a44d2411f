//! `host:port` as it stands in a CONNECT line, a URI and a Host field.
//! Must not guess: no userinfo, no default that the caller did not ask for, no second spelling of a port.
//! Called by the request-head reader and by everything that reads a destination.

use std::fmt;
use std::num::NonZeroU16;

use thiserror::Error;

use super::host::{BadHost, Host};

/// A TCP port, 1 to 65535.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port(NonZeroU16);

/// A host with the port that was written behind it, if any.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Authority {
    pub host: Host,
    pub port: Option<Port>,
}

/// Why bytes are not an authority.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BadAuthority {
    #[error("this is not `host:port`: {0}")]
    Shape(&'static str),
    #[error(transparent)]
    Host(#[from] BadHost),
    #[error("the port is not a decimal number from 1 to 65535 without leading zeros")]
    Port,
}

impl Port {
    pub const HTTP: Self = Self(NonZeroU16::new(80).unwrap());
    pub const HTTPS: Self = Self(NonZeroU16::new(443).unwrap());

    /// `None` for 0, which is no port that anything can be reached on.
    pub const fn new(number: u16) -> Option<Self> {
        match NonZeroU16::new(number) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    /// Reads decimal digits without sign or leading zeros: peers that accept `0443` log one port and match another.
    pub fn parse(text: &[u8]) -> Result<Self, BadAuthority> {
        let plain = !text.is_empty() && text.len() <= 5 && text[0] != b'0' && text.iter().all(u8::is_ascii_digit);
        if !plain {
            return Err(BadAuthority::Port);
        }
        let number = text
            .iter()
            .fold(0_u32, |number, digit| number * 10 + u32::from(digit - b'0'));
        u16::try_from(number).ok().and_then(Self::new).ok_or(BadAuthority::Port)
    }

    pub const fn number(self) -> u16 {
        self.0.get()
    }
}

impl Authority {
    /// Reads `host` or `host:port` (RFC 3986, section 3.2, without userinfo).
    pub fn parse(text: &[u8]) -> Result<Self, BadAuthority> {
        if text.is_empty() {
            return Err(BadAuthority::Shape("it is empty"));
        }
        if text.contains(&b'@') {
            return Err(BadAuthority::Shape("user information (`@`) is not accepted"));
        }
        if text.iter().any(|byte| matches!(byte, b'/' | b'\\' | b'?' | b'#')) {
            return Err(BadAuthority::Shape("it holds a path or a scheme"));
        }
        let (host, port) = split_port(text)?;
        if host.is_empty() {
            return Err(BadAuthority::Shape("the host is missing"));
        }
        let host = Host::parse(host)?;
        let port = port.map(Port::parse).transpose()?;
        Ok(Self { host, port })
    }

    /// Reads the target of a CONNECT request, where the port must be written (RFC 9110, section 9.3.6).
    pub fn parse_connect(text: &[u8]) -> Result<(Host, Port), BadAuthority> {
        let authority = Self::parse(text)?;
        let port = authority.port.ok_or(BadAuthority::Shape("the port is missing"))?;
        Ok((authority.host, port))
    }
}

fn split_port(text: &[u8]) -> Result<(&[u8], Option<&[u8]>), BadAuthority> {
    if text.starts_with(b"[") {
        let end = text.iter().position(|byte| *byte == b']').ok_or(BadHost::BadAddress)?;
        let (host, rest) = text.split_at(end + 1);
        return match rest.split_first() {
            None => Ok((host, None)),
            Some((b':', port)) => Ok((host, Some(port))),
            Some(_) => Err(BadAuthority::Shape("something stands between the bracket and the port")),
        };
    }
    let mut parts = text.split(|byte| *byte == b':');
    let host = parts.next().unwrap_or_default();
    let port = parts.next();
    if parts.next().is_some() {
        return Err(BadAuthority::Shape(
            "more than one colon; IPv6 addresses stand in brackets",
        ));
    }
    Ok((host, port))
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}:{port}", self.host),
            None => self.host.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_have_one_spelling() {
        assert_eq!(Port::parse(b"443"), Ok(Port::HTTPS));
        assert_eq!(Port::parse(b"65535").map(Port::number), Ok(65535));
        for text in ["", "0", "0443", "+443", " 443", "65536", "99999", "4294967739", "44a"] {
            assert_eq!(Port::parse(text.as_bytes()), Err(BadAuthority::Port), "{text:?}");
        }
    }

    #[test]
    fn connect_needs_host_and_port() {
        assert!(Authority::parse_connect(b"api.example.test:443").is_ok());
        assert!(Authority::parse_connect(b"[2001:db8::1]:443").is_ok());
        for text in [
            "api.test",
            ":443",
            "443",
            "/",
            "",
            "http://a.test:443",
            "a.test:443/",
            "a.test:443:80",
            "::1:443",
        ] {
            let refused = Authority::parse_connect(text.as_bytes());
            assert!(
                matches!(
                    refused,
                    Err(BadAuthority::Shape(_) | BadAuthority::Host(BadHost::Numeric))
                ),
                "{text}: {refused:?}"
            );
        }
        assert!(matches!(
            Authority::parse(b"a.test@b.test:443"),
            Err(BadAuthority::Shape(_))
        ));
    }
}
