//! Presets in the running proxy and on the command line: what a denial says, what the commands show, files of one's own.
//! Must not repeat the rows; a unit test compares them with the facts they are made from.
//! Called by `tests/run`.

use std::fs;

use serde_json::{Value, json};

use crate::support::client::Client;
use crate::support::folder::{Ended, Folder};
use crate::support::hello::Hello;
use crate::support::proxy::fetch;
use crate::support::setup::Setup;

const MONITOR: &str = "global.handler.control.monitor.azure.com";
const SHOP: &str = "about: the shop
for: workloads
source: https://wiki.example.test/shop
rows:
  - {id: web, clouds: [public], to: shop.example.test, level: required, purpose: the shop}
";

/// Whoever is refused learns that AKS needs the host; of other hosts nothing is said.
#[test]
fn a_denial_says_which_presets_need_the_host() {
    let policy = "cluster: {region: westeurope}\nallow: [a.test]\n";
    let proxy = Setup::new(policy)
        .listener(json!({"name": "tls", "mode": "tls", "bind": "127.0.0.1:0", "port": 443}))
        .start();
    let refused = |target: &str| {
        let (mut client, _) = Client::connect_request(proxy.address(), target);
        String::from_utf8(client.read_to_end().0).unwrap()
    };
    let page = refused(&format!("{MONITOR}:443"));
    assert!(page.contains("needed by aks/azure-monitor\n"), "{page}");
    let page = refused("uksouth.handler.control.monitor.azure.com:443");
    assert!(!page.contains("needed by"), "another region than the policy's: {page}");
    assert!(!refused("api.example.test:443").contains("needed by"));
    let page = fetch(proxy.address(), "http://security.ubuntu.com/").text();
    assert!(page.contains("needed by aks/node-os-updates\n"), "{page}");
    let mut client = Client::connect(proxy.at("tls"));
    client.send(Hello::sni(MONITOR).bytes());
    client.read_to_end();
    let records = proxy.stop().decisions;
    let needed: Vec<_> = records.iter().map(|record| record.0["needed_by"].clone()).collect();
    let monitor = json!(["aks/azure-monitor"]);
    assert_eq!(
        needed,
        [
            monitor.clone(),
            Value::Null,
            Value::Null,
            json!(["aks/node-os-updates"]),
            monitor
        ]
    );
}

#[test]
fn a_preset_of_ones_own_comes_into_force_when_it_changes() {
    let setup = Setup::new("allow: [{preset: team/shop}]\n").set("presets", json!("lists"));
    let folder = setup.folder.path().join("lists/team");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("shop.yaml"), SHOP).unwrap();
    let proxy = setup.start();
    let refused = |target: &str| {
        let (mut client, answer) = Client::connect_request(proxy.address(), target);
        client.read_to_end();
        answer.line().to_owned()
    };
    let denied = "HTTP/1.1 403 Denied by sluicegate (no_rule)";
    // Nobody answers questions for names here, so what is allowed fails later.
    assert_ne!(refused("shop.example.test:443"), denied);
    assert_eq!(refused("new.example.test:443"), denied);
    fs::write(folder.join("shop.yaml"), SHOP.replace("shop.example", "new.example")).unwrap();
    proxy.wait_generation(2);
    assert_eq!(refused("shop.example.test:443"), denied);
    assert_ne!(refused("new.example.test:443"), denied);
}

#[test]
fn lists_are_listed_and_expanded() {
    let folder = folder();
    let listed = folder.run(&["presets"]);
    assert_eq!(listed.code, 0, "{listed:?}");
    let mut lines = listed.out.lines();
    assert!(
        lines.next().is_some_and(|head| head.starts_with("NAME ")),
        "{}",
        listed.out
    );
    let lines: Vec<_> = lines.collect();
    for name in ["aks/core ", "aks/node-os-updates ", "aks/workload-identity "] {
        assert_eq!(lines.iter().filter(|line| line.starts_with(name)).count(), 1, "{name}");
    }
    let all: Value = serde_json::from_str(&folder.run(&["presets", "--output", "json"]).out).unwrap();
    assert_eq!(all.as_array().unwrap().len(), lines.len());
    let row_of_core = all
        .as_array()
        .unwrap()
        .iter()
        .find(|preset| preset["name"] == "aks/core");
    assert_eq!(row_of_core.unwrap()["rows"]["china"], 16);

    let shown = folder.run(&["presets", "show", "aks/core", "--region", "westeurope"]);
    assert_eq!(shown.code, 0);
    for part in [
        "mcr.microsoft.com  [mcr, required]",
        "`cluster.api_server`",
        "No proxy can carry these",
        "AzureCloud.westeurope",
        "mspnp/aks-baseline#457",
    ] {
        assert!(shown.out.contains(part), "{part} in\n{}", shown.out);
    }
    let shown = folder.run(&[
        "presets",
        "show",
        "aks/core",
        "--policy",
        "policy.yaml",
        "--output",
        "json",
    ]);
    let shown: Value = serde_json::from_str(&shown.out).unwrap();
    let row = |id: &str| {
        shown["rows"]
            .as_array()
            .unwrap()
            .iter()
            .find(|row| row["id"] == id)
            .cloned()
    };
    assert_eq!(
        row("api-server-usgov").unwrap()["to"],
        "api.hcp.usgovvirginia.cx.aks.containerservice.azure.us"
    );
    assert_eq!((row("api-server"), &shown["missing"]), (None, &json!([])));
    assert!(
        shown["network"]
            .as_array()
            .unwrap()
            .iter()
            .all(|row| row["network"].is_object())
    );

    for (name, help) in [
        ("aks/node-updates", "did you mean `aks/node-os-updates`?"),
        ("aks/cor", "did you mean `aks/core`?"),
        ("core", "did you mean `aks/core`?"),
    ] {
        let Ended { code, out, err } = folder.run(&["presets", "show", name]);
        assert_eq!((code, out.as_str()), (2, ""), "{name}");
        assert!(err.contains(help), "{err}");
    }
}

#[test]
fn a_directory_of_presets_is_named_three_ways() {
    let folder = folder();
    let path = folder.path();
    fs::create_dir_all(path.join("lists/team")).unwrap();
    fs::write(path.join("lists/team/shop.yaml"), SHOP).unwrap();
    fs::write(path.join("shop-policy.yaml"), "allow: [{preset: team/shop}]\n").unwrap();
    fs::write(
        path.join("settings.yaml"),
        "policy: [shop-policy.yaml]\npresets: lists\n",
    )
    .unwrap();
    let by_flag = ["check", "--policy", "shop-policy.yaml", "--presets", "lists"];
    for (words, environment) in [
        (&by_flag[..], &[][..]),
        (&by_flag[..3], &[("SLUICEGATE__PRESETS", "lists")]),
        (&["check", "-c", "settings.yaml"], &[]),
    ] {
        let Ended { code, out, err } = folder.run_with(words, environment);
        assert_eq!((code, out.trim()), (0, "valid: 1 rule in 2 files"), "{words:?}: {err}");
    }
    let Ended { code, out, .. } = folder.run(&["presets", "--presets", "lists"]);
    assert!(code == 0 && out.contains("the shop (lists/team/shop.yaml)"), "{out}");
    let Ended { code, err, .. } = folder.run(&by_flag[..3]);
    assert!(code == 1 && err.contains("there is no preset `team/shop`"), "{err}");

    // What is generated knows them too, or says that it cannot.
    let policy = "workloads: {shop: {namespace: shop, pods: {app: shop}, port: 3201}}\nallow: [{preset: team/shop, from: [shop]}]\n";
    fs::write(path.join("pods.yaml"), policy).unwrap();
    let generate = |what| folder.run(&["generate", "--policy", "pods.yaml", "--presets", "lists", what]);
    let Ended { code, err, .. } = generate("service-ports");
    assert_eq!(code, 0, "{err}");
    let Ended { code, err, .. } = generate("verify-jobs");
    assert!(
        code == 1 && err.contains("the Jobs cannot take presets from files"),
        "{err}"
    );

    fs::write(path.join("lists/team/shop.yaml"), SHOP.replace("required", "requierd")).unwrap();
    let Ended { code, out, err } = folder.run(&by_flag);
    assert!(code == 1 && err.contains("lists/team/shop.yaml:5:"), "{err}");
    assert_eq!(out.trim(), "1 error in 2 files");
    let Ended { code, err, .. } = folder.run(&["check", "--policy", "shop-policy.yaml", "--presets", "nowhere"]);
    assert!(code == 2 && err.contains("there is no such directory"), "{err}");
}

fn folder() -> Folder {
    let policy = "cluster: {cloud: usgov, region: usgovvirginia, api_server: \
                  api.hcp.usgovvirginia.cx.aks.containerservice.azure.us}\nallow: [a.test]\n";
    Folder::with(&[("policy.yaml", policy)])
}
