//! Golden files: what a policy comes to, for a reviewer to read; and what one changed line of the policy changes.
//! Must not compare with anything that the generators made in the same run. `UPDATE_GOLDEN=1` writes the files anew.
//! Called by every test run.

mod admission;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::*;
use crate::policy::problem::render;
use crate::policy::{Generation, SourceText, load};

#[test]
fn the_golden_files_hold() {
    let mut differences = String::new();
    for engine in ["cilium", "calico", "azure-npm"] {
        let text = policy().replace("engine: cilium", &format!("engine: {engine}"));
        differences += &compare_all(&golden().join(engine), &text);
    }
    assert!(differences.is_empty(), "{differences}");
}

/// What the overlays of `deploy/` hold was generated from their own policy.
#[test]
fn the_overlays_are_up_to_date() {
    let mut differences = String::new();
    for overlay in ["aks", "kind"] {
        let overlay = root().join("deploy/overlays").join(overlay);
        let text = fs::read_to_string(overlay.join("policy.yaml")).unwrap();
        differences += &compare_all(&overlay.join("generated"), &text);
    }
    assert!(differences.is_empty(), "{differences}");
}

/// Same input, same bytes; and the order in which things stand in the file changes nothing.
#[test]
fn order_changes_no_byte() {
    let text = policy();
    let workloads: Vec<_> = text.lines().filter(|line| line.starts_with("  poi:")).collect();
    let poi = format!("{}\n", workloads[0]);
    let moved = text
        .replace(&poi, "")
        .replace("workloads:\n", &format!("workloads:\n{poi}"));
    assert_ne!(text, moved);
    assert_eq!(all(&text), all(&moved));
}

/// Removing one edge takes away its two policies and nothing else.
#[test]
fn an_edge_is_two_policies() {
    let text = policy();
    assert_eq!(
        removed(&text, &text.replace("    calls: [poi]\n", "")),
        ["api/sluicegate-trips-to-poi", "geo/sluicegate-poi-from-trips"]
    );
    assert_eq!(
        removed(&text, &text.replace("[ingress, {cidr: 10.3.0.0/24}]", "[ingress]")),
        ["api/sluicegate-trips-from-addresses"]
    );
    assert_eq!(
        removed(&text, &text.replace("    direct: [\"10.1.2.4:1433\"]\n", "")),
        ["api/sluicegate-trips-way-direct"]
    );
    assert_eq!(
        removed(&text, &text.replace(", api_server: allow", "")),
        ["geo/sluicegate-hooks-way-api-server"]
    );
    assert_eq!(
        removed(&text, &text.replace(", identity: imds", "")),
        ["geo/sluicegate-hooks-way-metadata"]
    );
}

/// A system namespace more is one name in two rules; a quota is one object; who owns the lock stands in every rule.
#[test]
fn facts_of_the_lock_stand_where_they_matter() {
    let text = policy();
    assert_eq!(
        removed(&text, &text.replace("quota: {pods: \"50\", requests.cpu: \"8\"}, ", "")),
        ["api/sluicegate-quota"]
    );
    let changed = text.replace("[kube-system, gatekeeper-system]", "[kube-system]");
    assert_eq!(
        altered(&text, &changed),
        ["sluicegate-no-root", "sluicegate-cluster-policies"]
    );
    let changed = text.replace("owners: [platform-admins, ", "owners: [");
    let policies = objects(&text);
    let policies = policies
        .iter()
        .filter(|object| object.value()["kind"] == "ValidatingAdmissionPolicy");
    assert_eq!(altered(&text, &changed).len(), policies.count() - 1, "all but no-root");
}

/// What this engine cannot take is refused, or left out where it lets IPv6 through anyway: never an object without peers.
#[test]
fn azure_npm_is_given_no_ipv6() {
    let text = policy().replace("engine: cilium", "engine: azure-npm");
    let caller = text.replace("{cidr: 10.3.0.0/24}", "{cidr: \"2001:db8::/32\"}");
    let said = problems(&caller);
    assert!(
        said.contains("`2001:db8::/32` is IPv6, which azure-npm does not filter"),
        "{said}"
    );
    let dual = text.replace("[20.50.1.2/32]", "[\"2001:db8::1/128\"]");
    for object in objects(&dual) {
        let written = object.value().to_string();
        assert!(!written.contains("2001:db8"), "{written}");
    }
}

/// A range that a rule names opens no way to the API server in it; nodes' traffic does not pass here.
#[test]
fn a_named_range_leaves_out_the_api_server() {
    let text = policy()
        .replace("[20.50.1.2/32]", "[10.224.9.4/32]")
        .replace("engine: cilium", "engine: calico");
    let world = objects(&text)
        .into_iter()
        .find(|object| object.value()["metadata"]["name"] == "sluicegate-world")
        .unwrap();
    let ways = world.value()["spec"]["egress"].as_array().unwrap().clone();
    let named = ways
        .iter()
        .map(|way| &way["to"][0]["ipBlock"])
        .find(|block| block["cidr"] == "10.224.9.0/28");
    assert_eq!(named.unwrap()["except"], serde_json::json!(["10.224.9.4/32"]));
}

/// What a rule of a collection names with `addresses` is opened as for any other rule, and what one denies is not.
#[test]
fn rules_of_collections_open_ways_as_others_do() {
    let text = policy();
    let rule = r#"{to: ["tcp://db.example.com:1433"], addresses: [10.224.9.0/24]}"#;
    let plain = text.replace("\nallow:\n", &format!("\nallow:\n  - {rule}\n"));
    let collections = |action: &str, rule: &str| {
        format!(
            "{text}\ncollections:\n  - {{name: c, type: network, priority: 100, action: {action}, rules: [{rule}]}}\n"
        )
    };
    assert!(objects(&plain) != objects(&text));
    assert!(objects(&plain) == objects(&collections("allow", rule)));
    assert!(objects(&text) == objects(&collections("deny", "10.224.9.0/24")));
}

/// A literal range opens nothing that is closed to the proxy: the world holds the rest of it already.
#[test]
fn a_wide_literal_opens_nothing_of_the_cluster() {
    let text = policy();
    for range in ["0.0.0.0/0", "10.0.0.0/8", "[::/0]"] {
        let wide = text.replace("\nallow:\n", &format!("\nallow:\n  - \"tcp://{range}:443\"\n"));
        assert_ne!(text, wide);
        assert!(objects(&text) == objects(&wide), "{range} opens something");
    }
}

/// Every edge may be written from either end.
#[test]
fn called_by_is_calls_from_the_other_end() {
    let text = policy();
    let other = text
        .replace("    calls: [poi]\n", "")
        .replace("ports: [8081, 8080]", "ports: [8081, 8080], called_by: [trips]");
    assert_eq!(all(&text), all(&other));
}

/// What cannot be generated says what to write; each case is one change of the policy and a piece of the message.
#[test]
fn what_cannot_be_generated_is_said() {
    said_of(&[
        (
            "  engine: cilium\n",
            "",
            "NetworkPolicies need to know what enforces them",
        ),
        ("services: [10.0.0.0/16]", "services: []", "`services`"),
        (
            "api_server_addresses: [20.50.1.2/32]\n",
            "\n",
            "`cluster.api_server_addresses`",
        ),
        (
            ", ports: [8081, 8080]",
            "",
            "`poi` does not say on which ports it is called",
        ),
        ("{cidr: 10.3.0.0/24}", "{cidr: 10.224.0.0/24}", "a network of nodes"),
        ("{cidr: 10.3.0.0/24}", "{cidr: 10.0.0.0/8}", "a network of nodes"),
        ("called_by: [ingress", "called_by: [nodes", "`nodes` has no pods"),
        ("10.1.2.4:1433", "10.244.2.4:1433", "inside the cluster"),
        ("10.1.2.4:1433", "20.50.1.2:443", "is the API server"),
        ("10.1.2.4:1433", "10.224.2.4:1433", "in the network of the nodes"),
        (
            "pods: {app: hooks}",
            "pods: {tier: back}",
            "a pod can be both `hooks` and `poi`",
        ),
        (
            "namespace: geo, pods: {app: poi}",
            "namespace: sluicegate, pods: {app: poi}",
            "namespace of the proxy",
        ),
        (
            "pods: {app: poi},",
            "pods: {app: poi}, locked: false,",
            "would lock the namespace `geo`",
        ),
        ("    pods: {app: trips}\n", "", "`namespace` without `pods`"),
        (
            "  owners: [platform-admins, \"system:serviceaccount:flux-system:kustomize-controller\"]\n",
            "",
            "nobody could change",
        ),
        (
            "owners: [platform-admins",
            "owners: [\"system:authenticated\"",
            "`system:authenticated` is everybody",
        ),
        (
            "serviceaccount:flux-system:",
            "serviceaccount:api:",
            "lives in the locked namespace `api`",
        ),
        (
            "owners: [platform-admins",
            "owners: [\"system:serviceaccounts:geo\"",
            "lives in the locked namespace `geo`",
        ),
        (
            "[kube-system, gatekeeper-system]",
            "[gatekeeper-system]",
            "`kube-system` is not among",
        ),
        (
            "[kube-system, gatekeeper-system]",
            "[kube-system, api]",
            "would lock `api`, a namespace of the system",
        ),
        (
            "[kube-system, gatekeeper-system]",
            "[kube-system, sluicegate]",
            "`sluicegate` is the proxy's own",
        ),
        (
            "kubernetes: \"1.36\"",
            "kubernetes: \"1.29\"",
            "Kubernetes 1.29 has no ValidatingAdmissionPolicy",
        ),
        ("limits: {cpu: 500m", "limits: {pods: 5", "no limit for `pods`"),
        ("  api: {quota", "  apo: {quota", "`apo` is not locked"),
    ]);
}

/// Nor what would cut the cluster off, open what is not meant, or leave one of two objects out.
#[test]
fn what_would_do_harm_is_said() {
    said_of(&[
        ("10.1.2.4:1433", "10.1.2.4:53", "`10.1.2.4:53` is a DNS server"),
        ("10.1.2.4:1433", "10.1.0.4:3128", "is the proxy of the nodes"),
        ("port: 3201", "port: 443", "no privileges"),
        ("port: 3201", "port: 8080", "a listener that workloads share"),
        ("port: 3201", "port: 9091", "for probes and monitoring"),
        (
            "namespace: geo, pods: {app: hooks}",
            "namespace: kube-system, pods: {app: hooks}",
            "would lock `kube-system`",
        ),
        (
            "namespace: ingress-nginx, pods: {app.kubernetes.io/name: ingress-nginx}",
            "namespace: sluicegate, pods: {app: x}",
            "namespace of the proxy",
        ),
        (
            "workloads:\n",
            "workloads:\n  addresses: {namespace: x, pods: {app: y}, calls: [trips]}\n",
            "would be the NetworkPolicy `sluicegate-trips-from-addresses` of `api`",
        ),
        (
            "workloads:\n",
            "workloads:\n  trips-to-poi: {namespace: api, pods: {app: a}, calls: [hooks]}\n  \
             poi-to-hooks: {namespace: geo, pods: {app: b}, ports: [1], called_by: [trips]}\n",
            "would be the NetworkPolicy `sluicegate-trips-to-poi-to-hooks` of `api`",
        ),
    ]);
}

fn said_of(cases: &[(&str, &str, &str)]) {
    for (from, to, expected) in cases {
        let text = policy().replace(from, to);
        assert_ne!(text, policy(), "{from} is not in the policy");
        let said = problems(&text);
        assert!(said.contains(expected), "{to}: {said}");
        assert!(said.contains("help"), "{to} carries no advice: {said}");
    }
}

#[test]
fn the_policies_that_give_variables_need_kubernetes_1_36() {
    let count = |text: &str| {
        let kind = "MutatingAdmissionPolicy";
        objects(text)
            .iter()
            .filter(|object| object.value()["kind"] == kind)
            .count()
    };
    assert_eq!(count(&policy()), 3);
    assert_eq!(count(&policy().replace("\"1.36\"", "\"1.35.9\"")), 0);
    assert_eq!(count(&policy().replace("  kubernetes: \"1.36\"\n", "")), 0);
}

/// The variables follow the proxy's own settings, and what no listener serves is not promised.
#[test]
fn variables_name_a_listener_that_is_there() {
    let urls = |explicit| {
        let (files, said) = run_beside(Some(What::WorkloadEnv), &policy(), explicit);
        let files = files.ok_or(said)?;
        let objects = files.iter().flat_map(|file| &file.objects);
        let urls = objects.filter_map(|object| object.value()["data"]["HTTPS_PROXY"].as_str());
        let ends = urls.map(|url| url.replace("sluicegate.sluicegate.svc.cluster.local", ""));
        Ok::<_, String>(ends.collect::<Vec<_>>())
    };
    let plain = Some(ExplicitPort { port: 3128, tls: false });
    assert_eq!(urls(plain).unwrap(), ["http://:3128", "http://:3128", "http://:3201"]);
    let over_tls = Some(ExplicitPort { port: 4128, tls: true });
    assert_eq!(
        urls(over_tls).unwrap(),
        ["https://:4128", "https://:4128", "https://:3201"]
    );
    let said = urls(None).unwrap_err();
    assert!(
        said.contains("no listener is there for the proxy variables of `poi`"),
        "{said}"
    );
    assert!(!said.contains("`trips`"), "{said}");
}

/// The proxy of nodes is no object of a cluster, so no part of everything.
#[test]
fn nodes_use_a_proxy_outside_the_cluster() {
    let (files, said) = run(Some(What::AksHttpProxy), &policy());
    let file = &files.unwrap()[0];
    assert_eq!(file.path, "aks-http-proxy.json");
    assert!(!said.contains("warning"), "{said}");
    assert_eq!(
        file.text().unwrap(),
        "{\n  \"httpProxy\": \"http://10.1.0.4:3128\",\n  \"httpsProxy\": \"http://10.1.0.4:3128\",\n  \"noProxy\": [\n    \
         \"svc\",\n    \"cluster.local\",\n    \"svc.cluster.local\",\n    \"10.1.0.4\"\n  ]\n}\n"
    );
    for (address, expected) in [
        (
            "10.244.0.4:3128",
            "error: `10.244.0.4` lies in `10.244.0.0/16`, the cluster's pods",
        ),
        (
            "[::ffff:10.0.0.4]:3128",
            "error: `10.0.0.4` lies in `10.0.0.0/16`, the cluster's Services",
        ),
        (
            "10.224.0.9:3128",
            "warning: `10.224.0.9` lies in `10.224.0.0/16`, the network of the nodes",
        ),
        ("127.0.0.1:3128", "error: `address` cannot be"),
        ("169.254.169.254:80", "error: `address` cannot be"),
        ("10.1.0.4", "error: `address` cannot be"),
        ("proxy.example.com:3128", "error: `address` cannot be"),
    ] {
        let (files, said) = run(Some(What::AksHttpProxy), &policy().replace("10.1.0.4:3128", address));
        assert!(said.contains(expected) && said.contains("help"), "{address}: {said}");
        assert_eq!(files.is_none(), said.starts_with("error"), "{address}");
    }
    for without in ["  proxy: {address: \"10.1.0.4:3128\"}\n", "pods: [10.244.0.0/16], "] {
        let (files, said) = run(Some(What::AksHttpProxy), &policy().replace(without, ""));
        assert!(files.is_none(), "{without}: {said}");
    }
}

/// What is there before and no longer after, where nothing else changes; but what is opened or closed also stands in
/// `NO_PROXY`.
fn removed(before: &str, after: &str) -> Vec<String> {
    let (mut lost, gained) = changes(before, after);
    assert!(gained.iter().all(|name| name.contains("sluicegate-env-")), "{gained:?}");
    lost.retain(|name| !gained.contains(name));
    lost
}

/// What says something else, where nothing comes and nothing goes.
fn altered(before: &str, after: &str) -> Vec<String> {
    let (lost, gained) = changes(before, after);
    assert_eq!(lost, gained);
    lost
}

fn changes(before: &str, after: &str) -> (Vec<String>, Vec<String>) {
    assert_ne!(before, after);
    let (before, after) = (objects(before), objects(after));
    let gained = after.iter().filter(|object| !before.contains(object));
    let lost = before.iter().filter(|object| !after.contains(object));
    let name = |object: &Object| {
        let metadata = &object.value()["metadata"];
        let name = metadata["name"].as_str().unwrap();
        metadata["namespace"]
            .as_str()
            .map_or_else(|| name.to_owned(), |namespace| format!("{namespace}/{name}"))
    };
    (lost.map(name).collect(), gained.map(name).collect())
}

fn objects(text: &str) -> Vec<Object> {
    let files = generated(text).unwrap_or_else(|problems| panic!("{problems}"));
    files.into_iter().flat_map(|file| file.objects).collect()
}

fn all(text: &str) -> Vec<String> {
    let files = generated(text).unwrap_or_else(|problems| panic!("{problems}"));
    files.iter().map(|file| file.text().unwrap()).collect()
}

fn problems(text: &str) -> String {
    match run(None, text) {
        (_, said) if !said.is_empty() => said,
        _ => panic!("generated without a word"),
    }
}

/// The files, or the errors.
pub(super) fn generated(text: &str) -> Result<Vec<File>, String> {
    let (files, said) = run(None, text);
    files.ok_or(said)
}

/// What comes out where nothing is wrong, and whatever is said, warnings too.
fn run(what: Option<What>, text: &str) -> (Option<Vec<File>>, String) {
    run_beside(what, text, Some(ExplicitPort { port: 3128, tls: false }))
}

/// The same, beside a proxy whose settings have this listener for clients that know of it, or none.
fn run_beside(what: Option<What>, text: &str, explicit: Option<ExplicitPort>) -> (Option<Vec<File>>, String) {
    let texts = [SourceText {
        name: "policy.yaml".into(),
        text: text.into(),
    }];
    let now: Timestamp = "2026-11-21T00:00:00Z".parse().unwrap();
    let loaded = match load(&texts, now, Generation(1), None) {
        Ok(loaded) => loaded,
        Err(problems) => return (None, render(&problems, &texts, false)),
    };
    let mut problems = Problems::new(&texts);
    let document = Document::read_noting(&mut problems);
    let proxy = ProxyPorts {
        shared: vec![3128, 8080, 8443],
        explicit,
        health: 9091,
        dns: Vec::new(),
    };
    let inputs = Inputs {
        document: &document,
        policy: &loaded.policy,
        proxy: &proxy,
    };
    let files = generate(what, inputs, &mut problems);
    let failed = problems.has_errors();
    let said = render(&problems.into_sorted(), &texts, false);
    ((!failed).then_some(files), said)
}

fn policy() -> String {
    fs::read_to_string(golden().join("policy.yaml")).unwrap()
}

fn golden() -> PathBuf {
    root().join("tests/golden/kubernetes")
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Everything that a policy generates, and nothing else, stands in a directory.
fn compare_all(directory: &Path, text: &str) -> String {
    let mut differences = String::new();
    let mut paths = BTreeSet::new();
    for file in generated(text).unwrap_or_else(|problems| panic!("{problems}")) {
        differences += &compare(&directory.join(&file.path), &file.text().unwrap());
        paths.insert(directory.join(&file.path));
    }
    for stale in walk(directory).iter().filter(|path| !paths.contains(*path)) {
        let _ = writeln!(differences, "nothing generates {}", stale.display());
    }
    differences
}

fn compare(path: &Path, text: &str) -> String {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let expected = fs::read_to_string(path).unwrap_or_default();
    if expected == text {
        return String::new();
    }
    let changed = text.lines().zip(expected.lines()).find(|(new, old)| new != old);
    format!("{} differs, first at {changed:?}\n", path.display())
}

fn walk(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(walk(&path));
        } else {
            found.push(path);
        }
    }
    found
}
