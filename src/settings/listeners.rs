//! The listeners: each entry by its mode, and all of them together with admin and health, so that no two collide.
//! Must not open a socket or read a certificate; it checks what can be known from the settings alone.
//! Called by the reader of the settings.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use config::{Map, Value, ValueKind};

use crate::name::{Authority, Host, Port};
use crate::policy::problem::{At, Place};
use crate::policy::yaml::typed::{listed, nearest};

use super::read::{Reader, key_place, value_place};
use super::report::Complaint;
use super::value::{self, Written, wrong_type};
use super::{Listener, Mode, Tls, TlsPlaces, UpstreamPort};

/// Reads all entries, and refuses two that would listen on one address.
pub(super) fn read(
    reader: &mut Reader<'_, '_>,
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
    for (number, item) in (1..).zip(&items) {
        let Entry { listener, name, bind } = entry(reader, item);
        if let Some((name, at)) = &name
            && !names.insert(Arc::clone(name))
        {
            let message = format!("two listeners are named `{name}`");
            let help = "give each a name of its own; it stands in records and metrics";
            reader.note(*at, Complaint::new(message, "taken above", help));
        }
        if let Some((bind, at)) = bind {
            let name = name.map_or_else(|| format!("listener {number}").into(), |(name, _)| name);
            if let Some(clash) = taken.claim(&name, bind, at) {
                reader.note(at, clash.complaint);
            }
        }
        listeners.extend(listener);
    }
    for (name, bind) in [("admin", admin), ("health", health)] {
        let path = format!("{name}.bind");
        let Some(clash) = bind.and_then(|bind| taken.claim(name, bind, reader.place(&path))) else {
            continue;
        };
        // At the one that somebody wrote.
        let at = if reader.is_written(&path) {
            reader.place(&path)
        } else {
            clash.other
        };
        reader.note(at, clash.complaint);
    }
    (listeners.len() == items.len()).then_some(listeners)
}

/// What an entry says: a listener if all of it is right, and whatever is right of what is compared with other entries.
#[derive(Default)]
struct Entry {
    listener: Option<Listener>,
    name: Option<(Arc<str>, Place)>,
    bind: Option<(SocketAddr, Place)>,
}

/// Every problem of the entry is noted.
fn entry(reader: &mut Reader<'_, '_>, item: &Value) -> Entry {
    let help = "write {name: proxy, mode: explicit, bind: \"127.0.0.1:3128\"}";
    let Some(keys) = Keys::of(reader, item, "a listener", &KEYS.map(|(key, _)| key), help) else {
        return Entry::default();
    };
    let name = keys.need(reader, "name", "write a name; it stands in records and metrics");
    let bind = keys.need(reader, "bind", "write an address with a port");
    let mode = keys.need(reader, "mode", "write explicit, tls, http or tcp");
    let name = name.and_then(|value| Some((reader.item(value, self::name)?, value_place(value))));
    let bind = bind.and_then(|value| {
        Some((
            reader.item(value, |written| value::socket(written, 3128))?,
            value_place(value),
        ))
    });
    let mode = mode.and_then(|value| keys.mode(reader, value));
    let listener = name.as_ref().zip(bind).zip(mode).map(|((name, bind), mode)| Listener {
        name: Arc::clone(&name.0),
        bind: bind.0,
        mode,
    });
    Entry {
        listener: listener.filter(|_| keys.sound),
        name,
        bind,
    }
}

/// The keys of an entry.
struct Keys<'v> {
    table: &'v Map<String, Value>,
    at: Place,
    /// Whether all of them are known.
    sound: bool,
}

impl<'v> Keys<'v> {
    fn of(reader: &mut Reader<'_, '_>, value: &'v Value, what: &str, known: &[&str], help: &str) -> Option<Self> {
        let ValueKind::Table(table) = &value.kind else {
            reader.note(
                value_place(value),
                wrong_type(&value.kind, &format!("a map of keys for {what}"), help),
            );
            return None;
        };
        let mut sound = true;
        for (key, value) in table.iter().filter(|(key, _)| !known.contains(&key.as_str())) {
            let help = match nearest(key, known) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("the keys are {}", listed(known)),
            };
            reader.note(
                key_place(value),
                Complaint::new(format!("`{key}` is not a key of {what}"), "", help),
            );
            sound = false;
        }
        Some(Self {
            table,
            at: value_place(value),
            sound,
        })
    }

    /// The mode with the keys that belong to it.
    fn mode(&self, reader: &mut Reader<'_, '_>, value: &Value) -> Option<Mode> {
        let word = |mode| (mode, Some(mode).filter(|mode| *mode != "dns"));
        let word = reader.item(value, |written| written.one_of(&MODES.map(word)))?;
        let mode = match word {
            "explicit" => self.tls(reader).map(|tls| Mode::Explicit { tls }),
            "tls" => self.upstream_port(reader).map(|port| Mode::Tls { port }),
            "http" => self.upstream_port(reader).map(|port| Mode::Http { port }),
            _ => self.target(reader).map(|to| Mode::Tcp { to }),
        };
        let fits = self.refuse_foreign(reader, word);
        mode.filter(|_| fits)
    }

    fn need(&self, reader: &mut Reader<'_, '_>, key: &str, help: &str) -> Option<&'v Value> {
        let value = self.table.get(key);
        if value.is_none() {
            reader.note(self.at, Complaint::new(format!("`{key}` is missing here"), "", help));
        }
        value
    }

    /// Keys that belong to other modes. Says whether there are none.
    fn refuse_foreign(&self, reader: &mut Reader<'_, '_>, mode: &str) -> bool {
        let mut fits = true;
        for (key, modes) in KEYS
            .iter()
            .filter(|(_, modes)| !modes.is_empty() && !modes.contains(&mode))
        {
            if let Some(value) = self.table.get(*key) {
                let message = format!("`{key}` does not belong to mode `{mode}`");
                let help = format!("it belongs to mode {}", listed(modes));
                reader.note(key_place(value), Complaint::new(message, "not in this mode", help));
                fits = false;
            }
        }
        fits
    }

    fn upstream_port(&self, reader: &mut Reader<'_, '_>) -> Option<UpstreamPort> {
        match (self.table.get("port"), self.table.get("original")) {
            (Some(value), None) => reader.item(value, port).map(UpstreamPort::Fixed),
            (None, Some(value)) => {
                let words = [
                    ("redirect", Some(UpstreamPort::Redirect)),
                    ("tproxy", Some(UpstreamPort::Tproxy)),
                ];
                reader.item(value, |written| written.one_of(&words))
            }
            (None, None) => {
                let message = "this listener does not say which port is meant upstream";
                let help = "write `port: 443`; or `original: redirect` or `original: tproxy`, to take the original one";
                reader.note(self.at, Complaint::new(message, "no `port`", help));
                None
            }
            (Some(_), Some(value)) => {
                let message = "`port` and `original` exclude each other";
                reader.note(
                    key_place(value),
                    Complaint::new(message, "beside `port`", "leave one of them out"),
                );
                None
            }
        }
    }

    fn target(&self, reader: &mut Reader<'_, '_>) -> Option<(Host, Port)> {
        let help = "write the fixed target, such as \"smtp.sendgrid.net:587\"";
        let to = self.need(reader, "to", help);
        to.and_then(|value| reader.item(value, target))
    }

    /// `None` for a problem, `Some(None)` for plain text.
    #[expect(
        clippy::option_option,
        reason = "the two say different things, and only to one caller"
    )]
    fn tls(&self, reader: &mut Reader<'_, '_>) -> Option<Option<Tls>> {
        let Some(value) = self.table.get("tls") else {
            return Some(None);
        };
        let help = "write {cert: FILE, key: FILE}; client_ca: FILE requires client certificates";
        let keys = Keys::of(reader, value, "`tls`", &["cert", "key", "client_ca"], help)?;
        let cert = keys.need(reader, "cert", help).and_then(|value| reader.path(value));
        let key = keys.need(reader, "key", help).and_then(|value| reader.path(value));
        let client_ca = match keys.table.get("client_ca") {
            Some(value) => Some(reader.path(value)?),
            None => None,
        };
        let at = |key: &str| At {
            value: (),
            at: keys.table.get(key).map_or(keys.at, value_place),
        };
        let tls = Tls {
            cert: cert?,
            key: key?,
            client_ca,
            at: TlsPlaces {
                cert: at("cert"),
                key: at("key"),
                client_ca: at("client_ca"),
            },
        };
        keys.sound.then_some(Some(tls))
    }
}

/// The addresses that something listens on.
#[derive(Default)]
struct Taken(Vec<(Arc<str>, SocketAddr, Place)>);

struct Clash {
    complaint: Complaint,
    /// Where the other one stands.
    other: Place,
}

impl Taken {
    /// Notes an address as taken; complains if another one listens there or would swallow its connections.
    fn claim(&mut self, name: &str, bind: SocketAddr, at: Place) -> Option<Clash> {
        let taken = self.0.iter().find(|(_, taken, _)| overlap(*taken, bind));
        let clash = taken.map(|(other, taken, other_at)| Clash {
            complaint: Complaint::new(
                format!("`{name}` and `{other}` would listen on one address"),
                format!("`{other}` listens on {taken}, `{name}` on {bind}"),
                "give one of them another port",
            ),
            other: *other_at,
        });
        self.0.push((name.into(), bind, at));
        clash
    }
}

fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let (a, b) = (one.ip().to_canonical(), other.ip().to_canonical());
    // A wildcard takes the port on every address of its family; `[::]` leaves IPv4 to whoever listens there.
    let covers = |wild: IpAddr, ip: IpAddr| wild.is_unspecified() && wild.is_ipv6() == ip.is_ipv6();
    one.port() == other.port() && one.port() != 0 && (a == b || covers(a, b) || covers(b, a))
}

fn name(written: Written<'_>) -> Result<Arc<str>, Complaint> {
    let help = "write letters, digits, `-` and `_`, at most 40";
    let text = written.text("a name", help)?;
    let plain = text
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    if plain && (1..=40).contains(&text.len()) {
        Ok(text.into())
    } else {
        Err(Complaint::new(format!("`{text}` is no name for a listener"), "", help))
    }
}

fn port(written: Written<'_>) -> Result<Port, Complaint> {
    let port = written.count(1..=usize::from(u16::MAX))?;
    let read = u16::try_from(port).ok().and_then(Port::new);
    read.ok_or_else(|| Complaint::new(format!("{port} is not a port"), "", "write a number from 1 to 65535"))
}

fn target(written: Written<'_>) -> Result<(Host, Port), Complaint> {
    let help = "write a name and a port, such as \"smtp.sendgrid.net:587\"";
    let text = written.text("a target", help)?;
    let read = Authority::parse_connect(text.as_bytes());
    read.map_err(|error| Complaint::new(format!("`{text}` is not a target"), error.to_string(), help))
}

/// Every key of a listener and the modes that it belongs to; none means all.
const KEYS: [(&str, &[&str]); 10] = [
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
