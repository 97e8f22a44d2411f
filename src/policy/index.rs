//! From a host to the few rules that may speak of it, at a cost that does not grow with the number of rules.
//! Must not judge: it finds candidates by host, and by source where these are many; what passes is for the gate to say.
//! Built once by `Policy::new`, asked by every decision.

mod crowd;

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::iter;
use std::net::IpAddr;
use std::ops::ControlFlow;
use std::sync::Arc;

use foldhash::fast::RandomState;
use globset::{Candidate, Glob, GlobBuilder, GlobSet};
use hashbrown::HashTable;

use self::crowd::Crowd;
use super::nets::Nets;
use super::rule::{Destination, HostMatch, Rule, RuleId};
use crate::name::{Host, HostName, HostPattern};

/// Finds rules by host. One probe for the whole name, one for each parent, one automaton for the first label, and one
/// probe for each prefix length in use. Where that is not enough, by source as well.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// Every destination of every rule; those of one key form a list.
    entries: Vec<Entry>,
    exact: Texts,
    /// `*.suffix`, by suffix.
    below: Texts,
    /// Bytes of the longest key in `below`: a name of 126 labels has no more probes than a sensible one.
    longest: usize,
    labels: Labels,
    nets: Nets<Head>,
    /// By the first link of a list: the long ones that speak of certain sources.
    crowds: HashMap<Link, Crowd, RandomState>,
}

/// Who asks, as far as the index can look for it.
pub(super) struct Asker<W> {
    pub(super) address: IpAddr,
    /// The workloads that it belongs to.
    pub(super) workloads: W,
}

/// Lists by the name in their destinations. It holds no names of its own, only the first link of each list: the rules
/// have them, and a hundred thousand names would take as much again.
#[derive(Debug, Default)]
struct Texts {
    table: HashTable<Link>,
    state: RandomState,
}

/// One destination of one rule.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    rule: u32,
    destination: u32,
    next: Head,
}

/// `before*after.suffix`. The part before the star is found by one automaton for the whole policy, because globset turns
/// patterns of that shape into an Aho-Corasick search (70 ns at 100,000 of them) and everything more into a regular
/// expression that grows with them (5 us at 10,000, no build at 100,000). The part after it is compared by hand.
#[derive(Debug, Default)]
struct Labels {
    before: GlobSet,
    /// By suffix, then by the number of the pattern in `before`.
    suffixes: HashMap<HostName, HashMap<usize, Head, RandomState>, RandomState>,
}

/// The first entry of a list.
type Head = Option<Link>;

/// A place in `entries`, plus one, so that `Head` takes four bytes.
type Link = std::num::NonZeroU32;

impl Index {
    pub(super) fn new(rules: &[Rule]) -> Self {
        let mut index = Self::default();
        let mut befores = Befores::default();
        index.reserve(rules);
        for (rule, id) in rules.iter().zip(0_u32..) {
            for (destination, place) in rule.to.iter().zip(0_u32..) {
                index.add(rules, &mut befores, id, destination, place);
            }
        }
        index.labels.before = befores.automaton();
        for head in index.heads() {
            if let Some(crowd) = Crowd::split(head, rules, &mut index) {
                index.crowds.insert(head, crowd);
            }
        }
        index
    }

    /// Calls `found` for each destination of each rule whose host covers `host`, in no order that means anything.
    pub(super) fn visit<'a>(
        &self,
        rules: &'a [Rule],
        host: &Host,
        mut found: impl FnMut(RuleId, &'a Rule, &'a Destination),
    ) {
        self.heads_of(rules, host, &mut |head, label| {
            self.walk(rules, head, label, &mut found);
        });
    }

    /// The same for the address ranges of rules around `address`.
    pub(super) fn visit_address<'a>(
        &self,
        rules: &'a [Rule],
        address: IpAddr,
        found: &mut impl FnMut(RuleId, &'a Rule, &'a Destination),
    ) {
        self.heads_around(address, &mut |head, label| self.walk(rules, head, label, found));
    }

    /// Like [`Index::visit`] for those rules that can speak of the asker; some of them more than once, and perhaps others.
    /// Of the allow rules that name sources `other` gets some until it breaks, the narrowest first: the one to name where
    /// none was for this asker.
    pub(super) fn visit_from<'a, 'w, I: Iterator<Item = &'w Arc<str>>>(
        &'w self,
        rules: &'a [Rule],
        host: &Host,
        asker: &impl Fn() -> Asker<I>,
        mut found: impl FnMut(RuleId, &'a Rule, &'a Destination),
        mut other: impl FnMut(RuleId, &'a Rule, &'a Destination) -> ControlFlow<()>,
    ) {
        self.heads_of(rules, host, &mut |head, label| {
            self.walk_from(rules, head, label, asker, &mut found, &mut other);
        });
    }

    /// The same for the address ranges of rules around `address`.
    pub(super) fn visit_address_from<'a, 'w, I: Iterator<Item = &'w Arc<str>>>(
        &'w self,
        rules: &'a [Rule],
        address: IpAddr,
        asker: &impl Fn() -> Asker<I>,
        found: &mut impl FnMut(RuleId, &'a Rule, &'a Destination),
    ) {
        self.heads_around(address, &mut |head, label| {
            self.walk_from(rules, head, label, asker, found, &mut |_, _, _| ControlFlow::Break(()));
        });
    }

    /// The lists of a host; with the label where not all of a list need fit it.
    fn heads_of(&self, rules: &[Rule], host: &Host, list: &mut impl FnMut(Link, Option<&str>)) {
        match host {
            Host::Name(name) => self.heads_of_name(rules, name, list),
            Host::Address(address) => self.heads_around(*address, list),
        }
    }

    fn heads_around(&self, address: IpAddr, list: &mut impl FnMut(Link, Option<&str>)) {
        for head in self.nets.around(address).filter_map(|(_, head)| *head) {
            list(head, None);
        }
    }

    fn heads_of_name(&self, rules: &[Rule], name: &HostName, list: &mut impl FnMut(Link, Option<&str>)) {
        let text = |link| host_text(rules, &self.entries, link);
        if let Some(head) = self.exact.head(name.as_str(), text) {
            list(head, None);
        }
        for parent in name.parents().filter(|parent| parent.len() <= self.longest) {
            if let Some(head) = self.below.head(parent, text) {
                list(head, None);
            }
        }
        let Some(suffix) = name.parents().next() else {
            return;
        };
        let Some(lists) = self.labels.suffixes.get(suffix) else {
            return;
        };
        let text = name.as_str();
        let label = text.get(..text.len() - suffix.len() - 1).unwrap_or_default();
        let mut befores = Vec::new();
        self.labels
            .before
            .matches_candidate_into(&Candidate::new(label), &mut befores);
        for head in befores.iter().filter_map(|before| *lists.get(before)?) {
            list(head, Some(label));
        }
    }

    fn walk_from<'a, 'w, I: Iterator<Item = &'w Arc<str>>>(
        &'w self,
        rules: &'a [Rule],
        head: Link,
        label: Option<&str>,
        asker: &impl Fn() -> Asker<I>,
        found: &mut impl FnMut(RuleId, &'a Rule, &'a Destination),
        other: &mut impl FnMut(RuleId, &'a Rule, &'a Destination) -> ControlFlow<()>,
    ) {
        let Some(crowd) = self.crowds.get(&head) else {
            self.walk(rules, head, label, found);
            return;
        };
        let asker = asker();
        for head in crowd.of(asker.address, asker.workloads) {
            self.walk(rules, head, label, found);
        }
        for entry in crowd.narrow() {
            if let Some((id, rule, destination)) = entry.of(rules, label)
                && other(id, rule, destination).is_break()
            {
                break;
            }
        }
    }

    fn walk<'a>(
        &self,
        rules: &'a [Rule],
        head: Link,
        label: Option<&str>,
        found: &mut impl FnMut(RuleId, &'a Rule, &'a Destination),
    ) {
        for (id, rule, destination) in self.list(head).filter_map(|entry| entry.of(rules, label)) {
            found(id, rule, destination);
        }
    }

    fn list(&self, head: Link) -> impl Iterator<Item = Entry> {
        let mut link = Some(head);
        iter::from_fn(move || {
            let entry = *self.entries.get(link?.get() as usize - 1)?;
            link = entry.next;
            Some(entry)
        })
    }

    /// The first links of all lists.
    fn heads(&self) -> Vec<Link> {
        let labels = self.labels.suffixes.values().flat_map(HashMap::values);
        let others = labels.chain(self.nets.all()).flatten();
        let names = self.exact.table.iter().chain(&self.below.table);
        names.chain(others).copied().collect()
    }

    /// Puts a destination before a list.
    fn link(&mut self, head: &mut Head, entry: Entry) {
        let link = u32::try_from(self.entries.len() + 1).ok().and_then(Link::new);
        let next = std::mem::replace(head, link);
        self.entries.push(Entry { next, ..entry });
    }

    /// Makes room for all at once, because growing by doubling holds everything twice.
    fn reserve(&mut self, rules: &[Rule]) {
        let all = || rules.iter().flat_map(|rule| &rule.to);
        let kind = |kind: fn(&HostPattern) -> bool| {
            let names = all().filter(|to| matches!(&to.host, HostMatch::Name(name) if kind(name)));
            names.count()
        };
        self.entries.reserve_exact(all().count());
        self.exact.reserve(kind(|name| matches!(name, HostPattern::Exact(_))));
        self.below.reserve(kind(|name| matches!(name, HostPattern::Below(_))));
    }

    fn add(&mut self, rules: &[Rule], befores: &mut Befores, rule: u32, destination: &Destination, place: u32) {
        let link = u32::try_from(self.entries.len() + 1).ok().and_then(Link::new);
        let next = match &destination.host {
            HostMatch::Name(HostPattern::Exact(name)) => self
                .exact
                .begin(name.as_str(), link, |link| host_text(rules, &self.entries, link)),
            HostMatch::Name(HostPattern::Below(suffix)) => {
                self.longest = self.longest.max(suffix.as_str().len());
                self.below
                    .begin(suffix.as_str(), link, |link| host_text(rules, &self.entries, link))
            }
            HostMatch::Name(HostPattern::Label(label)) => {
                let lists = self.labels.suffixes.entry(label.suffix.clone()).or_default();
                std::mem::replace(lists.entry(befores.number(&label.before)).or_default(), link)
            }
            HostMatch::Cidr(net) => std::mem::replace(self.nets.entry(*net), link),
        };
        self.entries.push(Entry {
            rule,
            destination: place,
            next,
        });
    }
}

impl Entry {
    /// The destination, unless the label of a host does not fit it.
    fn of<'a>(self, rules: &'a [Rule], label: Option<&str>) -> Option<(RuleId, &'a Rule, &'a Destination)> {
        let rule = rules.get(self.rule as usize)?;
        let destination = rule.to.get(self.destination as usize)?;
        let fits = label.is_none_or(|label| label_fits(&destination.host, label));
        fits.then_some((RuleId(self.rule), rule, destination))
    }
}

impl Texts {
    fn head<'t>(&self, name: &str, text: impl Fn(Link) -> &'t str) -> Head {
        let hash = self.state.hash_one(name);
        self.table.find(hash, |link| text(*link) == name).copied()
    }

    /// Puts a link before the list of a name; what was the first one so far comes back.
    fn begin<'t>(&mut self, name: &str, link: Head, text: impl Fn(Link) -> &'t str) -> Head {
        let link = link?;
        let hash = self.state.hash_one(name);
        if let Some(first) = self.table.find_mut(hash, |first| text(*first) == name) {
            return Some(std::mem::replace(first, link));
        }
        self.table
            .insert_unique(hash, link, |link| self.state.hash_one(text(*link)));
        None
    }

    fn reserve(&mut self, names: usize) {
        // Nothing is in it yet that could be hashed again.
        self.table.reserve(names, |_| 0);
    }
}

/// The name or suffix that a link stands for.
fn host_text<'r>(rules: &'r [Rule], entries: &[Entry], link: Link) -> &'r str {
    let entry = entries.get(link.get() as usize - 1);
    let rule = entry.and_then(|entry| Some((entry, rules.get(entry.rule as usize)?)));
    let destination = rule.and_then(|(entry, rule)| rule.to.get(entry.destination as usize));
    match destination.map(|destination| &destination.host) {
        Some(HostMatch::Name(HostPattern::Exact(name) | HostPattern::Below(name))) => name.as_str(),
        _ => "",
    }
}

/// Numbers the distinct parts before a star.
#[derive(Default)]
struct Befores {
    numbers: HashMap<Box<str>, usize, RandomState>,
    /// In the order of their numbers.
    written: Vec<Box<str>>,
}

impl Befores {
    fn number(&mut self, before: &str) -> usize {
        if let Some(number) = self.numbers.get(before) {
            return *number;
        }
        let number = self.written.len();
        self.numbers.insert(before.into(), number);
        self.written.push(before.into());
        number
    }

    /// Globs are made and dropped one by one: a hundred thousand of them would weigh more than all rules.
    fn automaton(&self) -> GlobSet {
        #[expect(
            clippy::expect_used,
            reason = "prefixes become one Aho-Corasick automaton, which has no size limit"
        )]
        GlobSet::new(self.written.iter().map(|before| starting(before))).expect("prefixes")
    }
}

/// The glob for every label that begins so.
fn starting(before: &str) -> Glob {
    let pattern = format!("{}*", globset::escape(before));
    #[expect(clippy::expect_used, reason = "an escaped literal and one star are always a glob")]
    GlobBuilder::new(&pattern)
        .backslash_escape(false)
        .build()
        .expect("escaped")
}

/// Whether a label that begins as the pattern says also ends so, without the two parts overlapping.
fn label_fits(host: &HostMatch, label: &str) -> bool {
    match host {
        HostMatch::Name(HostPattern::Label(pattern)) => {
            label.len() >= pattern.before.len() + pattern.after.len() && label.ends_with(&*pattern.after)
        }
        HostMatch::Name(_) | HostMatch::Cidr(_) => false,
    }
}
