//! The four commands of the README, as they stand there: from production's rules to a proxy that answers like them.
//! Must not change a command; only the places that a test may not share with others, the ports, are free ones.
//! Called by `tests/run`.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::json;

use crate::support::client::Client;
use crate::support::proxy::{Proxy, free_port};
use crate::support::setup::{self, BINARY};

#[test]
fn four_commands_from_productions_rules_to_a_running_proxy() {
    let folder = tempfile::tempdir().unwrap();
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/examples/azure");
    for entry in fs::read_dir(&sample).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
    }
    let port = free_port();
    let cluster = folder.path().join("cluster.yaml");
    let text = fs::read_to_string(&cluster).unwrap();
    let moved = text.replace("port: 3201", &format!("port: {port}"));
    assert_ne!(text, moved);
    fs::write(&cluster, moved).unwrap();

    let commands = commands();
    let [import, check, explain, run] = commands.as_slice() else {
        panic!("not four commands: {commands:#?}")
    };
    for (words, said) in [
        (import, ""),
        (check, "valid: "),
        (explain, "allowed: api.stripe.com:443 from shop"),
    ] {
        let Output { status, stdout, stderr } = command(words, folder.path()).output().unwrap();
        let (out, err) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
        assert!(status.success(), "{words:?}\n{out}\n{err}");
        assert!(out.starts_with(said), "{words:?}\n{out}\n{err}");
    }
    let settings = json!({
        "listeners": [{"name": "proxy", "mode": "explicit", "bind": "127.0.0.1:0"}],
        "admin": {"bind": "127.0.0.1:0"},
        "health": {"bind": "127.0.0.1:0"},
        // Nobody answers there: what is allowed ends with `dns` or `dns_timeout`.
        "dns": {"servers": ["127.0.0.1:9"], "timeout": "500ms"},
    });
    fs::write(folder.path().join("sluicegate.yaml"), settings.to_string()).unwrap();
    let mut run = command(run, folder.path());
    run.env("SLUICEGATE_CONFIG", folder.path().join("sluicegate.yaml"));
    run.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let proxy = Proxy::start(run, setup::Output::Records, 3, folder);
    for (target, reason) in [
        ("api.stripe.com:443", "dns"),
        ("pastebin.com:443", "deny_rule"),
        ("smtp.sendgrid.net:587", "dns"),
        ("smtp.sendgrid.net:25", "port"),
        ("mcr.microsoft.com:443", "no_rule_for_source"),
        ("example.com:443", "no_rule"),
    ] {
        let (_, answer) = Client::connect_request((Ipv4Addr::LOCALHOST, port).into(), target);
        let line = answer.line();
        assert!(line.contains(&format!("({reason}")), "{target}: {line}");
    }
    drop(proxy);
}

fn command(words: &[String], folder: &Path) -> Command {
    let mut command = Command::new(BINARY);
    command.args(words).current_dir(folder).env_clear();
    command
}

/// The words of each command of the section's first block, without `sluicegate`.
fn commands() -> Vec<Vec<String>> {
    let (_, section) = README.split_once("\n## Azure Firewall").expect("the section");
    let (_, block) = section.split_once("```console\n").expect("a block of commands");
    let (block, _) = block.split_once("```").expect("the end of the block");
    let block = block.replace("\\\n", " ");
    let lines = block.lines().map(|line| {
        let line = line.split(" #").next().unwrap_or_default();
        let words = line.strip_prefix("$ sluicegate ").unwrap_or_else(|| panic!("{line}"));
        words.split_whitespace().map(str::to_owned).collect()
    });
    lines.collect()
}

const README: &str = include_str!("../../../README.md");
