//! Any bytes as `host:port`: what is read writes itself in one way, and names the host that the http crate would name.
//! Must not panic; every assertion here is a promise of the authority parser.
//! Called by `cargo fuzz run`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sluicegate::name::{Authority, Host, HostName};

fuzz_target!(|text: &[u8]| {
    if let Ok(authority) = Authority::parse(text) {
        let written = authority.to_string();
        assert_eq!(Authority::parse(written.as_bytes()), Ok(authority.clone()));
        let theirs: http::uri::Authority = std::str::from_utf8(text).unwrap().parse().unwrap();
        let host = Host::parse(theirs.host().as_bytes()).unwrap();
        assert_eq!(host, authority.host);
        assert_eq!(theirs.port_u16(), authority.port.map(|port| port.number()));
        match (Authority::parse_connect(text), authority.port) {
            (Ok(read), Some(port)) => assert_eq!(read, (authority.host, port)),
            (Err(_), None) => {}
            (read, port) => panic!("{read:?} {port:?}"),
        }
    } else {
        assert!(Authority::parse_connect(text).is_err());
    }
    if let Ok(name) = HostName::parse_sni(text) {
        assert_eq!(HostName::parse(text), Ok(name.clone()));
        assert!(name.as_str().eq_ignore_ascii_case(std::str::from_utf8(text).unwrap()));
        assert!(name.as_str().parse::<std::net::IpAddr>().is_err());
    }
});
