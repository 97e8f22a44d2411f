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
        let starts_well = text.first().is_some_and(|digit| *digit != b'0');
        if !starts_well || text.len() > 5 || !text.iter().all(u8::is_ascii_digit) {
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
        let (host, port) = split(text)?;
        let host = Host::parse(host)?;
        let port = port.map(Port::parse).transpose()?;
        Ok(Self { host, port })
    }

    /// Reads the target of a CONNECT request, where the port must be written (RFC 9110, section 9.3.6). A target without
    /// one is refused for that, whatever else is wrong with it: `443` alone is no bad host but half a target.
    pub fn parse_connect(text: &[u8]) -> Result<(Host, Port), BadAuthority> {
        let (host, port) = split(text)?;
        let port = port.ok_or(BadAuthority::Shape("the port is missing"))?;
        Ok((Host::parse(host)?, Port::parse(port)?))
    }
}

/// The host with its brackets, and what stands behind the colon.
fn split(text: &[u8]) -> Result<(&[u8], Option<&[u8]>), BadAuthority> {
    if text.is_empty() {
        return Err(BadAuthority::Shape("it is empty"));
    }
    if text
        .iter()
        .any(|byte| matches!(byte, b'@' | b'/' | b'\\' | b'?' | b'#'))
    {
        return Err(BadAuthority::Shape(if text.contains(&b'@') {
            "user information (`@`) is not accepted"
        } else {
            "it holds a path or a scheme"
        }));
    }
    let (host, port) = split_port(text)?;
    if host.is_empty() {
        return Err(BadAuthority::Shape("the host is missing"));
    }
    Ok((host, port))
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
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Target {
        id: String,
        connect: Option<String>,
        raw: Option<String>,
        host: Option<String>,
        refused: Option<String>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Number {
        id: String,
        port: String,
        read: Option<u16>,
    }

    #[test]
    fn targets_have_one_host_or_none() {
        let targets: Vec<Target> = serde_saphyr::from_str(include_str!("../../tests/corpus/host.yaml")).unwrap();
        assert!(targets.len() > 80, "{}", targets.len());
        for target in targets {
            let bytes = match (&target.connect, &target.raw) {
                (Some(text), None) => text.clone().into_bytes(),
                (None, Some(raw)) => raw.chars().map(|c| u8::try_from(c).unwrap()).collect(),
                _ => panic!("either connect or raw: {target:?}"),
            };
            let read = Authority::parse_connect(&bytes);
            let found = match &read {
                Ok((host, port)) => {
                    assert_eq!(*port, Port::HTTPS, "{target:?}");
                    (Some(host.to_string()), None)
                }
                Err(error) => (None, Some(code(*error).to_owned())),
            };
            assert_eq!(
                found,
                (target.host.clone(), target.refused.clone()),
                "{}: {target:?}",
                target.id
            );
        }
    }

    #[test]
    fn ports_have_one_spelling() {
        let numbers: Vec<Number> = serde_saphyr::from_str(include_str!("../../tests/corpus/port.yaml")).unwrap();
        assert!(numbers.len() > 25, "{}", numbers.len());
        for number in numbers {
            let read = Authority::parse_connect(format!("api.allowed.test:{}", number.port).as_bytes());
            let expected = number.read.ok_or(BadAuthority::Port);
            assert_eq!(
                read.map(|(_, port)| port.number()),
                expected,
                "{}: {number:?}",
                number.id
            );
        }
    }

    #[test]
    fn the_port_is_optional_outside_connect() {
        let authority = Authority::parse(b"Api.Example.Test").unwrap();
        assert_eq!(
            (authority.to_string().as_str(), authority.port),
            ("api.example.test", None)
        );
        let authority = Authority::parse(b"[2001:db8::1]:8080").unwrap();
        assert_eq!(authority.to_string(), "[2001:db8::1]:8080");
        assert_eq!(Authority::parse(b"443"), Err(BadAuthority::Host(BadHost::Numeric)));
        assert_eq!(Authority::parse(b"a.test:"), Err(BadAuthority::Port));
    }

    fn code(error: BadAuthority) -> &'static str {
        match error {
            BadAuthority::Shape(_) => "bad_authority",
            BadAuthority::Host(_) => "bad_host",
            BadAuthority::Port => "bad_port",
        }
    }
}
