//! The model against what the documentation says in so many words: the worked example, the table of wildcards, ports.
//! Must not ask the program anything.
//! Called by the test run.

use serde_json::{Value, json};

use super::{Firewall, Flow, Kind, Protocol, matches_name};

/// "Rule processing", the worked example of inheritance.
#[test]
fn the_worked_example() {
    let firewall = worked_example();
    let expected = [
        "DNATRC1",
        "DNATRC3",
        "ChDNATRC3",
        "NetworkRC1",
        "NetworkRC2",
        "ChNetRC1",
        "ChNetRC2",
        "AppRC2",
        "ChAppRC1",
        "ChAppRC2",
    ];
    assert_eq!(firewall.order(), expected);
    // Every collection matches the flow; those before the one that decides are of another type.
    let mut flow = flow("https", "a.example.com", 443);
    let by = |flow: &Flow| firewall.answer(flow).by.map(|by| (by.kind, by.group, by.collection));
    let network = (Kind::Network, "BaseRCG1".to_owned(), "NetworkRC1".to_owned());
    assert_eq!(by(&flow), Some(network));
    flow.port = 8443;
    let application = (Kind::Application, "BaseRCG2".to_owned(), "AppRC2".to_owned());
    assert_eq!(by(&flow), Some(application));
    flow.protocol = Protocol::Tcp;
    assert_eq!(by(&flow), None);
}

#[test]
fn the_table_of_wildcards() {
    for (pattern, matches, others) in [
        (
            "www.contoso.com",
            &["www.contoso.com", "WWW.Contoso.Com."][..],
            &["contoso.com", "a.www.contoso.com"][..],
        ),
        (
            "*.contoso.com",
            &["any.contoso.com", "a.b.contoso.com"],
            &["contoso.com", "anycontoso.com"],
        ),
        (
            "*contoso.com",
            &["contoso.com", "example.anycontoso.com", "th3re4lcontoso.com"],
            &["contoso.com.evil.com"],
        ),
        ("*", &["contoso.com", "a"], &[]),
    ] {
        for name in matches {
            assert!(matches_name(pattern, name), "{pattern} {name}");
        }
        for name in others {
            assert!(!matches_name(pattern, name), "{pattern} {name}");
        }
    }
}

#[test]
fn sources_ports_and_protocols() {
    let rule = json!({
        "ruleType": "ApplicationRule", "name": "web",
        "sourceIpGroups": ["[resourceId('Microsoft.Network/ipGroups', 'nodes')]"],
        "sourceAddresses": ["10.9.0.1-10.9.0.3"],
        "protocols": [{"protocolType": "https", "port": 443}, {"protocolType": "Mssql", "port": "1433"}],
        "targetFqdns": ["*.example.com"],
    });
    let group = json!({
        "type": "Microsoft.Network/firewallPolicies/ruleCollectionGroups", "name": "policy/group",
        "properties": {"priority": 200, "ruleCollections": [collection("c", 100, &rule)]},
    });
    let nodes = json!({
        "type": "Microsoft.Network/ipGroups", "name": "Nodes",
        "properties": {"ipAddresses": ["10.224.0.0/16", "10.1.1.1"]},
    });
    let firewall = Firewall::read(&[json!({"resources": [group]}), json!([nodes])]);
    let allowed = |flow: &Flow| firewall.answer(flow).allowed;
    for (source, expected) in [
        ("10.224.3.4", true),
        ("10.1.1.1", true),
        ("10.9.0.2", true),
        ("10.9.0.4", false),
        ("10.225.0.0", false),
        ("10.1.1.2", false),
    ] {
        let flow = Flow {
            source: source.parse().unwrap(),
            ..flow("https", "a.example.com", 443)
        };
        assert_eq!(allowed(&flow), expected, "{source}");
    }
    for (protocol, port, expected) in [
        ("https", 443, true),
        ("https", 80, false),
        ("http", 443, false),
        ("mssql", 1433, true),
        ("https", 1433, false),
        ("tcp", 443, false),
    ] {
        assert_eq!(
            allowed(&flow(protocol, "a.example.com", port)),
            expected,
            "{protocol} {port}"
        );
    }
}

#[test]
fn network_rules_look_at_addresses() {
    let rule = json!({
        "name": "out", "protocols": ["TCP", "UDP"], "sourceAddresses": ["*"], "destinationPorts": ["587", "8000-8010"],
        "destinationAddresses": ["203.0.113.0/24"], "destinationFqdns": ["Smtp.example.com"],
    });
    let udp = json!({
        "name": "time", "protocols": ["UDP"], "sourceAddresses": ["*"], "destinationPorts": ["*"],
        "destinationAddresses": ["*"],
    });
    let classic = json!({"type": "Microsoft.Network/azureFirewalls", "name": "fw", "properties": {
        "networkRuleCollections": [
            {"name": "net", "properties": {"priority": 200, "action": {"type": "allow"}, "rules": [udp, rule]}},
        ],
    }});
    let firewall = Firewall::read(&[classic]);
    for (name, address, port, expected) in [
        (None, Some("203.0.113.9"), 8005, true),
        (Some("a.example.com"), Some("203.0.113.9"), 587, true),
        (Some("a.example.com"), Some("203.0.114.9"), 587, false),
        (Some("smtp.example.com"), None, 587, true),
        (Some("smtp.example.com"), None, 588, false),
        (Some("x.smtp.example.com"), None, 587, false),
    ] {
        let flow = Flow {
            name: name.map(str::to_owned),
            address: address.map(|address| address.parse().unwrap()),
            ..flow("tcp", "", port)
        };
        assert_eq!(firewall.answer(&flow).allowed, expected, "{flow:?}");
    }
}

#[test]
#[should_panic(expected = "equal priorities")]
fn equal_priorities_are_refused() {
    let collections = [collection("a", 100, &https("a")), collection("b", 100, &https("b"))];
    let properties = json!({"priority": 200, "ruleCollections": collections});
    Firewall::read(&[group("p/g", &properties)]);
}

fn worked_example() -> Firewall {
    let group_of = |name: &str, priority: u32, collections: &[(&str, u32)]| {
        let collections: Vec<_> = collections
            .iter()
            .map(|(name, priority)| {
                let rule = match name {
                    name if name.contains("DNAT") => json!({"ruleType": "NatRule", "name": "nat"}),
                    name if name.contains("Net") => json!({
                        "ruleType": "NetworkRule", "name": "net", "ipProtocols": ["Any"], "sourceAddresses": ["*"],
                        "destinationAddresses": ["*"], "destinationPorts": ["443"],
                    }),
                    _ => https("app"),
                };
                collection(name, *priority, &rule)
            })
            .collect();
        group(name, &json!({"priority": priority, "ruleCollections": collections}))
    };
    let parent = json!({"id": "/subscriptions/s/resourceGroups/r/providers/Microsoft.Network/firewallPolicies/base"});
    let policy = json!({
        "type": "Microsoft.Network/firewallPolicies", "name": "child", "properties": {"basePolicy": parent},
    });
    let resources = [
        policy,
        group_of(
            "child/ChildRCG2",
            650,
            &[("ChNetRC2", 1100), ("ChAppRC2", 2000), ("ChDNATRC3", 3000)],
        ),
        group_of("child/ChildRCG1", 300, &[("ChNetRC1", 700), ("ChAppRC1", 900)]),
        group_of("base/BaseRCG2", 300, &[("AppRC2", 1200), ("NetworkRC2", 1300)]),
        group_of(
            "base/BaseRCG1",
            200,
            &[("DNATRC1", 600), ("DNATRC3", 610), ("NetworkRC1", 800)],
        ),
    ];
    Firewall::read(&[json!({"resources": resources})])
}

fn group(name: &str, properties: &Value) -> Value {
    json!({
        "type": "Microsoft.Network/firewallPolicies/ruleCollectionGroups", "name": name, "properties": properties,
    })
}

fn collection(name: &str, priority: u32, rule: &Value) -> Value {
    let nat = rule["ruleType"] == "NatRule";
    let kind = if nat {
        "FirewallPolicyNatRuleCollection"
    } else {
        "FirewallPolicyFilterRuleCollection"
    };
    let action = if nat { "DNAT" } else { "Allow" };
    json!({
        "ruleCollectionType": kind, "name": name, "priority": priority, "action": {"type": action}, "rules": [rule],
    })
}

fn https(name: &str) -> Value {
    let protocols: Vec<_> = [443, 8443]
        .map(|port| json!({"protocolType": "Https", "port": port}))
        .into();
    json!({
        "ruleType": "ApplicationRule", "name": name, "sourceAddresses": ["*"], "protocols": protocols,
        "targetFqdns": ["*.example.com"],
    })
}

fn flow(protocol: &str, name: &str, port: u16) -> Flow {
    Flow {
        source: [10, 224, 0, 4].into(),
        protocol: match protocol {
            "http" => Protocol::Http,
            "https" => Protocol::Https,
            "mssql" => Protocol::Mssql,
            _ => Protocol::Tcp,
        },
        name: Some(name.to_owned()),
        address: None,
        port,
    }
}
