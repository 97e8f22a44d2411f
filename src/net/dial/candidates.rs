//! The addresses of one dial: judged as they come in, handed out by turns of the families, and what became of them.
//! Must not hand out an address that the judge has refused.
//! Called by the dialler.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use super::{DialError, Dialled, Judge, Resolution};
use crate::name::{Host, HostName};
use crate::net::resolve::{Answer, Family, ResolveError};
use crate::policy::Reason;

/// The addresses of one host.
pub(super) struct Candidates<'a> {
    judge: Judge<'a>,
    v6: VecDeque<IpAddr>,
    v4: VecDeque<IpAddr>,
    /// The family of the address handed out last.
    last: Option<Family>,
    known: bool,
    failed: Vec<(IpAddr, String)>,
    /// Whether an attempt ended because nobody answered.
    silence: bool,
    troubles: Vec<(Family, ResolveError)>,
    refused: Vec<(IpAddr, Reason)>,
    aliases: Vec<HostName>,
    stale: bool,
    /// Lookups that gave an answer, and those of them that a server was asked for.
    answered: u8,
    asked: u8,
}

impl<'a> Candidates<'a> {
    pub(super) fn new(judge: Judge<'a>) -> Self {
        Self {
            judge,
            v6: VecDeque::new(),
            v4: VecDeque::new(),
            last: None,
            known: false,
            failed: Vec::new(),
            silence: false,
            troubles: Vec::new(),
            refused: Vec::new(),
            aliases: Vec::new(),
            stale: false,
            answered: 0,
            asked: 0,
        }
    }

    /// Takes in what a lookup gave.
    pub(super) fn answer(&mut self, family: Family, answer: Result<Answer, ResolveError>) {
        match answer {
            Ok(answer) => {
                self.stale |= answer.stale;
                self.answered += 1;
                self.asked += u8::from(!answer.cached);
                for alias in answer.aliases.iter() {
                    if !self.aliases.contains(alias) {
                        self.aliases.push(alias.clone());
                    }
                }
                answer.addresses.iter().for_each(|address| self.add(*address));
            }
            Err(trouble) => self.troubles.push((family, trouble)),
        }
    }

    /// How the name was resolved, all lookups together; `None` for a literal address, and where nobody could be asked.
    fn resolution(&self) -> Option<Resolution> {
        let failed = |wanted: fn(&ResolveError) -> bool| self.troubles.iter().any(|(_, trouble)| wanted(trouble));
        match (self.answered, self.asked) {
            (0, _) if failed(|trouble| matches!(trouble, ResolveError::TimedOut)) => Some(Resolution::TimedOut),
            (0, _) if failed(|trouble| matches!(trouble, ResolveError::Failed(_))) => Some(Resolution::Failed),
            (0, _) if failed(|trouble| matches!(trouble, ResolveError::NotFound | ResolveError::NoAddress)) => {
                Some(Resolution::NotFound)
            }
            (0, _) => None,
            _ if self.stale => Some(Resolution::Stale),
            (_, 0) => Some(Resolution::Cached),
            _ => Some(Resolution::Answered),
        }
    }

    /// Judges one address, and keeps it if it passes.
    pub(super) fn add(&mut self, address: IpAddr) {
        if let Err(reason) = (self.judge)(address) {
            self.refused.push((address, reason));
            return;
        }
        self.known = true;
        match address {
            IpAddr::V4(_) => self.v4.push_back(address),
            IpAddr::V6(_) => self.v6.push_back(address),
        }
    }

    /// The next address to dial: IPv6 first, then by turns (RFC 8305, section 4).
    pub(super) fn next(&mut self) -> Option<IpAddr> {
        let (address, family) = match self.last {
            Some(Family::V6) => take(&mut self.v4, Family::V4).or_else(|| take(&mut self.v6, Family::V6)),
            _ => take(&mut self.v6, Family::V6).or_else(|| take(&mut self.v4, Family::V4)),
        }?;
        self.last = Some(family);
        Some(address)
    }

    pub(super) fn are_left(&self) -> bool {
        !self.v6.is_empty() || !self.v4.is_empty()
    }

    /// Whether there has been any address to dial.
    pub(super) fn are_known(&self) -> bool {
        self.known
    }

    pub(super) fn were_tried(&self) -> bool {
        self.last.is_some()
    }

    pub(super) fn failed(&mut self, address: IpAddr, error: &io::Error) {
        let silence = error.kind() == io::ErrorKind::TimedOut;
        self.silence |= silence;
        let why = if silence { "no answer".to_owned() } else { plain(error) };
        self.failed.push((address, why));
    }

    pub(super) fn into_dialled<S>(
        self,
        stream: S,
        address: IpAddr,
        dns_took: Duration,
        connect_took: Duration,
    ) -> Dialled<S> {
        let resolution = self.resolution();
        Dialled {
            stream,
            address,
            aliases: self.aliases,
            stale: self.stale,
            resolution,
            dns_took,
            connect_took,
            refused: self.refused,
        }
    }

    /// Why there is nothing left to try.
    pub(super) fn into_error(self, host: &Host, dns_took: Duration) -> DialError {
        let (reason, detail) = if self.were_tried() {
            let reason = if self.silence {
                Reason::ConnectTimeout
            } else {
                Reason::Connect
            };
            (reason, format!("{host} cannot be reached: {}", list(&self.failed)))
        } else if let Some(reason) = self.refused.iter().map(|(_, reason)| *reason).min() {
            (
                reason,
                format!(
                    "{host} has no address that may be dialled: {}",
                    list_refused(&self.refused)
                ),
            )
        } else {
            self.no_address(host)
        };
        self.error(reason, detail, dns_took)
    }

    /// The time for everything has passed.
    pub(super) fn out_of_time(self, host: &Host, dns_took: Duration) -> DialError {
        let (reason, detail) = if self.known {
            let failed = if self.failed.is_empty() {
                String::new()
            } else {
                format!(": {}", list(&self.failed))
            };
            (
                Reason::ConnectTimeout,
                format!("no address of {host} answered in time{failed}"),
            )
        } else {
            (Reason::DnsTimeout, format!("{host} was not resolved in time"))
        };
        self.error(reason, detail, dns_took)
    }

    fn no_address(&self, host: &Host) -> (Reason, String) {
        let has = |wanted: fn(&ResolveError) -> bool| self.troubles.iter().find(|(_, trouble)| wanted(trouble));
        // That a name does not exist holds for both families, whatever became of the other question.
        if has(|trouble| *trouble == ResolveError::NotFound).is_some() {
            return (Reason::Dns, format!("{host} does not exist (NXDOMAIN)"));
        }
        if let Some((_, trouble)) = has(|trouble| matches!(trouble, ResolveError::TooMany | ResolveError::Busy)) {
            return (Reason::Limit, trouble.to_string());
        }
        if let Some((family, _)) = has(|trouble| *trouble == ResolveError::TimedOut) {
            return (
                Reason::DnsTimeout,
                format!(
                    "no DNS server answered the question for {} records of {host}",
                    kind(*family)
                ),
            );
        }
        if let Some((family, trouble)) = has(|trouble| matches!(trouble, ResolveError::Failed(_))) {
            return (
                Reason::Dns,
                format!("{host} has no usable {} records: {trouble}", kind(*family)),
            );
        }
        (
            Reason::Dns,
            format!("{host} exists, but has neither A nor AAAA records"),
        )
    }

    fn error(self, reason: Reason, detail: String, dns_took: Duration) -> DialError {
        let resolution = self.resolution();
        DialError {
            reason,
            detail,
            refused: self.refused,
            aliases: self.aliases,
            stale: self.stale,
            resolution,
            dns_took,
        }
    }
}

fn take(queue: &mut VecDeque<IpAddr>, family: Family) -> Option<(IpAddr, Family)> {
    queue.pop_front().map(|address| (address, family))
}

fn kind(family: Family) -> &'static str {
    match family {
        Family::V4 => "A",
        Family::V6 => "AAAA",
    }
}

/// The text of the system without its number: "Connection refused".
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error") {
        Some((plain, _)) => plain.to_owned(),
        None => text,
    }
}

fn list_refused(refused: &[(IpAddr, Reason)]) -> String {
    let refused: Vec<_> = refused
        .iter()
        .map(|(address, reason)| (*address, reason.as_str().to_owned()))
        .collect();
    list(&refused)
}

/// `192.0.2.1 (Connection refused), 192.0.2.2 (no answer) and 3 more`.
fn list(outcomes: &[(IpAddr, String)]) -> String {
    let mut text = String::new();
    for (place, (address, why)) in outcomes.iter().take(LISTED).enumerate() {
        let comma = if place == 0 { "" } else { ", " };
        // Writing into a string does not fail.
        let _ = write!(text, "{comma}{address} ({why})");
    }
    if outcomes.len() > LISTED {
        let _ = write!(text, " and {} more", outcomes.len() - LISTED);
    }
    text
}

const LISTED: usize = 4;
