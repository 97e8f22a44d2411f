//! Targets from a file, the settings, the environment of a pod, and flags; the later beats the earlier.
//! Must not look anything up.
//! Called by `verify`, and by `generate` for its Jobs.

use std::env;
use std::fs;
use std::net::{IpAddr, SocketAddr};

use crate::cli::args::{Node, TargetArgs};
use crate::kubernetes::probe::{ProxyAt, Targets};
use crate::name::{Host, HostName};
use crate::settings::{Mode, Settings};

/// As this process, in its pod, finds them. Where settings are given, the proxy listens where they say.
///
/// # Errors
/// A line for a person: a file that cannot be read, a variable or a flag that makes no sense.
pub(super) fn gather(given: &TargetArgs, settings: Option<&Settings>) -> Result<Targets, String> {
    let mut targets = named(given, settings)?;
    from_environment(&mut targets)?;
    Ok(targets)
}

/// The same without the environment: for pods that have one of their own.
///
/// # Errors
/// Likewise.
pub(in crate::cli) fn named(given: &TargetArgs, settings: Option<&Settings>) -> Result<Targets, String> {
    let mut targets = match &given.targets {
        None => Targets::default(),
        Some(file) => {
            let shown = file.display();
            let text = fs::read_to_string(file).map_err(|error| format!("{shown}: {error}"))?;
            serde_json::from_str(&text).map_err(|error| format!("{shown}: {error}"))?
        }
    };
    if let Some(settings) = settings {
        targets.proxy = ProxyAt {
            host: targets.proxy.host,
            ..proxy(settings)
        };
    }
    set(&mut targets.public_dns, given.public_dns);
    set(&mut targets.public_ntp, given.public_ntp);
    set(&mut targets.public_v6, given.public_v6);
    set(&mut targets.metadata, given.metadata);
    set(&mut targets.wire_server, given.wire_server);
    targets.api_server = given.api_server.or(targets.api_server);
    targets.own_node = given.own_node.or(targets.own_node);
    set(&mut targets.early, given.early);
    if !given.public.is_empty() {
        targets.public.clone_from(&given.public);
    }
    if !given.hairpin.is_empty() {
        targets.hairpin.clone_from(&given.hairpin);
    }
    if !given.node.is_empty() {
        targets.nodes.clear();
        targets.node_ports.clear();
        for node in &given.node {
            match node {
                Node::Whole(address) => targets.nodes.push(*address),
                Node::Port(port) => targets.node_ports.push(*port),
            }
        }
    }
    for (name, _) in &given.target {
        targets.workloads.remove(name);
    }
    for (name, target) in &given.target {
        targets.workloads.entry(name.clone()).or_default().push(target.clone());
    }
    if let Some(host) = &given.proxy {
        Host::parse(host.as_bytes()).map_err(|error| format!("--proxy: `{host}`: {error}"))?;
        targets.proxy.host.clone_from(host);
    }
    if let Some(name) = &given.outside_name {
        HostName::parse(name.as_bytes()).map_err(|error| format!("--outside-name: `{name}`: {error}"))?;
        targets.outside_name.clone_from(name);
    }
    Ok(targets)
}

/// What of the settings clients see.
fn proxy(settings: &Settings) -> ProxyAt {
    let explicit = settings.listeners.iter().find_map(|listener| match &listener.mode {
        Mode::Explicit { tls } => Some((listener.bind.port(), tls.is_some())),
        _ => None,
    });
    let (explicit, tls) = explicit.unwrap_or_default();
    ProxyAt {
        host: String::new(),
        explicit,
        tls,
        shared: crate::cli::generate::shared_ports(settings),
        admin: settings.admin.port(),
        health: settings.health.port(),
    }
}

fn set<T: Copy>(place: &mut T, given: Option<T>) {
    if let Some(given) = given {
        *place = given;
    }
}

/// Every pod knows the API server's Service; the generated Jobs add the address of their node.
fn from_environment(targets: &mut Targets) -> Result<(), String> {
    if targets.api_server.is_none()
        && let Some(address) = address("KUBERNETES_SERVICE_HOST")?
    {
        let port = env::var("KUBERNETES_SERVICE_PORT").unwrap_or_else(|_| "443".to_owned());
        let port = port
            .parse()
            .map_err(|_| format!("KUBERNETES_SERVICE_PORT: `{port}` is not a port"))?;
        targets.api_server = Some(SocketAddr::new(address, port));
    }
    if targets.own_node.is_none() {
        targets.own_node = address("NODE_IP")?;
    }
    Ok(())
}

fn address(variable: &str) -> Result<Option<IpAddr>, String> {
    let Some(value) = env::var(variable).ok().filter(|value| !value.is_empty()) else {
        return Ok(None);
    };
    let address = value.parse();
    address
        .map(Some)
        .map_err(|_| format!("{variable}: `{value}` is not an address"))
}
