//! Rule files that nobody wrote: groups, inheritance, both types and actions, from a small world in which they meet.
//! Must not avoid what is hard, and must not judge anything.
//! Called by the tests of import and export.

use serde_json::{Value, json};

use super::dice::Dice;

/// A template with the groups of a policy, of its parent in some, and IP groups.
pub fn template(dice: &mut Dice) -> Value {
    let inherits = dice.once_in(2);
    let mut resources = vec![
        ip_group("ipg-nodes", &["10.224.0.0/16"]),
        ip_group("ipg-apps", &["10.225.0.0/16"]),
    ];
    let mut policy = json!({
        "type": "Microsoft.Network/firewallPolicies", "apiVersion": "2024-05-01", "name": CHILD, "location": "westeurope",
        "properties": {"sku": {"tier": "Standard"}},
    });
    if inherits {
        policy["properties"]["basePolicy"] = json!({"id": format!("{PROVIDER}/firewallPolicies/{PARENT}")});
    }
    resources.push(policy);
    for (owner, most) in [(PARENT, 2), (CHILD, 3)] {
        if owner == PARENT && !inherits {
            continue;
        }
        for number in 0..=dice.below(most) {
            resources.push(group(owner, number, dice));
        }
    }
    json!({
        "$schema": "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#",
        "contentVersion": "1.0.0.0",
        "resources": resources,
    })
}

/// The parent's groups have numbers behind those of the child on purpose: inheritance beats them.
fn group(owner: &str, number: usize, dice: &mut Dice) -> Value {
    let base = if owner == PARENT { 500 } else { 200 };
    let priority = base + 50 * number + dice.below(40);
    let mut free: Vec<usize> = (100..120).map(|step| step * 10).collect();
    let mut collections = Vec::new();
    for place in 0..=dice.below(3) {
        let priority = free.remove(dice.below(free.len()));
        let kind = *dice.pick(&["Application", "Application", "Network"]);
        let action = *dice.pick(&["Allow", "Allow", "Allow", "Deny"]);
        let rules: Vec<_> = (0..=dice.below(3))
            .map(|rule| match kind {
                "Network" => network(rule, dice),
                _ => application(rule, action, dice),
            })
            .collect();
        collections.push(json!({
            "ruleCollectionType": "FirewallPolicyFilterRuleCollection",
            "name": format!("{kind}-{action}-{place}"),
            "priority": priority,
            "action": {"type": action},
            "rules": rules,
        }));
    }
    json!({
        "type": "Microsoft.Network/firewallPolicies/ruleCollectionGroups", "apiVersion": "2024-05-01",
        "name": format!("{owner}/group-{number}-of-{owner}"),
        "properties": {"priority": priority, "ruleCollections": collections},
    })
}

fn application(number: usize, action: &str, dice: &mut Dice) -> Value {
    let mut protocols: Vec<Value> = Vec::new();
    for _ in 0..=dice.below(2) {
        let (protocol, port) = *dice.pick(&PROTOCOLS);
        let entry = json!({"protocolType": protocol, "port": port});
        let fits = action != "Deny" || protocol != "Mssql";
        if fits && !protocols.contains(&entry) {
            protocols.push(entry);
        }
    }
    if protocols.is_empty() {
        protocols.push(json!({"protocolType": "Https", "port": 443}));
    }
    let mut rule = json!({
        "ruleType": "ApplicationRule",
        "name": format!("rule-{number}"),
        "protocols": protocols,
        "targetFqdns": dice.some(&NAMES, 4),
    });
    sources(&mut rule, dice);
    rule
}

fn network(number: usize, dice: &mut Dice) -> Value {
    let mut rule = json!({
        "ruleType": "NetworkRule",
        "name": format!("rule-{number}"),
        "ipProtocols": ["TCP"],
        "destinationPorts": dice.some(&PORTS, 2),
    });
    if dice.once_in(4) {
        rule["destinationFqdns"] = json!(dice.some(&EXACT, 2));
    } else {
        rule["destinationAddresses"] = json!(dice.some(&ADDRESSES, 3));
    }
    sources(&mut rule, dice);
    rule
}

fn sources(rule: &mut Value, dice: &mut Dice) {
    let groups = ["ipg-nodes", "ipg-apps"].map(|name| format!("{PROVIDER}/ipGroups/{name}"));
    match dice.below(4) {
        0 => rule["sourceAddresses"] = json!(["*"]),
        1 => rule["sourceAddresses"] = json!(dice.some(&["10.226.1.0/24", "10.224.0.0/16"], 2)),
        2 => rule["sourceIpGroups"] = json!(dice.some(&groups, 2)),
        _ => {
            rule["sourceIpGroups"] = json!(dice.some(&groups, 1));
            rule["sourceAddresses"] = json!(["10.226.1.0/24"]);
        }
    }
}

fn ip_group(name: &str, addresses: &[&str]) -> Value {
    json!({
        "type": "Microsoft.Network/ipGroups", "apiVersion": "2024-05-01", "name": name, "location": "westeurope",
        "id": format!("{PROVIDER}/ipGroups/{name}"),
        "properties": {"ipAddresses": addresses},
    })
}

/// What `--sources` says of all that these files name.
pub const SOURCES: &str = "10.224.0.0/16=nodes,10.225.0.0/16=apps,10.226.1.0/24=jobs";
const PARENT: &str = "base-policy";
const CHILD: &str = "child-policy";
const PROVIDER: &str =
    "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/hub/providers/Microsoft.Network";
const PROTOCOLS: [(&str, u16); 7] = [
    ("Https", 443),
    ("Https", 443),
    ("Http", 80),
    ("Https", 8443),
    ("Http", 8080),
    ("Https", 5671),
    ("Mssql", 1433),
];
const EXACT: [&str; 3] = ["smtp.contoso.com", "api.contoso.com", "mail.fabrikam.example"];
const NAMES: [&str; 12] = [
    "contoso.com",
    "*.contoso.com",
    "api.contoso.com",
    "*.api.contoso.com",
    "deep.api.contoso.com",
    "smtp.contoso.com",
    "orders.blob.core.windows.net",
    "*.fabrikam.example.net",
    "www.fabrikam.example.net",
    "*northwind.example.org",
    "a.b.c.northwind.example.org",
    "northwind.example.org",
];
const PORTS: [&str; 6] = ["443", "587", "8000-8010", "1433", "80", "*"];
const ADDRESSES: [&str; 6] = [
    "20.50.0.0/16",
    "20.50.1.0/24",
    "20.60.0.10",
    "20.70.0.5-20.70.0.20",
    "10.60.0.0/24",
    "20.50.1.64/26",
];
