//! Export against the model: what the template makes Azure do is what the gate does, for policies that nobody wrote.
//! Must not excuse anything but what the notes of the report say.
//! Called by `tests/run`.

use std::fs;

use serde_json::Value;

use super::Desk;
use super::agreement::{compiled, ours};
use super::dice::Dice;
use super::model::{Firewall, Flow, Kind, Protocol};
use super::requests::Around;

#[test]
fn what_is_exported_decides_as_the_policy_does() {
    let (mut allowed, mut denied, mut excused) = (0, 0, 0);
    for seed in 0..POLICIES {
        let mut dice = Dice::new(1000 + seed);
        let text = policy(&mut dice);
        let desk = Desk::new();
        let file = desk.file("policy.yaml", &text);
        let words = [
            "-o",
            "rules.json",
            "--parent-output",
            "parent.json",
            "--accept",
            "network-fqdn",
        ];
        let ended = desk.export(&[file], &words);
        assert_eq!(ended.code, 0, "{text}\n{}", ended.err);
        let [rules, parents] = ["rules.json", "parent.json"].map(|name| {
            let text = fs::read_to_string(desk.path(name)).unwrap_or_else(|_| "[]".to_owned());
            serde_json::from_str::<Value>(&text).unwrap()
        });
        let firewall = Firewall::inherited(std::slice::from_ref(&rules), std::slice::from_ref(&parents));
        let policy = compiled(&[&text]);
        let around = Around::of(&[rules.clone(), parents.clone()]);
        for _ in 0..REQUESTS / POLICIES {
            let flow = around.flow(&mut dice);
            let theirs = firewall.answer(&flow);
            let decision = ours(&policy, &flow);
            let kind = theirs.by.as_ref().map(|by| by.kind);
            match (decision.is_allowed(), theirs.allowed) {
                (true, true) => allowed += 1,
                (false, false) => denied += 1,
                // `address-rule`: in Azure also for names that lead there.
                (false, true) if kind == Some(Kind::Network) && flow.name.is_some() && flow.address.is_some() => {
                    excused += 1;
                }
                // `sql-only`: Azure lets nothing but SQL pass.
                (true, false)
                    if firewall
                        .answer(&Flow {
                            protocol: Protocol::Mssql,
                            ..flow.clone()
                        })
                        .allowed =>
                {
                    excused += 1;
                }
                _ => panic!(
                    "policy {seed}: {flow:?}\n  Azure: {theirs:?}\n  we: {decision:?}\n{text}\n{rules:#}\n{parents:#}"
                ),
            }
        }
    }
    assert!(
        allowed > 3_000 && denied > 3_000 && excused < 3_000,
        "{allowed} {denied} {excused}"
    );
}

/// A policy with everything that Azure can say.
fn policy(dice: &mut Dice) -> String {
    let mut text =
        "workloads:\n  nodes: {cidrs: [10.224.0.0/16]}\n  apps: {cidrs: [10.225.0.0/16, 10.226.1.0/24]}\n".to_owned();
    if dice.once_in(2) {
        let parent = dice.once_in(2);
        text += &format!(
            "groups:\n  base: {{priority: 400, parent: {parent}}}\n  child: {{priority: 300}}\ncollections:\n"
        );
        for number in 0..=dice.below(3) {
            let group = dice.pick(&["base", "child"]);
            let (kind, action) = (dice.pick(&["application", "network"]), dice.pick(&["allow", "deny"]));
            let priority = 200 + number * 10;
            text += &format!(
                "  - name: rc-{number}\n    group: {group}\n    type: {kind}\n    priority: {priority}\n    action: {action}\n    \
                 rules:\n"
            );
            let pool = match (*kind, *action) {
                ("application", "allow") => &NAMES[..],
                ("application", _) => &CLOSED_NAMES,
                (_, "allow") => &ADDRESSES,
                _ => &CLOSED_ADDRESSES,
            };
            for _ in 0..=dice.below(2) {
                text += &format!("      - {}\n", rule(pool, dice));
            }
        }
    }
    if dice.once_in(2) {
        let closed = [&CLOSED_NAMES[..], &CLOSED_ADDRESSES].concat();
        text += "deny:\n";
        for _ in 0..=dice.below(2) {
            text += &format!("  - {}\n", rule(&closed, dice));
        }
    }
    let open = [
        &NAMES[..],
        &ADDRESSES,
        &["tcp://smtp.contoso.com:587", "tcp://sql.contoso.com:1433"],
    ]
    .concat();
    // Closed by a collection for applications, and open as plain TCP: that is `order`, and not said here.
    let ordered = text.contains("type: application") && text.contains("action: deny");
    let open: Vec<_> = open.into_iter().filter(|to| !ordered || !to.contains("smtp")).collect();
    text += "allow:\n";
    for _ in 0..=dice.below(4) {
        text += &format!("  - {}\n", rule(&open, dice));
    }
    text
}

fn rule(pool: &[&str], dice: &mut Dice) -> String {
    let to: Vec<_> = dice.some(pool, 4).iter().map(|to| format!("\"{to}\"")).collect();
    let from = match dice.below(4) {
        0 => "from: [nodes], ",
        1 => "from: [apps, nodes], ",
        2 => "from: [10.226.1.0/24], ",
        _ => "",
    };
    format!("{{{from}to: [{}]}}", to.join(", "))
}

const POLICIES: u64 = 40;
const REQUESTS: u64 = 40_000;
const NAMES: [&str; 8] = [
    "contoso.com",
    "*.contoso.com",
    "api.contoso.com",
    "http://api.contoso.com",
    "tls://api.contoso.com:8443",
    "*.api.contoso.com",
    "http://www.fabrikam.example.net:8080",
    "orders.blob.core.windows.net",
];
const CLOSED_NAMES: [&str; 5] = [
    "api.contoso.com",
    "*.api.contoso.com:443",
    "www.fabrikam.example.net:8080",
    "smtp.contoso.com",
    "*.windows.net",
];
const ADDRESSES: [&str; 4] = [
    "tcp://20.50.0.0/16:443",
    "tcp://20.50.1.64/26:8000-8010",
    "tcp://20.60.0.10:587",
    "tcp://10.60.0.0/24:1-65535",
];
const CLOSED_ADDRESSES: [&str; 3] = ["20.50.1.0/24", "20.60.0.10:587", "10.60.0.0/25:443"];
