//! The commands that answer and end: `check`, `explain`, `completions`, and every start that must not happen.
//! Must not repeat the tables of policy and settings; what is tested is what is printed, where, and the exit code.
//! Called by `tests/run`.

use std::fs;
use std::net::IpAddr;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::dns::Dns;

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

/// A directory with files, in which commands are run.
struct Folder(TempDir);

#[derive(Debug)]
struct Ended {
    code: i32,
    out: String,
    err: String,
}

impl Folder {
    fn with(files: &[(&str, &str)]) -> Self {
        let folder = TempDir::new().unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        Self(folder)
    }

    fn run(&self, words: &[&str]) -> Ended {
        self.run_with(words, &[])
    }

    fn run_with(&self, words: &[&str], environment: &[(&str, &str)]) -> Ended {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sluicegate"));
        command.args(words).current_dir(self.0.path()).env_clear();
        let output = command.envs(environment.iter().copied()).output().unwrap();
        Ended {
            code: output.status.code().expect("it was killed"),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

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
    fs::remove_file(folder.0.path().join("policy.yaml")).unwrap();
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
    fs::create_dir(folder.0.path().join("tls")).unwrap();
    fs::write(folder.0.path().join("tls/tls.crt"), "no certificate").unwrap();
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
    fs::write(folder.0.path().join("latin1.yaml"), b"# caf\xe9\n").unwrap();
    fs::create_dir(folder.0.path().join("empty")).unwrap();
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
fn explain_names_the_rule_the_miss_and_the_line_that_helps() {
    let folder = Folder::with(&[("policy.yaml", POLICY)]);
    let ended = folder.run(&["explain", "--from", "trips", "https://api.stripe.com"]);
    let said = "\
allowed: api.stripe.com:443 from trips
  reason:  rule: an allow rule matched
  by:      rule payments (policy.yaml:5), owned by team-payments, because OPS-12
  then:    a ClientHello must follow whose SNI is this name, unless the rule says otherwise
";
    assert_eq!((ended.code, &*ended.out, &*ended.err), (0, said, ""));

    let ended = folder.run(&["explain", "api.stripe.com"]);
    let said = "\
denied: api.stripe.com:443 from a client that no rule names (--from says who)
  reason:  no_rule_for_source: rules name this host, but not for this client
  nearest: rule payments (policy.yaml:5): allowed only from trips
";
    assert_eq!((ended.code, &*ended.out), (1, said));

    // The line speaks of what was asked for, not of what the port suggests, and of this client alone.
    let line = |words: &[&str]| {
        folder
            .run(&[&["explain"], words].concat())
            .out
            .lines()
            .last()
            .unwrap()
            .to_owned()
    };
    assert_eq!(
        line(&["https://new.example.com:9999"]),
        "    - tls://new.example.com:9999"
    );
    assert_eq!(line(&["tcp://new.example.com:443"]), "    - tcp://new.example.com:443");
    assert_eq!(
        line(&["--from", "10.9.9.9", "api.stripe.com"]),
        "    - {from: [\"10.9.9.9/32\"], to: [api.stripe.com]}"
    );
}

/// The same answer as `expect`: a workload with a port and ranges comes in both ways.
#[test]
fn explain_asks_on_every_way_in() {
    let policy = "workloads: {both: {port: 3299, cidrs: [10.1.0.0/16]}}\nallow:\n  - {from: [both], to: [a.example.com]}\n\
                  deny:\n  - {from: [10.1.9.0/24], to: [a.example.com]}\n";
    let folder = Folder::with(&[("policy.yaml", policy)]);
    let ended = folder.run(&["explain", "--from", "both", "a.example.com"]);
    assert_eq!(ended.code, 1);
    assert!(
        ended
            .out
            .starts_with("denied: a.example.com:443 from both at 10.1.9.0\n"),
        "{}",
        ended.out
    );
    let tested = format!("{policy}expect:\n  - {{from: both, allow: a.example.com}}\n");
    let folder = Folder::with(&[("policy.yaml", &tested)]);
    let ended = folder.run(&["check", "--policy", "policy.yaml"]);
    assert!(
        ended.code == 1 && ended.err.contains("both at 10.1.9.0"),
        "{}{}",
        ended.out,
        ended.err
    );
}

#[test]
fn explain_follows_the_connection_as_the_proxy_does() {
    let folder = Folder::with(&[("policy.yaml", POLICY)]);
    let reason = |words: &[&str]| {
        let ended = folder.run(&[&["explain", "--output", "json"], words].concat());
        let answer: Value = serde_json::from_str(&ended.out).unwrap_or_else(|_| panic!("{ended:?}"));
        assert_eq!(ended.code, i32::from(answer["allowed"] == false));
        answer["reason"].as_str().unwrap().to_owned()
    };
    assert_eq!(reason(&["api.github.com"]), "rule");
    assert_eq!(reason(&["--sni", "api.github.com", "api.github.com"]), "rule");
    assert_eq!(reason(&["--sni", "gist.github.com", "api.github.com"]), "sni_mismatch");
    assert_eq!(reason(&["--sni", "none", "api.github.com"]), "no_sni");
    assert_eq!(reason(&["http://api.github.com:443"]), "not_tls");
    assert_eq!(reason(&["tcp://api.github.com:443"]), "not_tls");
    assert_eq!(reason(&["api.github.com:8443"]), "port");
    assert_eq!(reason(&["https://169.254.169.254"]), "ip_literal");
}

#[test]
fn explain_asks_dns_for_allowed_names_alone_and_judges_each_address() {
    let dns = Dns::start();
    dns.set("api.github.com", [IpAddr::from([20, 1, 2, 3]), [10, 0, 0, 5].into()]);
    dns.set("api.stripe.com", [IpAddr::from([10, 0, 0, 6])]);
    let settings = format!("dns: {{servers: [\"{}\"]}}\n", dns.address);
    let folder = Folder::with(&[("policy.yaml", POLICY), ("sluicegate.yaml", &settings)]);
    let resolve = |words: &[&str]| folder.run(&[&["explain", "-c", "sluicegate.yaml", "--resolve"], words].concat());

    let ended = resolve(&["api.github.com"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.out.contains("address: 20.1.2.3 may be dialled"), "{}", ended.out);
    assert!(
        ended.out.contains("address: 10.0.0.5 is never dialled"),
        "{}",
        ended.out
    );

    let ended = resolve(&["--from", "trips", "--output", "json", "api.stripe.com"]);
    let answer: Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!(
        (ended.code, &answer["allowed"]),
        (1, &Value::Bool(true)),
        "allowed, and nowhere to go"
    );
    assert_eq!(answer["addresses"][0]["reason"], "forbidden_address");

    let before = dns.questions().len();
    assert_eq!(resolve(&["api.stripe.com"]).code, 1);
    assert_eq!(dns.questions().len(), before, "a denied name was asked for");
}

#[test]
fn explain_needs_a_question_that_has_an_answer() {
    let folder = Folder::with(&[("policy.yaml", POLICY)]);
    for (words, part) in [
        (&["--from", "trip", "api.github.com"][..], "did you mean `trips`?"),
        (&["*.github.com"], "write one of the names that it matches"),
        (&["https://api.github.com/repos"], "paths are not matched"),
        (&["tcp://api.github.com"], "command line"),
        (&["--sni", "a b", "api.github.com"], "--sni: `a b`"),
    ] {
        let ended = folder.run(&[&["explain"], words].concat());
        assert_eq!((ended.code, &*ended.out), (2, ""), "{words:?}");
        assert!(ended.err.contains(part), "{words:?}: {}", ended.err);
    }
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
