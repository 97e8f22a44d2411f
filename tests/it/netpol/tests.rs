//! The evaluator against what the documentation says, case by case.
//! Must not use generated policies: these are written by hand, as the documentation's examples are.
//! Called by the test runner; needs no root.

use super::*;

/// `a` and `b` in `one`, `c` in `two`, a stranger outside; `a` is on a node of 10.224.0.4.
fn world(engine: Engine) -> World {
    World {
        engine,
        pods: vec![
            Pod::new("a", "one", &[("app", "a"), ("tier", "front")], "10.244.0.1"),
            Pod::new("b", "one", &[("app", "b")], "10.244.0.2"),
            Pod::new("c", "two", &[("app", "b")], "10.244.0.3"),
        ],
        nodes: vec![NODE.parse().unwrap()],
        api_server: vec![API.parse().unwrap()],
    }
}

/// Which of the six can be reached by `a` on TCP 80.
fn reached(spec: &str, engine: Engine) -> Vec<&'static str> {
    let world = world(engine);
    let kind = if spec.contains("endpointSelector") {
        "{apiVersion: cilium.io/v2, kind: CiliumNetworkPolicy"
    } else {
        "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy"
    };
    let policy = format!("{kind}, metadata: {{name: p, namespace: one}}, spec: {spec}}}");
    let ways = Ways::of(&[policy], &world);
    let from = "10.244.0.1".parse().unwrap();
    let all = ["10.244.0.2", "10.244.0.3", NODE, API, WORLD, "2606:4700::1111"];
    all.into_iter()
        .filter(|to| ways.allow(from, to.parse().unwrap(), Protocol::Tcp, 80))
        .collect()
}

const NODE: &str = "10.224.0.4";
const API: &str = "20.50.1.2";
const WORLD: &str = "1.1.1.1";
const ALL: [&str; 6] = ["10.244.0.2", "10.244.0.3", NODE, API, WORLD, "2606:4700::1111"];

#[test]
fn no_policy_closes_nothing() {
    let elsewhere = "{podSelector: {matchLabels: {app: other}}, policyTypes: [Egress]}";
    assert_eq!(reached(elsewhere, Engine::Calico), ALL);
    // This one closes the way into `b`, and no way out.
    let inwards = "{podSelector: {}, policyTypes: [Ingress]}";
    assert_eq!(reached(inwards, Engine::Calico), ALL[1..]);
}

#[test]
fn selectors_select() {
    let both_in_one_peer = "{podSelector: {}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {matchLabels: \
                            {kubernetes.io/metadata.name: two}}, podSelector: {matchLabels: {app: b}}}]}]}";
    let two_peers = "{podSelector: {}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {matchLabels: \
                     {kubernetes.io/metadata.name: two}}}, {podSelector: {matchLabels: {app: b}}}]}]}";
    for (spec, expected) in [
        ("{podSelector: {}, policyTypes: [Egress]}", &[][..]),
        ("{podSelector: {}, policyTypes: [Egress], egress: [{}]}", &ALL),
        (
            "{podSelector: {}, policyTypes: [Egress], egress: [{to: [{podSelector: {}}]}]}",
            &["10.244.0.2"],
        ),
        (
            "{podSelector: {}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {}}]}]}",
            &["10.244.0.2", "10.244.0.3"],
        ),
        (both_in_one_peer, &["10.244.0.3"]),
        (two_peers, &["10.244.0.2", "10.244.0.3"]),
        (
            "{podSelector: {matchExpressions: [{key: tier, operator: Exists}]}, policyTypes: [Egress]}",
            &[],
        ),
        (
            "{podSelector: {matchExpressions: [{key: app, operator: NotIn, values: [a]}]}, policyTypes: [Egress]}",
            &ALL,
        ),
        (
            "{podSelector: {}, policyTypes: [Egress], egress: [{ports: [{port: 80}]}]}",
            &ALL,
        ),
        (
            "{podSelector: {}, policyTypes: [Egress], egress: [{ports: [{port: 80, protocol: UDP}]}]}",
            &[],
        ),
        (
            "{podSelector: {}, policyTypes: [Egress], egress: [{ports: [{port: 70, endPort: 90}]}]}",
            &ALL,
        ),
        (
            "{podSelector: {}, policyTypes: [Egress], egress: [{ports: [{port: 81, endPort: 90}]}]}",
            &[],
        ),
    ] {
        assert_eq!(reached(spec, Engine::Calico), expected, "{spec}");
    }
}

/// Cilium's ranges select neither pods nor nodes; Azure's engine does not look at IPv6.
#[test]
fn engines_read_ranges_differently() {
    let block =
        |block: &str| format!("{{podSelector: {{}}, policyTypes: [Egress], egress: [{{to: [{{ipBlock: {block}}}]}}]}}");
    for (spec, engine, expected) in [
        (block("{cidr: 0.0.0.0/0}"), Engine::Calico, &ALL[..5]),
        (block("{cidr: 0.0.0.0/0}"), Engine::Cilium, &[API, WORLD]),
        (block("{cidr: 0.0.0.0/0}"), Engine::AzureNpm, &ALL[..5]),
        (
            block("{cidr: 10.0.0.0/8, except: [10.244.0.0/16]}"),
            Engine::Calico,
            &[NODE],
        ),
        (
            block("{cidr: 10.0.0.0/8, except: [10.244.0.0/16]}"),
            Engine::Cilium,
            &[],
        ),
        (block("{cidr: \"::/0\"}"), Engine::Calico, &ALL[5..]),
    ] {
        assert_eq!(reached(&spec, engine), expected, "{spec} {engine:?}");
    }
}

#[test]
fn entities_are_what_ranges_never_select() {
    let to = |entity: &str| {
        format!(
            "{{endpointSelector: {{}}, egress: [{{toEntities: [{entity}], toPorts: [{{ports: [{{port: \"80\", protocol: TCP}}]}}]}}]}}"
        )
    };
    assert_eq!(reached(&to("host"), Engine::Cilium), [NODE]);
    assert_eq!(reached(&to("kube-apiserver"), Engine::Cilium), [API]);
}

/// Both ends must agree, and a node reaches its pods whatever they say.
#[test]
fn both_ends_are_asked() {
    let world = world(Engine::Calico);
    let deny = "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: p, namespace: two}, spec: \
                {podSelector: {}, policyTypes: [Ingress]}}";
    let ways = Ways::of(&[deny.to_owned()], &world);
    let [a, b, c, node] = ["10.244.0.1", "10.244.0.2", "10.244.0.3", NODE].map(|text| text.parse().unwrap());
    assert!(ways.allow(a, b, Protocol::Tcp, 80));
    assert!(!ways.allow(a, c, Protocol::Tcp, 80));
    assert!(ways.allow(c, a, Protocol::Tcp, 80));
    assert!(ways.allow(node, c, Protocol::Tcp, 80));
}

#[test]
fn the_rules_follow_the_ways() {
    let world = world(Engine::Cilium);
    let policy = "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: p, namespace: one}, spec: \
                  {podSelector: {matchLabels: {app: a}}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: \
                  0.0.0.0/0, except: [9.0.0.0/8]}}], ports: [{port: 443}]}]}}";
    let text = Ways::of(&[policy.to_owned()], &world).nft(|pod| format!("v-{pod}"));
    for line in [
        "meta nfproto ipv4 ip daddr != 9.0.0.0/8 ip daddr != 10.244.0.1/32 ip daddr != 10.244.0.2/32 ip daddr != \
         10.244.0.3/32 ip daddr != 10.224.0.4/32 tcp dport 443-443 return",
        "  counter drop",
        "  iifname \"v-a\" jump out_a",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    assert!(!text.contains("in_a") && !text.contains("out_b"), "{text}");
}
