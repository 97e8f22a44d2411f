//! From the document to the parts that run: rules with their places and moments, workloads, closed networks.
//! Must not judge; it notes what cannot be compiled, such as a preset that lacks a fact.
//! Called by `load`, after the files were read without an error.

use std::sync::Arc;

use ipnet::IpNet;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

use super::compiled::{Mode, Parts, Workload};
use super::document::{self, Document, Opens};
use super::problem::{At, Place, Problems};
use super::rule::{Destination, Effect, From, Peer, Position, Rule};

/// Makes the parts of a policy.
pub(super) fn compile(document: Document, problems: &mut Problems<'_>) -> Parts {
    let lines = Lines::of(problems);
    let mode = mode(&document);
    let closed = closed(&document);
    let workloads = document
        .workloads
        .iter()
        .map(|workload| known(&workload.value))
        .collect();
    let mut rules = Vec::with_capacity(document.allow.len() + document.deny.len());
    for entry in document.allow {
        let notes = entry.value.notes.map(|notes| *notes).unwrap_or_default();
        let checks = entry.value.checks.map(|checks| *checks).unwrap_or_default();
        let Opens::To(to) = entry.value.opens else { continue };
        rules.push(Rule {
            name: name(notes.name, &to, problems),
            effect: Effect::Allow,
            at: lines.position(entry.at),
            from: from(entry.value.from),
            to: destinations(to),
            until: notes.until.map(|until| end_of(until.value)),
            owner: notes.owner,
            why: notes.reason,
            addresses: checks.addresses.into_iter().map(|range| range.value).collect(),
            sni: checks.sni,
            no_sni: checks.no_sni,
            ech_outer: checks.ech_outer,
            report: checks.report,
            hits: Arc::default(),
        });
    }
    for entry in document.deny {
        let notes = entry.value.notes.map(|notes| *notes).unwrap_or_default();
        rules.push(Rule {
            name: name(notes.name, &entry.value.to, problems),
            effect: Effect::Deny,
            at: lines.position(entry.at),
            from: from(entry.value.from),
            to: destinations(entry.value.to),
            until: notes.until.map(|until| end_of(until.value)),
            owner: notes.owner,
            why: notes.reason,
            addresses: Vec::new(),
            sni: super::rule::SniCheck::default(),
            no_sni: false,
            ech_outer: false,
            report: false,
            hits: Arc::default(),
        });
    }
    let files = problems.texts().iter().map(|text| Arc::clone(&text.name)).collect();
    Parts {
        rules,
        workloads,
        mode,
        closed,
        files,
    }
}

/// The first moment after a day, UTC.
pub(super) fn end_of(day: Date) -> Timestamp {
    let next = day.checked_add(1.day()).unwrap_or(day);
    next.to_zoned(TimeZone::UTC)
        .map_or(Timestamp::MAX, |midnight| midnight.timestamp())
}

fn mode(document: &Document) -> Mode {
    let reporting = document
        .mode
        .as_ref()
        .is_some_and(|mode| mode.value == document::Mode::Report);
    match &document.report_until {
        Some(until) if reporting => Mode::Report {
            until: end_of(until.value),
        },
        _ => Mode::Enforce,
    }
}

fn closed(document: &Document) -> Vec<IpNet> {
    let Some(cluster) = &document.cluster else {
        return Vec::new();
    };
    let networks = cluster.value.networks.iter();
    let mut closed: Vec<_> = networks
        .chain(&cluster.value.api_server_addresses)
        .map(|network| network.value)
        .collect();
    closed.sort_unstable();
    closed.dedup();
    closed
}

fn known(workload: &document::Workload) -> Workload {
    Workload {
        name: Arc::clone(&workload.name),
        port: workload.port.map(|port| port.value),
        cidrs: workload.cidrs.iter().map(|network| network.value).collect(),
    }
}

fn from(from: Option<Vec<At<Peer>>>) -> From {
    match from {
        None => From::Everyone,
        Some(peers) => From::Any(peers.into_iter().map(|peer| peer.value).collect()),
    }
}

fn destinations(to: Vec<At<Destination>>) -> Vec<Destination> {
    to.into_iter().map(|to| to.value).collect()
}

/// What a rule is called: by its author, or as its destination is written.
fn name(given: Option<At<Arc<str>>>, to: &[At<Destination>], problems: &Problems<'_>) -> Arc<str> {
    if let Some(given) = given {
        return given.value;
    }
    let Some((first, rest)) = to.split_first() else {
        return Arc::from("");
    };
    let written = problems.quote(first.at).trim_matches(['"', '\'']);
    match rest.len() {
        0 => Arc::from(written),
        more => Arc::from(format!("{written} and {more} more")),
    }
}

/// Where lines begin, to find the line of a hundred thousand places.
struct Lines {
    files: Vec<(Arc<str>, Vec<u32>)>,
}

impl Lines {
    fn of(problems: &Problems<'_>) -> Self {
        let files = problems.texts().iter().map(|source| {
            let newlines = source.text.match_indices('\n');
            let starts = newlines.filter_map(|(at, _)| u32::try_from(at + 1).ok());
            (Arc::clone(&source.name), starts.collect())
        });
        Self { files: files.collect() }
    }

    fn position(&self, at: Place) -> Position {
        let Some((file, starts)) = self.files.get(at.file as usize) else {
            return Position {
                file: Arc::from(""),
                line: 0,
            };
        };
        let line = 1 + starts.partition_point(|start| *start <= at.start);
        Position {
            file: Arc::clone(file),
            line: u32::try_from(line).unwrap_or(u32::MAX),
        }
    }
}
