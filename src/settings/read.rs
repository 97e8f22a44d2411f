//! From merged values to settings: every section but the listeners, each value checked at its place.
//! Must not know how the layers came together, beyond asking where a value stands.
//! Called by [`super::load`].

use std::path::{Path, PathBuf};

use config::{Value, ValueKind};

use crate::policy::problem::{Place, Problems};

use super::layers::{Values, Variables};
use super::load::{BUILTIN, ENVIRONMENT};
use super::report::{Complaint, Places};
use super::value::{self, Written, wrong_type};
use super::{Dns, Limits, Log, LogFormat, LoggedDecisions, Reload, Settings, Timeouts, listeners};

/// Reads merged values.
#[derive(Debug)]
pub(super) struct Reader<'a, 't> {
    pub(super) merged: &'a Value,
    pub(super) file: &'a Values,
    pub(super) variables: &'a Variables,
    /// Where relative paths start.
    pub(super) directory: &'a Path,
    pub(super) problems: &'a mut Problems<'t>,
}

impl Reader<'_, '_> {
    /// `None` where a problem was reported.
    pub(super) fn settings(&mut self, policy: Option<Vec<PathBuf>>) -> Option<Settings> {
        let admin = self.read("admin.bind", |written| value::socket(written, 9090));
        let health = self.read("health.bind", |written| value::socket(written, 9091));
        let listeners = listeners::read(self, admin, health);
        let presets = self.presets();
        let dns = self.dns();
        let timeouts = self.timeouts();
        let limits = self.limits();
        let reload = self.read("reload.grace", value::duration).map(|grace| Reload { grace });
        let log = self.log();
        Some(Settings {
            listeners: listeners?,
            admin: admin?,
            health: health?,
            policy: policy?,
            presets: presets?,
            dns: dns?,
            timeouts: timeouts?,
            limits: limits?,
            reload: reload?,
            log: log?,
        })
    }

    /// Whether a file or the environment says this, and not only the built-in values.
    pub(super) fn is_written(&self, path: &str) -> bool {
        self.places(path).value.file != BUILTIN
    }

    pub(super) fn policy(&mut self) -> Option<Vec<PathBuf>> {
        let items = self.list("policy")?;
        if items.is_empty() {
            let complaint = Complaint::new("`policy` names no file", "empty", "name at least one file or directory");
            self.complain("policy", complaint);
            return None;
        }
        let paths: Vec<_> = items.iter().map(|item| self.path(item)).collect();
        paths.into_iter().collect()
    }

    /// An inner nothing: there is none. It is written so, as every setting has a value.
    #[expect(clippy::option_option, reason = "no directory and a wrong one are different things")]
    fn presets(&mut self) -> Option<Option<PathBuf>> {
        let directory = self.directory;
        self.read("presets", |written| {
            let path = written.text("a path", "write the path of a directory, or \"\" for none")?;
            Ok((!path.is_empty()).then(|| directory.join(path)))
        })
    }

    fn dns(&mut self) -> Option<Dns> {
        let servers = self.list("dns.servers").and_then(|items| {
            let servers: Vec<_> = items
                .iter()
                .map(|item| self.item(item, |written| written.server(53)))
                .collect();
            servers.into_iter().collect()
        });
        let timeout = self.read("dns.timeout", |written| {
            let zero = Complaint::new(
                "questions to DNS servers need a time-out",
                "0 is none",
                "write for example 2s",
            );
            value::duration(written).and_then(|timeout| if timeout.is_zero() { Err(zero) } else { Ok(timeout) })
        });
        let cache = self.read("dns.cache", |written| written.count(0..=value::MOST));
        let min_ttl = self.read("dns.min_ttl", value::duration);
        let max_ttl = self.read("dns.max_ttl", value::duration);
        let stale = self.read("dns.stale", value::duration);
        let (min_ttl, max_ttl) = (min_ttl?, max_ttl?);
        if min_ttl > max_ttl {
            let help = "lower `min_ttl` or raise `max_ttl`";
            let complaint = Complaint::new("`dns.min_ttl` is more than `dns.max_ttl`", "these two do not fit", help);
            // At the one that somebody wrote.
            let path = if self.is_written("dns.max_ttl") {
                "dns.max_ttl"
            } else {
                "dns.min_ttl"
            };
            self.complain(path, complaint);
            return None;
        }
        Some(Dns {
            servers: servers?,
            timeout: timeout?,
            cache: cache?,
            min_ttl,
            max_ttl,
            stale: stale?,
        })
    }

    fn timeouts(&mut self) -> Option<Timeouts> {
        let head = self.read("timeouts.head", value::duration);
        let connect = self.read("timeouts.connect", value::duration);
        let half_close = self.read("timeouts.half_close", value::duration);
        let idle = self.read("timeouts.idle", value::duration);
        let lifetime = self.read("timeouts.lifetime", value::duration);
        let drain = self.read("timeouts.drain", value::duration);
        Some(Timeouts {
            head: head?,
            connect: connect?,
            half_close: half_close?,
            idle: idle?,
            lifetime: lifetime?,
            drain: drain?,
        })
    }

    fn limits(&mut self) -> Option<Limits> {
        let connections = self.read("limits.connections", |written| written.count(1..=value::MOST));
        let per_source = self.read("limits.per_source", |written| written.count(1..=value::MOST));
        Some(Limits {
            connections: connections?,
            per_source: per_source?,
        })
    }

    fn log(&mut self) -> Option<Log> {
        let format = self.read("log.format", |written| {
            written.one_of(&[
                ("json", Some(LogFormat::Json)),
                ("text", Some(LogFormat::Text)),
                ("azure", Some(LogFormat::Azure)),
            ])
        });
        let decisions = self.read("log.decisions", |written| {
            written.one_of(&[
                ("all", Some(LoggedDecisions::All)),
                ("denied", Some(LoggedDecisions::Denied)),
            ])
        });
        let required = self.read("log.required", value::yes_or_no);
        Some(Log {
            format: format?,
            decisions: decisions?,
            required: required?,
        })
    }

    /// The value of a path, read by `read`, or a reported complaint.
    fn read<T>(&mut self, path: &str, read: impl FnOnce(Written<'_>) -> Result<T, Complaint>) -> Option<T> {
        let kind = self.find(path).map_or(ValueKind::Nil, |value| value.kind.clone());
        let from_environment = self.places(path).value.file == ENVIRONMENT;
        read(Written {
            kind: &kind,
            from_environment,
        })
        .map_err(|complaint| self.complain(path, complaint))
        .ok()
    }

    pub(super) fn list(&mut self, path: &str) -> Option<Vec<Value>> {
        match self.find(path).map_or(ValueKind::Nil, |value| value.kind.clone()) {
            ValueKind::Array(items) => Some(items),
            other => {
                self.complain(
                    path,
                    wrong_type(&other, "a list", "write [one, two], or one `- item` per line"),
                );
                None
            }
        }
    }

    /// One item of a list, or one value below it.
    pub(super) fn item<T>(
        &mut self,
        value: &Value,
        read: impl FnOnce(Written<'_>) -> Result<T, Complaint>,
    ) -> Option<T> {
        // Lists and what stands in them come only from files.
        let read = read(Written {
            kind: &value.kind,
            from_environment: false,
        });
        read.map_err(|complaint| self.note(value_place(value), complaint)).ok()
    }

    pub(super) fn path(&mut self, value: &Value) -> Option<PathBuf> {
        let directory = self.directory;
        self.item(value, |written| {
            match written.text("a path", "write the path of a file")? {
                "" => Err(Complaint::new(
                    "this path is empty",
                    "empty",
                    "write the path of a file",
                )),
                path => Ok(directory.join(path)),
            }
        })
    }

    fn find(&self, path: &str) -> Option<&Value> {
        path.split('.').try_fold(self.merged, |value, key| match &value.kind {
            ValueKind::Table(keys) => keys.get(key),
            _ => None,
        })
    }

    fn places(&self, path: &str) -> Places {
        let known = self.find(path).and_then(|value| value.origin()?.parse().ok());
        // What `config` read from the environment says only that, and the maps that it merges say nothing.
        let known = known.or_else(|| self.variables.places(path));
        known.or_else(|| self.file.places(path)).unwrap_or_default()
    }

    pub(super) fn place(&self, path: &str) -> Place {
        self.places(path).value
    }

    pub(super) fn complain(&mut self, path: &str, complaint: Complaint) {
        self.note(self.places(path).value, complaint);
    }

    pub(super) fn note(&mut self, at: Place, complaint: Complaint) {
        complaint.note(at, self.problems);
    }
}

/// Where a value of a file stands, and its key.
pub(super) fn value_place(value: &Value) -> Place {
    places(value).value
}

pub(super) fn key_place(value: &Value) -> Place {
    places(value).key
}

fn places(value: &Value) -> Places {
    let origin = value.origin().and_then(|origin| origin.parse().ok());
    origin.unwrap_or_default()
}
