//! Through the proxy: what the policy expects, what no policy lets through, the ports of others, the token exchange.
//! Must not judge; where the policy itself would let a synthetic request through, the gate says so and it is not tried.
//! Called for each workload.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use super::direct::NO_LOCK;
use super::{Attempt, Case, Credit, Criterion, Must, Opener, Probe, Request, Target, Then};
use crate::name::{Host, HostName, Port};
use crate::policy::document::{Cloud, Identity, Tester, Verdict, Wanted};
use crate::policy::{Ask, Scheme, Seen, Source, expected};

pub(super) fn probes(case: &Case<'_>) -> Vec<Probe> {
    let mut probes = ports(case);
    let (Some(host), Some(port)) = (case.proxy_host(), own_port(case)) else {
        return probes;
    };
    let proxy = Target { host, port };
    let through = Through { case, proxy };
    probes.extend(through.expectations());
    probes.push(through.api_server());
    probes.extend(through.api_service());
    probes.extend(through.literals());
    probes.push(through.wrong_name());
    probes.push(through.public_sql());
    probes.extend(through.token());
    probes
}

/// Its own, or the one that workloads without one share.
fn own_port(case: &Case<'_>) -> Option<Port> {
    match case.pods.workload.port {
        Some(port) => Some(port.value),
        None => Port::new(case.targets.proxy.explicit),
    }
}

/// Its own port is open to it alone; all others of the proxy are closed to it.
fn ports(case: &Case<'_>) -> Vec<Probe> {
    let proxy = &case.targets.proxy;
    let Some(host) = case.proxy_host() else {
        return Vec::new();
    };
    let at = |port| {
        let (host, openers) = (host.clone(), TO_PROXY);
        let to = Target { host, port };
        Attempt::Tcp { to, openers }
    };
    let mut probes = Vec::new();
    if let Some(own) = own_port(case) {
        probes.push(Probe {
            id: format!("L08 proxy port {own}"),
            cases: &["L08", "L21"],
            criterion: Criterion::LeastEgress,
            attempt: at(own),
            must: Must::WorkHereOnly,
            proves: "the proxy answers this workload, and not a pod outside of the locked namespaces".to_owned(),
            advice: "if it does not answer here, see that its pods are ready and that --proxy and -c say where it \
                     listens; if it answers the control, the policies of its own namespace are not in force"
                .to_owned(),
        });
    }
    let mut closed = vec![("the admin port", proxy.admin), ("the health port", proxy.health)];
    if case.pods.workload.port.is_some() {
        closed.extend(proxy.shared.iter().map(|port| ("a shared port", *port)));
    }
    let document = case.plan.document;
    let mut others: Vec<_> = document.workloads.iter().map(|workload| &workload.value).collect();
    others.sort_by_key(|workload| &workload.name);
    for other in others.into_iter().filter(|other| *other.name != *case.name()) {
        closed.extend(
            other
                .port
                .map(|port| ("the port of another workload", port.value.number())),
        );
    }
    for (what, number) in closed {
        let Some(port) = Port::new(number) else { continue };
        probes.push(Probe {
            id: format!("L08 proxy port {port}"),
            cases: &["L08"],
            criterion: Criterion::NamedServices,
            attempt: at(port),
            // The proxy's own policy keeps the control out as well.
            must: Must::BeBlockedToBoth,
            proves: format!("{what}: this workload comes in as itself and in no other way, the port is the identity"),
            advice: format!("{NO_LOCK}. If it is open to the control, look at those of the proxy's own namespace"),
        });
    }
    probes
}

/// Requests through the proxy, on the port of the workload.
struct Through<'a> {
    case: &'a Case<'a>,
    proxy: Target,
}

impl Through<'_> {
    fn expectations(&self) -> Vec<Probe> {
        let mut probes = Vec::new();
        for (verdict, wanted) in self.expected() {
            let destination = format!("{}://{}:{}", wanted.scheme.as_str(), wanted.host, wanted.port);
            let (word, must, shows) = match verdict {
                Verdict::Allow => (
                    "allow",
                    Must::Work,
                    "what the policy expects to be allowed works to the end",
                ),
                Verdict::Deny => (
                    "deny",
                    Must::BeRefused(Credit::NeedsControl),
                    "what the policy expects to be denied is refused by the proxy that runs",
                ),
            };
            probes.push(Probe {
                id: format!("expect {word} {destination}"),
                cases: &[],
                criterion: Criterion::NamedServices,
                attempt: self.attempt(request(wanted)),
                must,
                proves: shows.to_owned(),
                advice: match verdict {
                    Verdict::Allow => {
                        "the answer of the proxy says why; `sluicegate explain` follows it with the policy at hand, and \
                         the proxy's /policy page shows which generation it runs"
                    }
                    Verdict::Deny => {
                        "the proxy runs another policy than the one at hand, or only reports: compare its /policy page"
                    }
                }
                .to_owned(),
            });
        }
        probes
    }

    /// Entries of `expect` that speak of this workload.
    fn expected(&self) -> impl Iterator<Item = (Verdict, &Wanted)> {
        let name = self.case.name();
        let document = self.case.plan.document;
        let mine = document.expect.iter().map(|entry| &entry.value).filter(move |entry| {
            let is_me = |tester: &Tester| matches!(tester, Tester::Workload(other) if **other == *name);
            let from = entry.from.as_ref();
            from.is_none_or(|from| from.iter().any(|tester| is_me(&tester.value)))
        });
        mine.flat_map(|entry| entry.of.iter().map(|wanted| (entry.verdict, &wanted.value)))
    }

    fn api_server(&self) -> Probe {
        let name = self.case.plan.cluster.api_server.as_ref();
        let (id, attempt) = match name {
            Some(name) => {
                let host = Host::Name(name.value.clone());
                let then = Then::Hello(Some(name.value.clone()));
                let attempt = self.connect(host, Port::HTTPS, then);
                (format!("L06 API server through the proxy {}", name.value), attempt)
            }
            None => (
                "L06 API server through the proxy".to_owned(),
                Attempt::None("`cluster.api_server` is not written".to_owned()),
            ),
        };
        Probe {
            id,
            cases: &["L06"],
            criterion: Criterion::ApiServer,
            attempt,
            must: Must::BeRefused(Credit::NeedsControl),
            proves: "the proxy refuses the API server's name, whatever a wildcard says".to_owned(),
            advice: "write `cluster.api_server` into the policy that the proxy runs: a deny rule for pods comes of it"
                .to_owned(),
        }
    }

    /// The same by the name that pods know it by.
    fn api_service(&self) -> Option<Probe> {
        let host = Host::Name(HostName::parse(API_SERVICE).ok()?);
        let ask = Ask::new(host.clone(), Port::HTTPS);
        let id = format!("L06 API server through the proxy {host}");
        let then = Then::Hello(host.name().cloned());
        let attempt = self.unless_allowed(&ask, self.connect(host, Port::HTTPS, then));
        Some(Probe {
            id,
            cases: &["L06"],
            criterion: Criterion::ApiServer,
            must: refused(&attempt),
            attempt,
            proves: "the proxy refuses the names of Services".to_owned(),
            advice: OTHER_POLICY.to_owned(),
        })
    }

    /// Addresses instead of names, in public and where nothing may ever be dialled.
    fn literals(&self) -> Vec<Probe> {
        let targets = self.case.targets;
        let public = targets.public.first();
        let mut literals: Vec<(&'static [&'static str], IpAddr, u16)> = vec![
            (&["L09"], Ipv4Addr::new(10, 0, 0, 1).into(), 443),
            (&["L03", "L09"], targets.metadata.ip(), targets.metadata.port()),
            (&["L04", "L09"], targets.wire_server, 80),
            (&["L08", "L09"], Ipv4Addr::LOCALHOST.into(), targets.proxy.admin),
        ];
        literals.extend(public.map(|public| (&["L09"][..], public.ip(), public.port())));
        // First, as it may well be one of the others.
        let server = targets
            .api_server
            .map(|server| (&["L06", "L09"][..], server.ip(), server.port()));
        let literals = server.into_iter().chain(literals);
        let probes = literals.filter_map(|(cases, address, port)| {
            let port = Port::new(port)?;
            let host = Host::Address(address);
            let ask = Ask::new(host.clone(), port).dialling(address);
            let then = Then::Hello(None);
            let attempt = self.unless_allowed(&ask, self.connect(host.clone(), port, then));
            let is_server = cases.contains(&"L06");
            Some(Probe {
                id: format!("L09 address through the proxy {host}:{port}"),
                cases,
                criterion: if is_server {
                    Criterion::ApiServer
                } else {
                    Criterion::LeastEgress
                },
                must: refused(&attempt),
                attempt,
                proves: "the proxy dials no address that a client chooses, nor one that is never to be dialled"
                    .to_owned(),
                advice: OTHER_POLICY.to_owned(),
            })
        });
        probes.collect()
    }

    /// An allowed name outside, another one in the ClientHello.
    fn wrong_name(&self) -> Probe {
        let allowed = self.expected().find_map(|(verdict, wanted)| {
            let fits = verdict == Verdict::Allow && wanted.scheme == Scheme::Tls;
            let name = wanted.host.name().filter(|_| fits)?;
            Some((name.clone(), wanted.port))
        });
        let wrong = HostName::parse(WRONG_NAME).ok();
        let (id, attempt) = match (allowed, wrong) {
            (Some((name, port)), Some(wrong)) => {
                let seen = Seen::Hello {
                    sni: Some(wrong.clone()),
                    ech: false,
                };
                let ask = Ask::new(Host::Name(name.clone()), port).seeing(seen);
                let id = format!("L09 another name inside a tunnel to {name}:{port}");
                let attempt = self.connect(Host::Name(name), port, Then::Hello(Some(wrong)));
                (id, self.unless_allowed(&ask, attempt))
            }
            _ => (
                "L09 another name inside a tunnel".to_owned(),
                Attempt::None(
                    "no entry of `expect` names a destination over TLS that this workload may reach".to_owned(),
                ),
            ),
        };
        Probe {
            id,
            cases: &["L09"],
            criterion: Criterion::LeastEgress,
            attempt,
            must: Must::BeRefused(Credit::Optional),
            proves: "the name in the ClientHello is read: an allowed CONNECT does not carry another host".to_owned(),
            advice: format!(
                "write `expect: [{{from: {}, allow: https://NAME}}]`, and leave `sni` of that rule as it is by default",
                self.case.name()
            ),
        }
    }

    /// A SQL server of anyone's, by its public name.
    fn public_sql(&self) -> Probe {
        let suffix = match self.cloud() {
            Cloud::Public => "database.windows.net",
            Cloud::China => "database.chinacloudapi.cn",
            Cloud::UsGov => "database.usgovcloudapi.net",
        };
        let name = format!("sluicegate-verify.{suffix}");
        let port = Port::new(TDS);
        let attempt = match (Host::parse(name.as_bytes()), port) {
            (Ok(host), Some(port)) => {
                let ask = Ask::new(host.clone(), port);
                self.unless_allowed(&ask, self.connect(host, port, Then::Nothing))
            }
            _ => Attempt::None("the name cannot be written".to_owned()),
        };
        Probe {
            id: format!("SQL by a public name {name}:{TDS}"),
            cases: &[],
            criterion: Criterion::Sql,
            must: refused(&attempt),
            attempt,
            proves: "no SQL server is reached over its public name".to_owned(),
            advice: "name your own servers in rules instead of a wildcard, or reach them as `direct` private endpoints"
                .to_owned(),
        }
    }

    fn token(&self) -> Option<Probe> {
        if self.case.pods.workload.identity.value != Identity::Workload {
            return None;
        }
        let scope = match self.cloud() {
            Cloud::Public => "https://management.azure.com/.default",
            Cloud::China => "https://management.chinacloudapi.cn/.default",
            Cloud::UsGov => "https://management.usgovcloudapi.net/.default",
        };
        Some(Probe {
            id: "works: token of the workload's identity".to_owned(),
            cases: &[],
            criterion: Criterion::Identities,
            attempt: Attempt::Token {
                proxy: self.proxy.clone(),
                scope,
            },
            must: Must::Work,
            proves: "the federated token is exchanged for an access token, through the proxy".to_owned(),
            advice: "run as the workload's service account (`generate verify-jobs --service-account NAME`) with the label \
                     azure.workload.identity/use=true, so that AZURE_FEDERATED_TOKEN_FILE, AZURE_CLIENT_ID, \
                     AZURE_TENANT_ID and AZURE_AUTHORITY_HOST are set; an error of the authority is about the federated \
                     credential, not about the way"
                .to_owned(),
        })
    }

    fn connect(&self, host: Host, port: Port, then: Then) -> Attempt {
        self.attempt(Request::Connect { host, port, then })
    }

    fn attempt(&self, request: Request) -> Attempt {
        let proxy = self.proxy.clone();
        Attempt::Through { proxy, request }
    }

    /// What the policy itself lets through proves nothing about the proxy.
    fn unless_allowed(&self, ask: &Ask, attempt: Attempt) -> Attempt {
        if expected(self.case.policy, &self.source(), ask).is_allowed() {
            return Attempt::None("the policy allows it".to_owned());
        }
        attempt
    }

    /// As whom the gate sees this workload.
    fn source(&self) -> Source {
        let pods = &self.case.plan.cluster.networks.pods;
        let own = self.case.pods.workload.cidrs.first();
        let address = own
            .or(pods.first())
            .map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |range| range.value.addr());
        match self.case.pods.workload.port {
            Some(_) => Source::through(address, Arc::clone(&self.case.pods.workload.name)),
            None => Source::at(address),
        }
    }

    fn cloud(&self) -> Cloud {
        self.case
            .plan
            .cluster
            .cloud
            .map_or_else(Default::default, |cloud| cloud.value)
    }
}

/// What is not tried because the policy allows it does not fail.
fn refused(attempt: &Attempt) -> Must {
    Must::BeRefused(match attempt {
        Attempt::None(_) => Credit::Optional,
        _ => Credit::NeedsControl,
    })
}

fn request(wanted: &Wanted) -> Request {
    let (host, port) = (wanted.host.clone(), wanted.port);
    match wanted.scheme {
        Scheme::Tls => Request::Connect {
            then: Then::Hello(host.name().cloned()),
            host,
            port,
        },
        Scheme::Http => Request::Get { host, port },
        Scheme::Tcp => Request::Connect {
            host,
            port,
            then: Then::Nothing,
        },
    }
}

const OTHER_POLICY: &str =
    "the proxy runs another policy than the one at hand, or only reports: compare its /policy page";
/// In whichever of the two a listener speaks it answers.
const TO_PROXY: &[Opener] = &[Opener::Http, Opener::Tls];
/// Reserved: nobody can be allowed to have it (RFC 2606).
const WRONG_NAME: &[u8] = b"another-name.sluicegate-verify.invalid";
const API_SERVICE: &[u8] = b"kubernetes.default.svc.cluster.local";
const TDS: u16 = 1433;
