//! The listeners: each entry by its mode, and all of them together with admin and health, so that no two collide.
//! Must not open a socket or read a certificate; it checks what can be known from the settings alone.
//! Called by the reader of the settings.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use config::{Map, Value, ValueKind};

use crate::name::{Authority, Host, Port};

use super::layers::unknown;
use super::read::{Reader, not_yet, place_of};
use super::report::{Complaint, Place};
use super::value::{self, Written, wrong_type};
use super::{Listener, Mode, Tls, UpstreamPort};

/// Reads all entries, and refuses two that would listen on one address.
pub(super) fn read(
    reader: &mut Reader<'_>,
    admin: Option<SocketAddr>,
    health: Option<SocketAddr>,
) -> Option<Vec<Listener>> {
    let items = reader.list("listeners")?;
    if items.is_empty() {
        let help = "write at least one, or leave `listeners` out for the built-in ones";
        reader.complain("listeners", Complaint::new("there is no listener", "empty", help));
        return None;
    }
    let mut names = HashSet::new();
    let mut taken = Taken::default();
    let mut listeners = Vec::new();
    for item in &items {
        let Some((listener, places)) = entry(reader, item) else {
            continue;
        };
        if !names.insert(listener.name.clone()) {
            let message = format!("two listeners are named `{}`", listener.name);
            let complaint = Complaint::new(
                message,
                "taken above",
                "give each a name of its own; it stands in records and metrics",
            );
            reader.report.at_value(places.name, complaint);
        }
        if let Some(complaint) = taken.claim(&listener.name, listener.bind) {
            reader.report.at_value(places.bind, complaint);
        }
        listeners.push(listener);
    }
    for (name, bind) in [("admin", admin), ("health", health)] {
        if let Some(complaint) = bind.and_then(|bind| taken.claim(name, bind)) {
            reader.complain(&format!("{name}.bind"), complaint);
        }
    }
    (listeners.len() == items.len()).then_some(listeners)
}

/// Where the values of an entry stand that are compared with those of others.
struct Places {
    name: Place,
    bind: Place,
}

/// What the entry may say.
struct Entry<'a> {
    keys: &'a Map<String, Value>,
    place: Place,
    mode: &'a str,
}

fn entry(reader: &mut Reader<'_>, item: &Value) -> Option<(Listener, Places)> {
    let place = place_of(item);
    let ValueKind::Table(keys) = &item.kind else {
        let help = "write {name: proxy, mode: explicit, bind: \"127.0.0.1:3128\"}";
        reader
            .report
            .at_value(place, wrong_type(&item.kind, "a listener", help));
        return None;
    };
    let mut entry = Entry { keys, place, mode: "" };
    let known: Vec<_> = KEYS.iter().map(|(key, _)| *key).collect();
    let mut sound = true;
    for (key, value) in keys.iter().filter(|(key, _)| !known.contains(&key.as_str())) {
        reader
            .report
            .at_key(place_of(value), unknown(key, "a listener", &known));
        sound = false;
    }
    let mode = entry.need(reader, "mode", &format!("write one of: {}", MODES.join(", ")));
    let name = entry
        .need(reader, "name", "write a name; it stands in records and metrics")
        .and_then(|value| reader.item(value, name));
    let bind = entry
        .need(reader, "bind", "write an address with a port")
        .and_then(|value| Some((reader.item(value, value::socket)?, place_of(value))));
    let mode_place = mode.map_or(place, place_of);
    entry.mode =
        mode.and_then(|value| reader.item(value, |written| written.one_of(&MODES.map(|mode| (mode, mode)))))?;
    let mode = match entry.mode {
        "explicit" => entry.tls(reader).map(|tls| Mode::Explicit { tls }),
        "tls" => entry.upstream_port(reader).map(|port| Mode::Tls { port }),
        "http" => entry.upstream_port(reader).map(|port| Mode::Http { port }),
        "tcp" => {
            let to = entry.need(
                reader,
                "to",
                "write the fixed target, such as \"smtp.sendgrid.net:587\"",
            );
            to.and_then(|value| reader.item(value, target))
                .map(|to| Mode::Tcp { to })
        }
        _ => {
            let complaint = not_yet("the mode `dns`", "leave this listener out");
            reader.report.at_value(mode_place, complaint);
            return None;
        }
    };
    sound &= entry.refuse_foreign(reader);
    let name_place = keys.get("name").map_or(place, place_of);
    let (name, (bind, bind_place), mode) = (name?, bind?, mode?);
    sound.then_some((
        Listener { name, bind, mode },
        Places {
            name: name_place,
            bind: bind_place,
        },
    ))
}

impl<'a> Entry<'a> {
    fn need(&self, reader: &mut Reader<'_>, key: &str, help: &str) -> Option<&'a Value> {
        let value = self.keys.get(key);
        if value.is_none() {
            let complaint = Complaint::new(format!("this listener has no `{key}`"), "not here", help);
            reader.report.at_value(self.place, complaint);
        }
        value
    }

    /// Keys that belong to other modes. Says whether there are none.
    fn refuse_foreign(&self, reader: &mut Reader<'_>) -> bool {
        let mut sound = true;
        for (key, modes) in KEYS
            .iter()
            .filter(|(_, modes)| !modes.is_empty() && !modes.contains(&self.mode))
        {
            if let Some(value) = self.keys.get(*key) {
                let message = format!("`{key}` does not belong to mode {}", self.mode);
                let help = format!("it belongs to mode {}", modes.join(" or "));
                reader
                    .report
                    .at_key(place_of(value), Complaint::new(message, "not in this mode", help));
                sound = false;
            }
        }
        sound
    }

    fn upstream_port(&self, reader: &mut Reader<'_>) -> Option<UpstreamPort> {
        match (self.keys.get("port"), self.keys.get("original")) {
            (Some(value), None) => reader.item(value, port).map(UpstreamPort::Fixed),
            (None, Some(value)) => {
                let words = [("redirect", UpstreamPort::Redirect), ("tproxy", UpstreamPort::Tproxy)];
                reader.item(value, |written| written.one_of(&words))
            }
            (None, None) => {
                let help = "write `port: 443`, or `original: redirect` or `original: tproxy` to take it from the original destination";
                let complaint = Complaint::new(
                    "this listener does not say which port upstream is meant",
                    "no `port`",
                    help,
                );
                reader.report.at_value(self.place, complaint);
                None
            }
            (Some(_), Some(value)) => {
                let complaint = Complaint::new(
                    "`port` and `original` exclude each other",
                    "beside `port`",
                    "leave one of them out",
                );
                reader.report.at_key(place_of(value), complaint);
                None
            }
        }
    }

    /// Outer `None`: a problem. Inner `None`: plain text.
    #[expect(clippy::option_option, reason = "the two say different things, and only here")]
    fn tls(&self, reader: &mut Reader<'_>) -> Option<Option<Tls>> {
        let Some(value) = self.keys.get("tls") else {
            return Some(None);
        };
        let help = "write {cert: FILE, key: FILE}, with client_ca: FILE to require client certificates";
        let ValueKind::Table(keys) = &value.kind else {
            reader
                .report
                .at_value(place_of(value), wrong_type(&value.kind, "cert and key", help));
            return None;
        };
        let known = ["cert", "key", "client_ca"];
        let mut sound = true;
        for (key, value) in keys.iter().filter(|(key, _)| !known.contains(&key.as_str())) {
            reader.report.at_key(place_of(value), unknown(key, "`tls`", &known));
            sound = false;
        }
        let inner = Entry {
            keys,
            place: place_of(value),
            mode: "",
        };
        let cert = inner.need(reader, "cert", help).and_then(|value| reader.path(value));
        let key = inner.need(reader, "key", help).and_then(|value| reader.path(value));
        let client_ca: Option<Option<PathBuf>> = match keys.get("client_ca") {
            Some(value) => reader.path(value).map(Some),
            None => Some(None),
        };
        let tls = Tls {
            cert: cert?,
            key: key?,
            client_ca: client_ca?,
        };
        sound.then_some(Some(tls))
    }
}

/// The addresses that something listens on.
#[derive(Default)]
struct Taken(Vec<(Arc<str>, SocketAddr)>);

impl Taken {
    /// Notes an address as taken; complains if another one listens there or would swallow its connections.
    fn claim(&mut self, name: &str, bind: SocketAddr) -> Option<Complaint> {
        let clash = self.0.iter().find(|(_, at)| overlap(*at, bind)).map(|(other, at)| {
            let message = format!("`{name}` and `{other}` would listen on one address");
            let label = if *at == bind {
                format!("taken by `{other}`")
            } else {
                format!("`{other}` listens on {at}")
            };
            Complaint::new(message, label, "give one of them another port")
        });
        self.0.push((name.into(), bind));
        clash
    }
}

fn name(written: Written<'_>) -> Result<Arc<str>, Complaint> {
    let help = "write letters, digits, `-` and `_`, at most 40";
    let text = written.text("a name", help)?;
    let plain = text
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    if !plain || text.is_empty() || text.len() > 40 {
        return Err(Complaint::new(
            format!("`{text}` is no name for a listener"),
            "cannot be a metric label",
            help,
        ));
    }
    Ok(text.into())
}

fn port(written: Written<'_>) -> Result<Port, Complaint> {
    let number = written.count(1)?;
    let port = u16::try_from(number).ok().and_then(Port::new);
    port.ok_or_else(|| {
        Complaint::new(
            format!("{number} is not a port"),
            "1 to 65535",
            "write a number from 1 to 65535",
        )
    })
}

fn target(written: Written<'_>) -> Result<(Host, Port), Complaint> {
    let help = "write a name and a port, such as \"smtp.sendgrid.net:587\"";
    let text = written.text("a target", help)?;
    Authority::parse_connect(text.as_bytes())
        .map_err(|error| Complaint::new(format!("`{text}` is not a target"), error.to_string(), help))
}

fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let (a, b) = (one.ip().to_canonical(), other.ip().to_canonical());
    // A wildcard takes the port on every address; `[::]` on those of IPv4 as well.
    let wild =
        |ip: IpAddr, over: IpAddr| ip.is_unspecified() && (ip.is_ipv6() || over.is_ipv4() || over.is_unspecified());
    one.port() == other.port() && one.port() != 0 && (a == b || wild(a, b) || wild(b, a))
}

/// Every key of a listener and the modes that it belongs to; none means all.
const KEYS: &[(&str, &[&str])] = &[
    ("name", &[]),
    ("mode", &[]),
    ("bind", &[]),
    ("port", &["tls", "http"]),
    ("original", &["tls", "http"]),
    ("to", &["tcp"]),
    ("tls", &["explicit"]),
    ("answer", &["dns"]),
    ("cluster_dns", &["dns"]),
    ("cluster_domain", &["dns"]),
];
const MODES: [&str; 5] = ["explicit", "tls", "http", "tcp", "dns"];
