//! The file for `az aks create --http-proxy-config`: nodes, and through AKS all pods, use a proxy outside the cluster.
//! Must not name a proxy inside it: nodes would need one that does not run before they do.
//! Called by `generate aks-http-proxy` alone; it is no Kubernetes object. Source: learn.microsoft.com "HTTP proxy" of AKS.

use std::net::SocketAddr;

use serde::Serialize;

use super::object::{File, Form, Object};
use super::plan::Plan;
use crate::policy::document::address;
use crate::policy::problem::{At, Place, Problems};

/// The file, if the policy names a proxy that can stand there.
pub(super) fn file(plan: &Plan<'_>, problems: &mut Problems<'_>) -> Option<File> {
    let address = address(plan, problems)?;
    let url = format!("http://{address}");
    let config = Config {
        http_proxy: url.clone(),
        https_proxy: url,
        no_proxy: NO_PROXY
            .map(str::to_owned)
            .into_iter()
            .chain([address.ip().to_string()])
            .collect(),
    };
    Some(File {
        path: "aks-http-proxy.json".to_owned(),
        header: Vec::new(),
        objects: vec![Object::of(&config)],
        form: Form::Json,
    })
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::struct_field_names, reason = "the names are Azure's")]
struct Config {
    http_proxy: String,
    https_proxy: String,
    no_proxy: Vec<String>,
}

fn address(plan: &Plan<'_>, problems: &mut Problems<'_>) -> Option<SocketAddr> {
    let cluster = &plan.cluster;
    let Some(address) = cluster.proxy.address else {
        let at = plan
            .document
            .cluster
            .as_ref()
            .map_or_else(Place::default, |cluster| cluster.at);
        problems
            .error(at, "no address of a proxy outside the cluster is known")
            .help("add `proxy: {address: \"10.1.0.4:3128\"}` to `cluster`");
        return None;
    };
    need_networks(plan, address, problems);
    let within = |networks: &[At<ipnet::IpNet>]| {
        let own = networks.iter().map(|network| network.value);
        own.into_iter()
            .find(|own| address::overlap(*own, address.value.ip().into()))
    };
    for (networks, what) in [
        (&cluster.networks.pods, "pods"),
        (&cluster.networks.services, "Services"),
    ] {
        if let Some(own) = within(networks) {
            problems
                .error(
                    address.at,
                    format!("`{}` lies in `{own}`, the cluster's {what}", address.value.ip()),
                )
                .label("nodes need the proxy before any pod can run")
                .help("run this proxy on a virtual machine or in another cluster, and name its address");
            return None;
        }
    }
    if let Some(own) = within(&cluster.networks.nodes) {
        problems
            .warning(
                address.at,
                format!("`{}` lies in `{own}`, the network of the nodes", address.value.ip()),
            )
            .help("if this is a load balancer in front of pods of the same cluster, no node will ever start");
    }
    Some(address.value)
}

/// Without them nobody can say whether the address lies inside.
fn need_networks(plan: &Plan<'_>, address: At<SocketAddr>, problems: &mut Problems<'_>) {
    let networks = &plan.cluster.networks;
    for (given, key) in [
        (!networks.pods.is_empty(), "pods"),
        (!networks.services.is_empty(), "services"),
    ] {
        if !given {
            problems
                .error(
                    address.at,
                    format!("whether this lies inside the cluster, `cluster.networks.{key}` would say"),
                )
                .help("add it (`az aks show --query networkProfile`)");
        }
    }
}

/// AKS adds its own networks, the metadata addresses and the API server, but no names of Services. Its check refuses `*.`,
/// and what it makes of a leading dot is not documented.
const NO_PROXY: [&str; 3] = ["svc", "cluster.local", "svc.cluster.local"];
