//! From what was learned to what is proposed: entries with their risks, what somebody must decide, what is left alone.
//! Must not propose for names that look made up, nor a wildcard because of one client.
//! Called by `suggest` when everything is read.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

use super::names::{Family, looks_made_up};
use super::{Ignored, Kind, Lacking, Learner, Suggested, Suggestions, Undecided};
use crate::history::evidence::Evidence;
use crate::name::{Host, HostName, HostPattern, Port};
use crate::policy::explain::{needs, proposal};
use crate::policy::{Ask, Reason, Scheme, Source, any_tenant, enforce, shared_suffix};

impl Learner<'_> {
    /// What all of it calls for.
    pub fn suggestions(&self) -> Suggestions {
        let mut suggestions = Suggestions::default();
        let (mut families, mut addresses) = (BTreeMap::<_, Family<'_>>::new(), Vec::new());
        let asked_of_dns = self.asked_of_dns(&mut suggestions);
        let loners = self.loners();
        for (lacking, (kind, evidence)) in self
            .lacking
            .iter()
            .map(|(lacking, evidence)| (lacking, (Kind::Exact, evidence)))
            .chain(
                asked_of_dns
                    .iter()
                    .map(|(lacking, evidence)| (lacking, (Kind::Dns, evidence))),
            )
        {
            let Some((first, parent)) = lacking
                .host
                .split_once('.')
                .filter(|_| lacking.reason != Reason::IpLiteral)
            else {
                addresses.push((lacking, kind, evidence));
                continue;
            };
            let resolved = self.answered(&lacking.host);
            if resolved == Some(false) {
                suggestions.ignore("names that do not exist (NXDOMAIN in every answer)", evidence.count);
                continue;
            }
            let source = evidence.sources.first();
            if evidence.count == 1 && resolved.is_none() && source.is_some_and(|source| loners.contains(source)) {
                let what = "names that were asked for once, by a client that asked for very many such names";
                suggestions.ignore(what, evidence.count);
                continue;
            }
            let scheme = lacking.entry.to.first().map(|to| to.replacen(&lacking.host, "", 1));
            let key = (&lacking.entry.from, scheme, parent, lacking.port);
            let family = families.entry(key).or_default();
            family.add(first, resolved == Some(true), evidence);
            family.members.push((lacking, kind, evidence));
        }
        for ((_, _, parent, _), family) in &families {
            self.propose(parent, family, &mut suggestions);
        }
        for (lacking, kind, evidence) in addresses {
            suggestions.entries.push(self.suggested(lacking, kind, evidence));
        }
        suggestions.entries.sort_by(|a, b| {
            let rank = |one: &Suggested| (one.kind == Kind::Wildcard, std::cmp::Reverse(one.evidence.count));
            (a.from.is_none(), &a.from, rank(a), &a.entry).cmp(&(b.from.is_none(), &b.from, rank(b), &b.entry))
        });
        self.other_denials(&mut suggestions);
        suggestions
    }

    /// The names of one family: each for itself, or nothing, and perhaps a wildcard beside them.
    fn propose(&self, parent: &str, family: &Family<'_>, suggestions: &mut Suggestions) {
        let flood = family.is_flood();
        for (lacking, kind, evidence) in &family.members {
            let first = lacking.host.split('.').next().unwrap_or_default();
            let resolved = self.answered(&lacking.host) == Some(true);
            let alone = evidence.sources.len() == 1;
            let odd = alone && looks_made_up(first);
            // Whoever wants to be let out owns the parent, and its server finds every name. Domains of their own, directly
            // below `com`, cost too much for that.
            let found_on_demand = parent.contains('.') && family.is_of_flood(evidence);
            let unproven =
                !resolved && alone && flood || odd && (!resolved && family.made_up > FEW || family.is_tunnel());
            if found_on_demand || unproven {
                let what = format!("names below {parent} that look made up or were asked by one client alone");
                suggestions.ignore(&what, evidence.count);
            } else {
                suggestions.entries.push(self.suggested(lacking, *kind, evidence));
            }
        }
        if flood || !family.calls_for_wildcard() {
            return;
        }
        let Some((lacking, ..)) = family.members.first() else {
            return;
        };
        let pattern = format!("*.{parent}");
        let Ok(HostPattern::Below(suffix)) = HostPattern::parse(&pattern) else {
            return;
        };
        let mut entry = lacking.entry.clone();
        for to in &mut entry.to {
            *to = to.replacen(&lacking.host, &pattern, 1);
        }
        let mut risks = vec![format!(
            "opens every name below {parent}, also those that nobody has asked for"
        )];
        if let Some(shared) = shared_suffix(&suffix) {
            risks.push(format!(
                "any customer can get names below {shared}: data may leave to anyone's"
            ));
        }
        suggestions.entries.push(Suggested {
            entry: entry.to_string(),
            from: entry.from,
            kind: Kind::Wildcard,
            reasons: family.members.iter().map(|(lacking, ..)| lacking.reason).collect(),
            risks,
            needed_by: Vec::new(),
            evidence: family.evidence(),
        });
    }

    fn suggested(&self, lacking: &Lacking, kind: Kind, evidence: &Evidence) -> Suggested {
        let mut risks = Vec::new();
        let to = lacking.entry.to.first().map_or("", String::as_str);
        if lacking.entry.from.is_none() {
            risks.push("open to every client: the policy knows no workload for these".to_owned());
        }
        if kind == Kind::Dns {
            risks.push("only asked of DNS: that it is HTTPS on port 443 is a guess".to_owned());
        }
        if to.starts_with(Scheme::Tcp.as_str()) {
            risks.push("opaque: nobody looks at what is sent".to_owned());
        }
        if to.starts_with("http://") {
            risks.push("plain HTTP: nobody proves who answers".to_owned());
        }
        if lacking.reason == Reason::IpLiteral {
            risks.push("an address, not a name: whose it is may change".to_owned());
        }
        let name = HostName::parse(lacking.host.as_bytes()).ok();
        if let Some(shared) = name.as_ref().and_then(shared_suffix) {
            risks.push(format!(
                "any customer can get names below {shared}: check that this one is yours"
            ));
        }
        if name
            .clone()
            .and_then(|name| any_tenant(&HostPattern::Exact(name)))
            .is_some()
        {
            risks.push("serves every tenant under one name".to_owned());
        }
        if lacking.host.split('.').any(|label| label.starts_with("xn--")) {
            risks.push("letters of other scripts (`xn--`): it may be made to look like another name".to_owned());
        }
        if evidence.count == 1 {
            risks.push("seen once".to_owned());
        }
        Suggested {
            entry: lacking.entry.to_string(),
            from: lacking.entry.from.clone(),
            kind,
            reasons: BTreeSet::from([lacking.reason]),
            risks,
            needed_by: name.map_or_else(Vec::new, |name| self.needed_by(name, lacking, evidence)),
            evidence: evidence.clone(),
        }
    }

    fn needed_by(&self, name: HostName, lacking: &Lacking, evidence: &Evidence) -> Vec<String> {
        let (Some(port), Some(source)) = (Port::new(lacking.port), evidence.sources.first()) else {
            return Vec::new();
        };
        let source = match lacking
            .entry
            .from
            .as_deref()
            .and_then(|from| self.policy.workload(from))
        {
            Some(workload) => Source::through(*source, workload.name.clone()),
            None => Source::at(*source),
        };
        let ask = Ask::new(Host::Name(name), port);
        let needs = needs(self.policy, &source, &ask, lacking.reason);
        needs.iter().map(ToString::to_string).collect()
    }

    /// Names that were asked of DNS only, as if asked for with TLS on port 443.
    fn asked_of_dns(&self, suggestions: &mut Suggestions) -> Vec<(Lacking, Evidence)> {
        let mut lacking: BTreeMap<Lacking, Evidence> = BTreeMap::new();
        for (name, asked) in &self.questions {
            if self.known.contains(name) {
                continue;
            }
            let all = || asked.by.values().map(|evidence| evidence.count).sum();
            if !asked.found {
                suggestions.ignore("names that were asked of DNS and never resolved", all());
                continue;
            }
            for (address, evidence) in &asked.by {
                let source = Source::at(*address);
                let ask = Ask::new(Host::Name(name.clone()), Port::HTTPS);
                let decision = enforce(self.policy, self.now, &source, &ask);
                if decision.is_allowed() {
                    continue;
                }
                let Some(entry) = proposal(self.policy, self.now, &source, &ask) else {
                    continue;
                };
                let key = Lacking {
                    entry,
                    host: name.to_string(),
                    port: Port::HTTPS.number(),
                    reason: decision.reason,
                };
                lacking.entry(key).or_default().join(evidence);
            }
        }
        lacking.into_iter().collect()
    }

    fn other_denials(&self, suggestions: &mut Suggestions) {
        for (other, evidence) in &self.others {
            let undecided = Undecided {
                who: other.who.clone(),
                asked: other.asked.clone(),
                reason: other.reason,
                entry: other.entry.as_ref().map(ToString::to_string),
                evidence: evidence.clone(),
            };
            if other.entry.is_none() {
                suggestions.on_purpose.push(undecided);
            } else {
                suggestions.decide.push(undecided);
            }
        }
        for list in [&mut suggestions.decide, &mut suggestions.on_purpose] {
            list.sort_by_key(|one| std::cmp::Reverse(one.evidence.count));
        }
    }

    /// Clients that asked once each for more names than anybody needs.
    fn loners(&self) -> HashSet<IpAddr> {
        let mut once: HashMap<IpAddr, usize> = HashMap::new();
        for evidence in self.lacking.values().filter(|evidence| evidence.count == 1) {
            for source in &evidence.sources {
                *once.entry(*source).or_default() += 1;
            }
        }
        once.retain(|_, names| *names > MANY_FROM_ONE);
        once.into_keys().collect()
    }

    /// Whether DNS has found a name, where it was asked.
    fn answered(&self, host: &str) -> Option<bool> {
        let asked = self.questions.get(host)?;
        match (asked.found, asked.no_name) {
            (true, _) => Some(true),
            (false, true) => Some(false),
            (false, false) => None,
        }
    }
}

impl Suggestions {
    fn ignore(&mut self, what: &str, count: u64) {
        let is_new = self.ignored.iter().all(|ignored| ignored.what != what);
        let what = if is_new && self.ignored.len() >= MAX_IGNORED {
            MORE
        } else {
            what
        };
        match self.ignored.iter_mut().find(|ignored| ignored.what == what) {
            Some(ignored) => ignored.count += count,
            None => self.ignored.push(Ignored {
                what: what.to_owned(),
                count,
            }),
        }
    }
}

/// Kinds of names that are told apart where nothing is proposed.
const MAX_IGNORED: usize = 50;
const MORE: &str = "more names of these kinds";
/// Names that one client alone may bring up once and each be taken for a need.
const MANY_FROM_ONE: usize = 200;
/// So many labels that look made up may be what a service is called by.
const FEW: usize = 2;
