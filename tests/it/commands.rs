//! The commands that answer and end: `check`, `explain`, `completions`, and every start that must not happen.
//! Must not repeat the tables of policy and settings; what is tested is what is printed, where, and the exit code.
//! Called by `tests/run`.

mod explain;

use std::fs;

use serde_json::Value;

use crate::support::folder::Folder;

const POLICY: &str = "\
workloads:
  trips: {namespace: api, pods: {app: trips}, port: 3201}
allow:
  - api.github.com
  - {name: payments, from: [trips], to: [api.stripe.com], owner: team-payments, reason: OPS-12}
expect:
  - {from: trips, allow: https://api.stripe.com}
  - {deny: https://example.com}
";

const NOTHING: &str = "allow: []\n";

#[test]
fn check_says_that_a_policy_is_valid() {
    let folder = Folder::with(&[("policy.yaml", POLICY)]);
    for words in [&["check"][..], &["check", "--policy", "policy.yaml", "--deny-warnings"]] {
        let ended = folder.run(words);
        assert_eq!(
            (ended.code, &*ended.out, &*ended.err),
            (0, "valid: 2 rules in 1 file\n", "")
        );
    }
}

#[test]
fn check_prints_every_problem_of_settings_and_policy_at_once() {
    let folder = Folder::with(&[
        ("sluicegate.yaml", "timeouts: {idel: 1h, head: 10}\npolicy: [teams]\n"),
        ("a.yaml", "allow:\n  - *.example.com\n  - {to: [], form: [x]}\n"),
        ("b.yaml", "alow: [a.example.com]\n"),
    ]);
    let words = [
        "check",
        "-c",
        "sluicegate.yaml",
        "--policy",
        "a.yaml",
        "--policy",
        "b.yaml",
    ];
    let ended = folder.run(&words);
    assert_eq!((ended.code, &*ended.out), (1, "6 errors in 3 files\n"), "{}", ended.err);
    let start = "\
error: `idel` is not a key of `timeouts`
 --> sluicegate.yaml:1:12
  |
1 | timeouts: {idel: 1h, head: 10}
  |            ^^^^
  |
  = help: did you mean `idle`?

error: a duration is expected
 --> sluicegate.yaml:1:28
  |
1 | timeouts: {idel: 1h, head: 10}
  |                            ^^ this is a number
  |
  = help: write a number and a unit, such as 500ms, 10s, 5m, 1h30m

error: a `*` begins an alias in YAML, so this is not a wildcard
 --> a.yaml:2:5
  |
2 |   - *.example.com
  |     ^^^^^^^^^^^^^ needs quotes
  |
  = help: write `\"*.example.com\"`: patterns that start with `*` need quotes
";
    assert!(ended.err.starts_with(start), "{}", ended.err);

    let ended = folder.run(&[&words[..], &["--output", "json"]].concat());
    let report: Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!((ended.code, &*ended.err), (1, ""));
    assert_eq!(report["valid"], false);
    assert_eq!(report["problems"].as_array().unwrap().len(), 6);
    assert_eq!(report["problems"][1]["line"], 1);
    assert_eq!(report["problems"][1]["column"], 28);
    assert_eq!(report["problems"][2]["file"], "a.yaml");
}

/// Whatever is wrong with one file, or with reading it, what is wrong with the others is said in the same go.
#[test]
fn nothing_that_is_wrong_hides_anything_else_that_is() {
    let folder = Folder::with(&[
        ("bad.yaml", "allow: [\"*\", {to: [a.example.com], from: [elsewhere]}]\n"),
        (
            "missing.yaml",
            "policy: [nowhere.yaml, bad.yaml]\nlimits: {connections: 0}\n",
        ),
        ("limits.yaml", "limits: {connections: 0}\n"),
        ("policy.yaml", "alow: []\n"),
        (
            "tls.yaml",
            "policy: [bad.yaml]\nlisteners:\n  - {name: proxy, mode: explicit, bind: \"127.0.0.1:3128\", \
             tls: {cert: no.crt, key: no.key, client_ca: bad.yaml}}\n",
        ),
    ]);
    let said = |words: &[&str], code: i32| {
        let check = folder.run(&[&["check"], words].concat());
        let run = folder.run(&[&["run"], words].concat());
        assert_eq!((check.code, run.code), (code, code), "{words:?}: {check:?}");
        let (problems, count) = run.err.trim_end().rsplit_once("\n\n").unwrap();
        assert_eq!(check.err.trim_end(), problems, "check and run say the same");
        assert!(check.out.starts_with(count), "{check:?}");
        let lines = check.err.lines().filter_map(|line| line.strip_prefix("error: "));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let no_file = "there is no such file or directory";
    let star = "`*` would allow every name";
    // The workload `elsewhere` may be in the file that is missing.
    assert_eq!(
        said(&["--policy", "nowhere.yaml", "--policy", "bad.yaml"], 2),
        [no_file, star]
    );
    let range = "this number is out of range";
    assert_eq!(said(&["-c", "missing.yaml"], 2), [range, no_file, star]);
    assert_eq!(
        said(&["-c", "limits.yaml"], 1),
        [range, "`alow` is not a key of a policy file"],
        "the built-in `policy.yaml`, which is there"
    );
    assert_eq!(
        said(&["-c", "nowhere.yaml", "--policy", "bad.yaml"], 2)[1..],
        [star, "there is no workload `elsewhere`"]
    );
    assert_eq!(
        said(&["-c", "tls.yaml"], 2),
        [
            "the certificate of listener `proxy` cannot be read: No such file or directory (os error 2)",
            "the key of listener `proxy` cannot be read: No such file or directory (os error 2)",
            star,
            "there is no workload `elsewhere`"
        ]
    );
    fs::remove_file(folder.path().join("policy.yaml")).unwrap();
    assert_eq!(
        said(&["-c", "limits.yaml"], 1),
        [range],
        "who has not said which policy yet is not told that it is missing"
    );
}

#[test]
fn certificates_are_underlined_in_the_settings() {
    let settings = "\
policy: [policy.yaml]
listeners:
  - {name: proxy, mode: explicit, bind: \"127.0.0.1:0\", tls: {cert: tls/tls.crt, key: policy.yaml}}
";
    let folder = Folder::with(&[("policy.yaml", POLICY), ("sluicegate.yaml", settings)]);
    let ended = folder.run(&["run", "-c", "sluicegate.yaml"]);
    let said = "\
error: the certificate of listener `proxy` cannot be read: No such file or directory (os error 2)
 --> sluicegate.yaml:3:68
  |
3 |   - {name: proxy, mode: explicit, bind: \"127.0.0.1:0\", tls: {cert: tls/tls.crt, key: policy.yaml}}
  |                                                                    ^^^^^^^^^^^ tls/tls.crt
  |
  = help: name a file that the user of sluicegate can read; relative paths start at the settings file

1 error
";
    assert_eq!((ended.code, &*ended.err), (2, said));
    fs::create_dir(folder.path().join("tls")).unwrap();
    fs::write(folder.path().join("tls/tls.crt"), "no certificate").unwrap();
    let ended = folder.run(&["check", "-c", "sluicegate.yaml"]);
    let said = "error: listener `proxy`: tls/tls.crt holds no certificate in PEM form (none found)\n --> sluicegate.yaml:3:68\n";
    assert!(ended.code == 1 && ended.err.starts_with(said), "{ended:?}");
}

#[test]
fn a_workload_port_that_is_taken_is_underlined_in_the_policy() {
    let settings = "listeners: [{name: proxy, mode: explicit, bind: \"127.0.0.1:3201\"}]\n";
    let folder = Folder::with(&[("policy.yaml", POLICY), ("sluicegate.yaml", settings)]);
    let said = "\
error: workload `trips` cannot have port 3201: `proxy` listens there
 --> policy.yaml:2:53
  |
2 |   trips: {namespace: api, pods: {app: trips}, port: 3201}
  |                                                     ^^^^ taken
  |
  = help: give the workload a port that nothing else on this host listens on
";
    for command in ["check", "run"] {
        let ended = folder.run(&[command, "-c", "sluicegate.yaml"]);
        assert!(ended.code == 1 && ended.err.starts_with(said), "{ended:?}");
    }
}

#[test]
fn a_socket_that_cannot_be_had_says_what_to_change() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap();
    for (bind, cause, advice) in [
        (
            taken.to_string(),
            "Address already in use",
            "give this one another port",
        ),
        (
            "192.0.2.1:0".to_owned(),
            "Cannot assign requested address",
            "bind to one that it has",
        ),
    ] {
        let settings = format!(
            "listeners: [{{name: proxy, mode: explicit, bind: \"{bind}\"}}]\nadmin: {{bind: \"127.0.0.1:0\"}}\n\
             health: {{bind: \"127.0.0.1:0\"}}\n"
        );
        let folder = Folder::with(&[("policy.yaml", NOTHING), ("sluicegate.yaml", &settings)]);
        let ended = folder.run(&["run", "-c", "sluicegate.yaml"]);
        assert_eq!(ended.code, 1, "{ended:?}");
        let line = format!("listener `proxy` cannot listen on {bind}: {cause}");
        assert!(ended.err.contains(&line) && ended.err.contains(advice), "{ended:?}");
    }
}

#[test]
fn warnings_stop_only_who_asks_for_it() {
    let folder = Folder::with(&[("policy.yaml", "allow: [a.example.com, a.example.com]\n")]);
    let ended = folder.run(&["check"]);
    assert_eq!(
        (ended.code, &*ended.out),
        (0, "valid: 2 rules, 1 warning in 1 file\n"),
        "{}",
        ended.err
    );
    assert_eq!(folder.run(&["check", "--deny-warnings"]).code, 1);
}

#[test]
fn diff_says_which_requests_are_answered_differently() {
    let folder = Folder::with(&[
        ("old.yaml", "allow: [a.example.com, b.example.com]\n"),
        ("new.yaml", "allow: [b.example.com, \"*.azurecr.io\"]\n"),
        (
            "moved.yaml",
            "# the same\nallow:\n  - b.example.com\n  - a.example.com\n",
        ),
        ("bad.yaml", "allow: [\"*\"]\n"),
        ("firewall.json", FIREWALL),
    ]);
    let ended = folder.run(&["diff", "old.yaml", "new.yaml"]);
    let expected = "+ allow   `*.azurecr.io` (new.yaml:1)\n    https://*.azurecr.io  from everyone  # anyone can get such a name\n\
                    - deny    was allowed by `a.example.com` (old.yaml:1)\n    https://a.example.com  from everyone\n\
                    1 opened, 1 closed\n";
    assert_eq!((ended.code, &*ended.out, &*ended.err), (1, expected, ""));
    let ended = folder.run(&["diff", "old.yaml", "moved.yaml"]);
    assert_eq!((ended.code, &*ended.out), (0, "no request is answered differently\n"));
    let ended = folder.run(&["diff", "old.yaml", "new.yaml", "--output", "json"]);
    assert!(ended.out.contains("\"breadth\": \"shared-suffix\""), "{ended:?}");
    let ended = folder.run(&["diff", "preset:aks/core", "preset:aks/core"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    let ended = folder.run(&["diff", "firewall.json", "old.yaml"]);
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(
        ended.out.ends_with("\n1 opened, 1 decided by another rule\n"),
        "{ended:?}"
    );
    for wrong in ["bad.yaml", "absent.yaml", "absent.json", "preset:aks/none"] {
        let ended = folder.run(&["diff", "old.yaml", wrong]);
        assert_eq!((ended.code, &*ended.out), (2, ""), "{ended:?}");
        assert!(ended.err.starts_with("error: "), "{ended:?}");
    }
}

#[test]
fn diff_takes_the_workloads_and_the_cluster_of_azures_rules_from_a_policy() {
    let rules = include_str!("../../config/examples/azure/rules.json");
    let folder = Folder::with(&[
        ("rules.json", rules),
        ("new.json", &rules.replace("api.stripe.com", "api.example.com")),
        (
            "groups.json",
            include_str!("../../config/examples/azure/ip-groups.json"),
        ),
        ("cluster.yaml", include_str!("../../config/examples/azure/cluster.yaml")),
    ]);
    let diff = |old: &str, new: &str, more: &[&str]| {
        let mut words = vec!["diff", old, new, "--ip-groups", "groups.json"];
        words.extend(["--accept", "not-tcp,network-fqdn"]);
        words.extend(["--sources", "10.224.0.0/16=nodes,10.225.0.0/16=shop"]);
        words.extend(more);
        folder.run(&words)
    };
    let beside = ["--policy", "cluster.yaml"];
    let ended = diff("rules.json", "new.json", &beside);
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(ended.out.ends_with("1 opened, 1 closed\n"), "{ended:?}");
    assert!(
        ended.out.contains("https://api.example.com  from shop"),
        "the workload of the file: {ended:?}"
    );
    let ended = diff("rules.json", "preset:aks/core", &beside);
    assert!(
        !ended.out.contains("name.hcp.westeurope.azmk8s.io"),
        "the list is for that cluster: {ended:?}"
    );
    let ended = diff("rules.json", "new.json", &[]);
    assert_eq!((ended.code, &*ended.out), (2, ""), "{ended:?}");
    assert!(
        ended.err.contains("give the file that says them, `--policy FILE`"),
        "{ended:?}"
    );
}

#[test]
fn a_failed_expectation_is_invalid() {
    let folder = Folder::with(&[(
        "policy.yaml",
        "allow: [a.example.com]\nexpect: [{deny: https://a.example.com}]\n",
    )]);
    let ended = folder.run(&["check"]);
    assert_eq!((ended.code, &*ended.out), (1, "1 error in 1 file\n"));
    assert!(ended.err.contains("policy.yaml:2"), "{}", ended.err);
}

#[test]
fn what_cannot_be_read_is_2_and_what_is_wrong_is_1() {
    let folder = Folder::with(&[
        ("policy.yaml", POLICY),
        ("bad.yaml", "allow: [\"*\"]\n"),
        ("latin1.yaml", "allow: []\n"),
        ("settings.yaml", "limits: {connections: 0}\n"),
    ]);
    fs::write(folder.path().join("latin1.yaml"), b"# caf\xe9\n").unwrap();
    fs::create_dir(folder.path().join("empty")).unwrap();
    let starts = |words: &[&str]| {
        let check = folder.run(&[&["check"], words].concat());
        let run = folder.run(&[&["run"], words].concat());
        assert_eq!(check.code, run.code, "check and run disagree: {check:?} {run:?}");
        assert!(!run.err.is_empty());
        run.code
    };
    assert_eq!(starts(&["--policy", "missing.yaml"]), 2);
    assert_eq!(starts(&["--policy", "empty"]), 2);
    assert_eq!(starts(&["--policy", "latin1.yaml"]), 2);
    assert_eq!(starts(&["-c", "missing.yaml"]), 2);
    assert_eq!(starts(&["--policy", "bad.yaml"]), 1);
    assert_eq!(starts(&["-c", "settings.yaml"]), 1);
    assert_eq!(
        folder
            .run_with(&["check"], &[("SLUICEGATE__LIMITS__CONNECTION", "5")])
            .code,
        1
    );
    assert_eq!(
        folder
            .run_with(&["check"], &[("SLUICEGATE_CONFIG", "missing.yaml")])
            .code,
        2
    );
    assert_eq!(
        folder.run(&["explain", "--policy", "bad.yaml", "a.example.com"]).code,
        2,
        "1 would mean denied"
    );
    let help = folder.run(&["explain", "--help"]).out;
    assert!(
        help.contains("2 no answer") && help.contains("invalid settings or policy"),
        "{help}"
    );
    assert_eq!(folder.run(&["chekc"]).code, 2);
    assert_eq!(folder.run(&["--help"]).code, 0);
}

#[test]
fn without_files_there_is_nothing_to_check_and_the_built_in_policy_to_explain() {
    let folder = Folder::with(&[]);
    let ended = folder.run(&["check"]);
    assert_eq!((ended.code, &*ended.out), (2, ""));
    assert!(ended.err.contains("nothing was checked"), "{}", ended.err);
    let ended = folder.run(&["explain", "https://mcr.microsoft.com"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.out.contains("built-in policy:"), "{}", ended.out);
    assert_eq!(folder.run(&["explain", "https://example.com"]).code, 1);
    assert_eq!(
        folder
            .run(&["explain", "--from", "10.0.0.1", "https://mcr.microsoft.com"])
            .code,
        1
    );
}

#[test]
fn completions_know_the_commands() {
    let folder = Folder::with(&[]);
    for shell in ["bash", "zsh", "fish"] {
        let ended = folder.run(&["completions", shell]);
        assert_eq!(ended.code, 0);
        assert!(ended.out.contains("explain"), "{shell}");
    }
}

/// One rule for everyone, as `az` prints it.
const FIREWALL: &str = r#"[{"name": "group", "priority": 200, "ruleCollections": [{"name": "web", "priority": 300,
    "ruleCollectionType": "FirewallPolicyFilterRuleCollection", "action": {"type": "Allow"}, "rules": [{"name": "a",
    "ruleType": "ApplicationRule", "protocols": [{"protocolType": "Https", "port": 443}], "sourceAddresses": ["*"],
    "targetFqdns": ["a.example.com"]}]}]}]"#;
