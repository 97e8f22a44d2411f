//! What could not be said in the other language, and what was made of it: every kind, its place and its reason.
//! Must not decide what is carried over; whoever translates does, and notes it here. Nothing is lost without a finding.
//! Called by import and export; the commands print it and exit by it.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use annotate_snippets::{Level, Origin, Renderer};
use serde_json::{Value, json};

/// Where something stands in the input.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Place {
    /// The file's name; for our own files with the line, `policy.yaml:12`.
    pub file: Arc<str>,
    /// From the file's root: `properties.ruleCollections[2].rules[0]`. Empty: the file as a whole.
    pub path: String,
    /// The same for people: `collection "app", rule "github"`. May be empty.
    pub inside: String,
}

/// One thing that a person has to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub kind: Kind,
    pub place: Place,
    /// What it is about and why, one line.
    pub message: String,
    /// What was made of it: `narrowed to ...`, `not carried over`. Empty where the message says it.
    pub outcome: String,
    /// What to do about it.
    pub help: Option<String>,
}

/// How much a kind of finding stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// Nothing is written, whatever is accepted.
    Never,
    /// Nothing is written unless `--accept` names the kind.
    Ask,
    /// Something to look at; stops nothing.
    Warning,
    /// Says what was done.
    Note,
}

/// What became of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It means the same.
    Exact,
    /// It is there, and something about it was accepted, or would have to be.
    Changed,
    NotCarried,
}

/// Everything that was found, and how much was carried over.
#[derive(Clone, Debug, Default)]
pub struct Report {
    findings: Vec<Finding>,
    accepted: BTreeSet<Kind>,
    /// What became of each rule, for machines.
    pub rules: Vec<(Place, Fate)>,
    /// What the result holds, for the last line: `3 collections, 12 rules`.
    pub carried: Vec<(&'static str, usize)>,
}

impl Place {
    /// The file as a whole.
    pub fn of_file(file: &Arc<str>) -> Self {
        Self {
            file: Arc::clone(file),
            ..Self::default()
        }
    }

    /// What stands under a key of this.
    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        let plain = key
            .chars()
            .all(|c| c.is_alphanumeric() || c == '_' || c == '-' || c == '$');
        let path = match (plain, self.path.is_empty()) {
            (true, true) => key.to_owned(),
            (true, false) => format!("{}.{key}", self.path),
            (false, _) => format!("{}[{}]", self.path, Value::from(key)),
        };
        Self { path, ..self.clone() }
    }

    /// An item of this.
    #[must_use]
    pub fn item(&self, index: usize) -> Self {
        Self {
            path: format!("{}[{index}]", self.path),
            ..self.clone()
        }
    }

    /// The same place, said to be in a thing with a name: `rule "github"`.
    #[must_use]
    pub fn within(&self, what: &str, name: &str) -> Self {
        let separator = if self.inside.is_empty() { "" } else { ", " };
        Self {
            inside: format!("{}{separator}{what} {}", self.inside, Value::from(name)),
            ..self.clone()
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if !self.path.is_empty() {
            write!(f, ": {}", self.path)?;
        }
        if !self.inside.is_empty() {
            write!(f, " ({})", self.inside)?;
        }
        Ok(())
    }
}

impl Finding {
    /// What was made of it.
    pub fn outcome(&mut self, outcome: impl Into<String>) -> &mut Self {
        self.outcome = outcome.into();
        self
    }

    /// What to do about it.
    pub fn help(&mut self, help: impl Into<String>) -> &mut Self {
        self.help = Some(help.into());
        self
    }
}

impl Report {
    pub fn accepting(kinds: impl IntoIterator<Item = Kind>) -> Self {
        Self {
            accepted: kinds.into_iter().collect(),
            ..Self::default()
        }
    }

    /// Notes a finding; outcome and help are added to what is returned.
    pub fn note(&mut self, kind: Kind, place: &Place, message: impl Into<String>) -> &mut Finding {
        let index = self.findings.len();
        self.findings.push(Finding {
            kind,
            place: place.clone(),
            message: message.into(),
            outcome: String::new(),
            help: None,
        });
        &mut self.findings[index]
    }

    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// Whether nothing may be written.
    pub fn is_refused(&self) -> bool {
        self.findings.iter().any(|finding| self.stops(finding))
    }

    /// Whether something is wrong that nobody can accept.
    pub fn has_errors(&self) -> bool {
        self.findings
            .iter()
            .any(|finding| finding.kind.weight() == Weight::Never)
    }

    /// Whether something at a place, or below it, cannot be understood.
    pub fn has_errors_at(&self, place: &Place) -> bool {
        self.findings.iter().any(|finding| {
            let below = || {
                let rest = finding.place.path.strip_prefix(&place.path);
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
            };
            finding.kind.weight() == Weight::Never && finding.place.file == place.file && below()
        })
    }

    /// The kinds that were found and would have to be accepted.
    pub fn to_accept(&self) -> Vec<Kind> {
        let asked = self
            .findings
            .iter()
            .filter(|finding| finding.kind.weight() == Weight::Ask && self.stops(finding));
        asked
            .map(|finding| finding.kind)
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect()
    }

    /// For people.
    pub fn render(&self, colour: bool) -> String {
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        let mut out = String::new();
        let mut sorted: Vec<_> = self.findings.iter().collect();
        sorted.sort_by_key(|finding| self.rank(finding));
        for finding in sorted.iter().take(SHOWN) {
            out.push_str(&self.one(finding, &renderer));
            out.push_str("\n\n");
        }
        if let Some(hidden) = sorted.len().checked_sub(SHOWN).filter(|hidden| *hidden > 0) {
            out.push_str("... and ");
            out.push_str(&hidden.to_string());
            out.push_str(" more; --report FILE writes all of them\n\n");
        }
        out.push_str(&self.summary());
        out.push('\n');
        out
    }

    /// For machines: everything, and whether something was written.
    pub fn json(&self) -> Value {
        let findings = self.findings.iter().map(|finding| {
            json!({
                "kind": finding.kind.as_str(),
                "severity": self.severity(finding),
                "file": &*finding.place.file,
                "path": finding.place.path,
                "inside": finding.place.inside,
                "message": finding.message,
                "outcome": finding.outcome,
                "help": finding.help,
            })
        });
        let carried: serde_json::Map<_, _> = self
            .carried
            .iter()
            .map(|(noun, count)| ((*noun).to_owned(), json!(count)))
            .collect();
        let names = |kinds: Vec<Kind>| kinds.into_iter().map(Kind::as_str).collect::<Vec<_>>();
        let rules = self.rules.iter().map(|(place, fate)| {
            let fate = match fate {
                Fate::Exact => "exact",
                Fate::Changed => "changed",
                Fate::NotCarried => "not_carried",
            };
            json!({"file": &*place.file, "path": place.path, "inside": place.inside, "outcome": fate})
        });
        json!({
            "rules": rules.collect::<Vec<_>>(),
            "written": !self.is_refused(),
            "carried": carried,
            "to_accept": names(self.to_accept()),
            "findings": findings.collect::<Vec<_>>(),
        })
    }

    /// `carried over: 3 collections, 12 rules; 2 errors`.
    pub fn summary(&self) -> String {
        let mut parts = Vec::new();
        if !self.is_refused() {
            let counts = self.carried.iter().map(|(noun, count)| counted(*count, noun));
            parts.push(format!("carried over: {}", counts.collect::<Vec<_>>().join(", ")));
        }
        for severity in ["error", "accepted", "warning", "note"] {
            let count = self
                .findings
                .iter()
                .filter(|finding| self.severity(finding) == severity)
                .count();
            match (severity, count) {
                (_, 0) => {}
                ("accepted", _) => parts.push(format!("{count} accepted")),
                _ => parts.push(counted(count, severity)),
            }
        }
        let mut line = parts.join("; ");
        if self.is_refused() {
            line.push_str("; nothing was written");
            let kinds: Vec<_> = self.to_accept().into_iter().map(Kind::as_str).collect();
            match (self.has_errors(), kinds.is_empty()) {
                (_, true) => {}
                (false, false) => {
                    line.push_str("\nif that is as you want it: --accept ");
                    line.push_str(&kinds.join(","));
                }
                (true, false) => {
                    line.push_str("\nonce the other errors are mended, if the rest is as you want it: --accept ");
                    line.push_str(&kinds.join(","));
                }
            }
        }
        line
    }

    fn one(&self, finding: &Finding, renderer: &Renderer) -> String {
        let severity = self.severity(finding);
        let level = match severity {
            "error" => Level::ERROR,
            "note" => Level::NOTE,
            "accepted" => Level::NOTE.with_name("accepted"),
            _ => Level::WARNING,
        };
        let (message, place) = (one_line(&finding.message), one_line(&finding.place.to_string()));
        let title = level.primary_title(message).id(finding.kind.as_str());
        let mut group = if place.is_empty() {
            title.elements(None::<Origin<'_>>)
        } else {
            title.element(Origin::path(place))
        };
        if !finding.outcome.is_empty() {
            group = group.element(Level::NOTE.message(one_line(&finding.outcome)));
        }
        if let Some(help) = &finding.help {
            group = group.element(Level::HELP.message(one_line(help)));
        }
        renderer.render(&[group])
    }

    fn stops(&self, finding: &Finding) -> bool {
        match finding.kind.weight() {
            Weight::Never => true,
            Weight::Ask => !self.accepted.contains(&finding.kind),
            Weight::Warning | Weight::Note => false,
        }
    }

    fn severity(&self, finding: &Finding) -> &'static str {
        match finding.kind.weight() {
            _ if self.stops(finding) => "error",
            Weight::Warning => "warning",
            Weight::Note => "note",
            Weight::Ask | Weight::Never => "accepted",
        }
    }

    fn rank(&self, finding: &Finding) -> u8 {
        match self.severity(finding) {
            "error" => 0,
            "accepted" => 1,
            "warning" => 2,
            _ => 3,
        }
    }
}

/// `1 rule`, `2 rules`; `1 entry`, `2 entries` are not needed.
fn counted(count: usize, noun: &str) -> String {
    format!("{count} {}{}", noun, if count == 1 { "" } else { "s" })
}

/// Findings quote files, and files may hold what a terminal obeys.
fn one_line(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// Defines [`Kind`] and everything that is said of each one, in one table.
macro_rules! kinds {
    ($($(#[$attr:meta])* $variant:ident $text:literal $weight:ident $doc:literal,)*) => {
        /// Every kind of finding, a closed list. The text is what `--accept` takes.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Kind {
            $(#[doc = $doc] $variant,)*
        }

        impl Kind {
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// One line for people.
            pub fn doc(self) -> &'static str {
                match self { $(Self::$variant => $doc,)* }
            }

            pub fn weight(self) -> Weight {
                match self { $(Self::$variant => Weight::$weight,)* }
            }
        }
    };
}

kinds! {
    // Import: the input cannot be understood. Nobody can accept that.
    NotJson "not-json" Never "the text is not JSON, or names a key twice",
    SourceCode "source-code" Never "Bicep or HCL source instead of JSON",
    Expression "expression" Never "an expression stands where a value is needed",
    UnknownShape "unknown-shape" Never "JSON, but none of the shapes that rules come in",
    UnknownKey "unknown-key" Never "a property that nobody here knows, so that its meaning would be lost",
    BadValue "bad-value" Never "a value that Azure would not take, or that can be read in two ways",
    Empty "empty" Never "a list that decides is empty or absent, and empty is never any",
    Duplicate "duplicate" Never "two things with one name or one priority",
    UnknownFqdnTag "unknown-fqdn-tag" Never "an FQDN tag that Azure does not have",
    UnknownServiceTag "unknown-service-tag" Never "a service tag that the published file does not have",
    UnmappedSource "source" Never "a source that no `--sources` maps to a workload",
    Incomplete "incomplete" Never "some of the rules are elsewhere",
    SeveralPolicies "several-policies" Never "rules of policies or firewalls that do not belong together",
    NoRules "no-rules" Never "the input holds no rule",
    BadPolicy "bad-policy" Never "the policy that the rules make cannot be loaded",

    // Import: cannot be said here, or not exactly.
    AnyName "any-name" Ask "a name that stands for names of everyone; not carried over",
    StarWithoutDot "star-without-dot" Ask "`*x` matches whatever ends so; narrowed to `x` and `*.x`",
    Mssql "mssql" Ask "an MSSQL rule becomes plain TCP: the name inside is not looked at",
    IpLiteral "ip-literal" Ask "an address as target name, whose meaning is not documented; not carried over",
    WebCategory "web-category" Ask "web categories; not carried over",
    Url "url" Ask "target URLs; not carried over",
    TlsInspection "tls-inspection" Ask "TLS inspection; the rule is carried over without it",
    HeaderInsertion "header-insertion" Ask "headers to insert; the rule is carried over without them",
    FqdnTag "fqdn-tag" Ask "an FQDN tag whose hosts Microsoft does not publish; not carried over",
    FqdnTagProtocols "fqdn-tag-protocols" Ask "our list of an FQDN tag opens other protocols than the rule",
    DestinationAddresses "destination-addresses" Ask "addresses beside names, whose meaning is not documented; carried over without them",
    NotTcp "not-tcp" Ask "UDP and ICMP, which no proxy carries; not carried over",
    NetworkFqdn "network-fqdn" Ask "a name in a network rule: Azure compares addresses, we the name",
    IpGroup "ip-group" Ask "an IP group that was not given; not carried over",
    ServiceTag "service-tag" Ask "a service tag, without the published file; not carried over",
    GeoLocation "geo-location" Ask "a rule by country; not carried over",
    NeverDialled "never-dialled" Ask "addresses that no rule can open; not carried over",
    Shadows "shadows-application-rules" Ask "a network rule so wide that in Azure no application rule behind it decides",
    DenyLost "deny-lost" Ask "what a deny rule closes cannot be said here; what it closes may stay open",
    DenyProtocol "deny-protocol" Ask "a deny rule closes its port for every protocol here",
    SourceJoined "source-joined" Ask "a workload stands for more sources than the rule names",
    Nat "nat" Ask "NAT rules, which are about inbound connections; not carried over",
    ThreatIntelligence "threat-intelligence" Ask "threat intelligence that denies; not carried over",
    Idps "idps" Ask "intrusion detection that denies; not carried over",
    ClusterFacts "cluster-facts" Ask "the policy needs facts about the cluster that no file says",
    ParentPolicy "parent-policy" Ask "a parent policy whose rules were not given; not carried over",

    // Import: said, and no more.
    AnyTenant "any-tenant" Warning "anyone can get a name that this matches, so data can leave to any tenant",
    RetiredHost "retired-host" Warning "a host that nothing needs any more",
    AddressRule "address-rule" Note "matches only clients that ask for the address itself, never a name that resolves to it",
    FqdnTagList "fqdn-tag-list" Note "an FQDN tag stands for our own open list",
    Normalised "normalised" Note "written in another way, with the same meaning",
    Renamed "renamed" Note "has another name here, because the name was taken",
    DefaultDeny "default-deny" Note "a rule that denies all that is left, as the end of every policy does",
    Implied "implied" Note "a deny rule for the API server, which `cluster.api_server` implies here; left out",
    Setting "setting" Note "a setting of the firewall that is no rule; not carried over",
    NotDeployed "not-deployed" Note "a resource whose condition is false; not carried over",
    KubeSelector "kube-selector" Note "a selector of pods became a workload with a port of its own",

    // Export: Azure takes no such thing.
    Limit "limit" Never "a limit of Azure: names, priorities, ports, amounts",

    // Export: cannot be said in Azure, or not exactly.
    InLabelWildcard "in-label-wildcard" Ask "a `*` inside a label: of an allow rule left out, of a deny rule widened to the whole suffix",
    WorkloadSource "workload-source" Ask "a workload known by pods or port alone: an allow rule is narrowed to its other sources, a deny rule closes for all",
    Until "until" Ask "Azure has no expiry; the rule is carried over without end",
    Sni "sni" Ask "`sni`, `no_sni`, `ech` and TLS to addresses; carried over as Azure looks at it",
    ReportOnly "report-only" Ask "a rule that only marks; left out",
    PortRange "port-range" Ask "a range of ports too long for an application rule; left out",
    TcpWildcard "tcp-wildcard" Ask "a wildcard for plain TCP; left out",
    Ipv6 "ipv6" Ask "an IPv6 address; left out",
    Order "order" Ask "a name that an earlier deny rule closes would be open, as network rules come first in Azure; left out",

    // Export: said, and no more.
    Expired "expired" Note "a rule that has expired; left out",
    PresetRow "preset-row" Note "a row of a preset that needs a network rule, in Azure as well",
    Addresses "addresses" Note "`addresses` of a rule: Azure dials whatever a name resolves to",
    SqlOnly "sql-only" Note "TCP to a SQL server becomes Mssql, which lets SQL pass and nothing else",
    WorkloadPort "workload-port" Note "a workload is known by its port here and by its addresses alone in Azure",
}

/// Nobody reads more than these.
const SHOWN: usize = 200;
