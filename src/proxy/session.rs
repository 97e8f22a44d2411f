//! The one lifecycle that every front ends in: register, gate, resolve, guard, dial, gate again, relay, record.
//! Must not parse; it gets parsed destinations and gives verdicts. No path leaves it without exactly one record.
//! Called by the fronts; they differ only in how they arrive at a destination and how they say no.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::Proxy;
use super::judged_dial::{Said, dial_judged};
use super::refusal::{Page, Refusal};
use super::tracker::Tracked;
use crate::name::{Host, HostName, Port};
use crate::net::dial::{DialError, Dialled};
use crate::policy::{Action, Ask, Decision, Inspect, Policy, Reason, Seen, Source, Stage, gate, suggestion};
use crate::settings::Mode;
use crate::telemetry::ListenerMetrics;
use crate::telemetry::record::{DecisionRecord, Entry, Shown};

/// A listener as its sessions see it.
#[derive(Debug)]
pub(crate) struct Front {
    pub(crate) name: Arc<str>,
    pub(crate) mode: Mode,
    /// Set on a workload's own port: coming in here is its identity.
    pub(crate) workload: Option<Arc<str>>,
    pub(crate) metrics: ListenerMetrics,
}

/// One accepted client connection.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) proxy: Arc<Proxy>,
    pub(crate) front: Arc<Front>,
    pub(crate) peer: SocketAddr,
    pub(crate) source: Source,
    pub(crate) accepted: Instant,
    /// Wakes the task that drives this connection when a session on it is cut.
    pub(crate) cut: Notify,
}

/// A decision in the making. Dropped before it is settled, it is recorded as `client_closed`, or as `drain` where the
/// process ends.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) connection: Arc<Connection>,
    pub(crate) tracked: Arc<Tracked>,
    started: Instant,
    /// The snapshot of the last decision, to name its rules with.
    policy: Arc<Policy>,
    ask: Option<Ask>,
    decision: Option<Decision>,
    /// What is known for the record; taken when it is written.
    record: Option<Box<DecisionRecord>>,
}

/// What a settled, allowed case leaves for the tunnel or the exchange.
#[derive(Debug)]
pub(crate) struct Allowed {
    pub(crate) tracked: Arc<Tracked>,
    pub(crate) decision: Decision,
    /// When it was settled.
    pub(crate) at: Timestamp,
    /// The name of the deciding rule.
    pub(crate) rule: Option<Arc<str>>,
    pub(crate) ask: Ask,
}

impl Connection {
    /// When a head or a hello that begins at `from` must be complete. Zero in the settings means no limit: a moment that
    /// no process lives to see.
    pub(crate) fn head_deadline(&self, from: Instant) -> Instant {
        let head = self.proxy.timeouts.head;
        from + if head.is_zero() { FOR_EVER } else { head }
    }

    /// How long a destination may take its time with what a client that has gone had sent it.
    pub(crate) fn farewell(&self) -> Duration {
        let half_close = self.proxy.timeouts.half_close;
        if half_close.is_zero() { FOR_EVER } else { half_close }
    }

    /// The workload that names this client in records and metrics.
    pub(crate) fn workload(&self) -> Option<Arc<str>> {
        self.source
            .workload
            .clone()
            .or_else(|| self.proxy.state.policy().workload_of(&self.source).cloned())
    }
}

impl Case {
    /// Opens a case: registers it, so that from here on every reload sees it.
    pub(crate) fn open(connection: Arc<Connection>, entry: Entry, started: Instant) -> Self {
        let id = connection.proxy.ids.next();
        let tracked = connection.proxy.tracker.register(id, entry, Arc::clone(&connection));
        let policy = connection.proxy.state.policy();
        let record = DecisionRecord {
            // Set when it is written.
            at: Timestamp::UNIX_EPOCH,
            id,
            generation: policy.generation(),
            listener: Arc::clone(&connection.front.name),
            entry,
            source: connection.peer,
            workload: policy.workload_of(&connection.source).cloned(),
            own_port: connection.source.workload.is_some(),
            host: None,
            port: None,
            method: None,
            path: None,
            seen: None,
            sni: None,
            ech: false,
            allowed: false,
            reason: Reason::ClientClosed,
            would_deny: None,
            stage: Stage::Request,
            rule: None,
            rule_at: None,
            collection: None,
            needed_by: Vec::new(),
            address: None,
            refused: Vec::new(),
            aliases: Vec::new(),
            stale: false,
            detail: None,
            took: Duration::ZERO,
        };
        Self {
            connection,
            tracked,
            started,
            policy,
            ask: None,
            decision: None,
            record: Some(Box::new(record)),
        }
    }

    /// Notes method and path of an HTTP request; the query may hold secrets and stays out.
    pub(crate) fn note_request(&mut self, method: &str, path: &str) {
        if let Some(record) = &mut self.record {
            record.method = Some(method.to_owned());
            record.path = Some(path.split(['?', '#']).next().unwrap_or_default().to_owned());
        }
    }

    /// Notes what is asked for without judging it, for requests that are refused for their form.
    pub(crate) fn note_target(&mut self, host: &Host, port: Port) {
        if let Some(record) = &mut self.record {
            record.host = Some(host.clone());
            record.port = Some(port);
        }
    }

    /// No entry of the policy would help with what was asked last, so none is suggested.
    pub(crate) fn suggest_nothing(&mut self) {
        self.ask = None;
        if let Some(record) = &mut self.record {
            record.seen = None;
        }
    }

    /// Notes that what comes through this tunnel is read as HTTP.
    pub(crate) fn note_http(&mut self) {
        if let Some(record) = &mut self.record {
            record.seen = Some(Shown::Http);
        }
    }

    /// Asks the gate, with the policy in force now.
    pub(crate) fn judge(&mut self, ask: Ask) -> Decision {
        self.judge_unless(ask, None)
    }

    /// The same, unless the gate has just said it.
    fn judge_unless(&mut self, ask: Ask, said: Option<Said>) -> Decision {
        self.tracked.ask(ask.clone());
        self.connection.proxy.state.renew(&mut self.policy);
        let mut decision = match said.filter(|said| said.stands(&self.policy, &ask)) {
            Some(said) => said.decision,
            None => gate(&self.policy, Timestamp::now(), &self.connection.source, &ask),
        };
        if let Host::Address(address) = ask.host
            && self.connection.proxy.own.contains(address, ask.port.number())
        {
            decision = Decision {
                action: Action::Deny,
                reason: Reason::SelfAddress,
                rule: None,
                ..decision
            };
        }
        self.note_target(&ask.host, ask.port);
        if let Some(record) = &mut self.record {
            record.seen = Shown::of(&ask.seen);
            if let Seen::Hello { sni, ech } = &ask.seen {
                record.sni.clone_from(sni);
                record.ech = *ech;
            }
            record.address = ask.address.or(record.address);
        }
        self.ask = Some(ask);
        self.decision = Some(decision.clone());
        decision
    }

    /// Resolves, judges every address and dials one that passed. The decision that comes back has judged that address.
    pub(crate) async fn reach(&mut self, ask: &Ask) -> Result<(Dialled, Decision), (Reason, Option<String>)> {
        let connection = Arc::clone(&self.connection);
        match dial_judged(&connection, ask).await {
            Ok((mut dialled, said)) => {
                self.note_resolution(std::mem::take(&mut dialled.aliases), dialled.stale);
                // The policy may have changed while we were dialling.
                let decision = self.judge_unless(ask.clone().dialling(dialled.address), said);
                if decision.is_allowed() {
                    Ok((dialled, decision))
                } else {
                    Err((decision.reason, None))
                }
            }
            Err(DialError {
                reason,
                detail,
                aliases,
                stale,
                refused,
                ..
            }) => {
                self.note_resolution(aliases, stale);
                if let Some(record) = &mut self.record {
                    record.refused = refused.iter().map(|(address, _)| *address).collect();
                }
                let told = refused.iter().find(|(_, why)| *why == reason);
                if let Some((address, _)) = told.or(refused.first()) {
                    // What would allow it must speak of the address that stood in the way, and so must the rule that
                    // the record names.
                    let ask = ask.clone().dialling(*address);
                    if told.is_some() {
                        self.policy = connection.proxy.state.policy();
                        let decision = gate(&self.policy, Timestamp::now(), &connection.source, &ask);
                        self.decision = Some(decision).filter(|decision| decision.reason == reason);
                    }
                    self.ask = Some(ask);
                }
                Err((reason, Some(detail)))
            }
        }
    }

    /// Settles the case as refused: writes the record and gives what the client is told.
    pub(crate) fn deny(mut self, stage: Stage, reason: Reason, detail: Option<String>) -> Refusal {
        self.note_needs(reason);
        let refusal = Refusal::new(reason, self.tracked.id, &self.page(reason, detail.as_deref()));
        self.settle(Timestamp::now(), false, stage, reason, detail);
        refusal
    }

    /// Settles the case as allowed: writes the record, counts the rule. `None`: records are required, and this one will
    /// not be written.
    pub(crate) fn allow(mut self, stage: Stage, decision: Decision) -> Option<Allowed> {
        if let Some(reason) = decision.would_deny {
            self.note_needs(reason);
        }
        let rule = decision.rule.and_then(|id| self.policy.rule(id));
        let rule = rule.map(|rule| Arc::clone(&rule.name));
        let at = Timestamp::now();
        let logged = self.settle(at, true, stage, decision.reason, None);
        if self.connection.proxy.records_required && !logged {
            return None;
        }
        let ask = self.ask.take()?;
        Some(Allowed {
            tracked: Arc::clone(&self.tracked),
            decision,
            at,
            rule,
            ask,
        })
    }

    /// Writes the record and counts the rule, once. `false`: the record will not reach the log.
    fn settle(&mut self, at: Timestamp, allowed: bool, stage: Stage, reason: Reason, detail: Option<String>) -> bool {
        let Some(mut record) = self.record.take() else {
            return true;
        };
        record.at = at;
        record.generation = self.policy.generation();
        record.allowed = allowed;
        record.reason = reason;
        record.stage = stage;
        record.detail = detail;
        record.took = self.started.elapsed();
        if let Some(decision) = &self.decision {
            record.would_deny = decision.would_deny.filter(|_| allowed);
            if let Some(rule) = decision.rule.and_then(|id| self.policy.rule(id)) {
                record.rule = Some(Arc::clone(&rule.name));
                record.rule_at = Some(rule.at.clone());
                record.collection.clone_from(&rule.collection);
                // The other rules that a record names did not decide; they only came nearest.
                if allowed || reason == Reason::DenyRule {
                    rule.hits.record(record.at);
                }
            }
        }
        self.connection.proxy.telemetry.decision(*record)
    }

    /// Presets that know the host, where that is why nothing opens it.
    fn note_needs(&mut self, reason: Reason) {
        if let Reason::NoRule | Reason::NoRuleForSource | Reason::Port = reason
            && let Some(record) = &mut self.record
            && let (Some(Host::Name(host)), Some(port)) = (&record.host, record.port)
        {
            record.needed_by = self.policy.needs().of(host, port);
        }
    }

    fn note_resolution(&mut self, aliases: Vec<HostName>, stale: bool) {
        if let Some(record) = &mut self.record {
            record.aliases = aliases;
            record.stale = stale;
        }
    }

    fn page<'a>(&'a self, reason: Reason, detail: Option<&'a str>) -> Page<'a> {
        let record = self.record.as_deref();
        let asked = record.and_then(|record| {
            let (host, port) = (record.host.as_ref()?, record.port?);
            Some(match (&record.method, record.entry) {
                (Some(method), _) => format!("{method} http://{host}:{port}"),
                (None, Entry::Connect) => format!("CONNECT {host}:{port}"),
                (None, _) => format!("{host}:{port}"),
            })
        });
        let address = self.connection.source.address;
        let client = match record.and_then(|record| record.workload.as_ref()) {
            Some(workload) => format!("{address} (workload {workload})"),
            None => address.to_string(),
        };
        let rule = self
            .decision
            .as_ref()
            .and_then(|decision| self.policy.rule(decision.rule?));
        let policy_said_no = reason.status() == 403 && reason != Reason::SelfAddress;
        Page {
            asked,
            client,
            detail: detail_line(detail),
            needed_by: record.map_or(&[], |record| &record.needed_by),
            rule: rule.map(|rule| match &rule.collection {
                Some(collection) => format!("{} of collection {} ({})", rule.name, collection.name, rule.at),
                None => format!("{} ({})", rule.name, rule.at),
            }),
            owner: rule.and_then(|rule| rule.owner.as_deref()),
            suggestion: self
                .ask
                .as_ref()
                .filter(|_| policy_said_no)
                .and_then(|ask| suggestion(&self.policy, Timestamp::now(), &self.connection.source, ask)),
            files: self.policy.files().iter().map(AsRef::as_ref).collect(),
        }
    }
}

impl Drop for Case {
    fn drop(&mut self) {
        if self.record.is_none() {
            return;
        }
        let reason = if self.connection.proxy.drained.is_cancelled() {
            Reason::Drain
        } else {
            Reason::ClientClosed
        };
        self.settle(Timestamp::now(), false, Stage::Request, reason, None);
    }
}

/// The decision's need, as a value that fronts can match on.
pub(crate) fn inspection(decision: &Decision) -> Option<Inspect> {
    match decision.action {
        Action::Allow(inspect) => Some(inspect),
        Action::Deny => None,
    }
}

/// The server name of what was seen.
pub(crate) fn sni_of(seen: &Seen) -> Option<HostName> {
    match seen {
        Seen::Hello { sni, .. } => sni.clone(),
        _ => None,
    }
}

/// Details are our own sentences, but they may quote what a resolver or the kernel said; the page keeps to one line.
fn detail_line(detail: Option<&str>) -> Option<&str> {
    detail.filter(|detail| !detail.chars().any(char::is_control))
}

const FOR_EVER: Duration = Duration::from_hours(24 * 365);
