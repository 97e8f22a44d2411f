//! From a file and the environment to checked settings, or to all problems of both.
//! Must not start anything; of the process it sees only what [`Inputs`] holds.
//! Called by every command that needs settings.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use crate::policy::problem::{Cause, Problems, Rejected};
use crate::policy::{Problem, Severity, SourceText};

use super::Settings;
use super::layers::{self, OURS, PREFIX, Values, Variables};
use super::read::Reader;

/// What settings are made from.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    /// The settings file.
    pub file: Option<SourceText>,
    /// Where relative paths start: the directory of the settings file, or empty for the current one.
    pub directory: PathBuf,
    /// The variables whose names begin with `SLUICEGATE_`, sorted by name: those with `__` set something, and one that
    /// was meant to should be told from the ones that Kubernetes makes for a Service.
    pub environment: Vec<(String, String)>,
    /// What could not be read of all this.
    pub unreadable: Vec<Problem>,
}

/// Settings that were not accepted.
#[derive(Clone, Debug)]
pub struct Refused {
    pub rejected: Rejected,
    /// The policy files, where it is clear which: what is wrong in them can be said in the same go.
    pub policy: Option<Vec<PathBuf>>,
    /// Whether the settings file names them; otherwise they are the built-in ones.
    pub names_policy: bool,
}

impl Inputs {
    /// Reads the file, if there is one, and picks the variables that concern us.
    pub fn read(file: Option<&Path>, variables: impl Iterator<Item = (OsString, OsString)>) -> Self {
        let mut inputs = Self::default();
        for (name, value) in variables {
            if !name.as_encoded_bytes().starts_with(OURS.as_bytes()) {
                continue;
            }
            let sets = name.as_encoded_bytes().starts_with(PREFIX.as_bytes());
            match (name.into_string(), value.into_string()) {
                (Ok(name), Ok(value)) => inputs.environment.push((name, value)),
                _ if !sets => {}
                (Ok(name), Err(_)) => {
                    let message = format!("the value of {name} is not UTF-8");
                    inputs.unreadable.push(unreadable("environment", message));
                }
                (Err(name), _) => {
                    let message = format!("the name of the variable {} is not UTF-8", name.display());
                    inputs.unreadable.push(unreadable("environment", message));
                }
            }
        }
        inputs.environment.sort();
        if let Some(path) = file {
            let name = path.display().to_string();
            match fs::read_to_string(path) {
                Ok(read) => inputs.file = Some(text(&name, &read)),
                Err(error) => {
                    let message = format!("this settings file cannot be read: {error}");
                    inputs.unreadable.push(unreadable(&name, message));
                }
            }
            inputs.directory = path.parent().map(Path::to_owned).unwrap_or_default();
        }
        inputs
    }
}

/// Layers and checks everything.
///
/// # Errors
/// Every problem of the file and of the environment, each at its place.
pub fn load(inputs: &Inputs) -> Result<Settings, Refused> {
    let mut variables = Variables::new(ENVIRONMENT, &inputs.environment);
    let texts = [
        inputs.file.clone().unwrap_or_else(|| text("", "")),
        text("environment", &variables.text),
        text("built-in settings", BUILTIN_TEXT),
    ];
    let mut problems = Problems::new(&texts);
    let builtin = Values::of_builtin(BUILTIN, &mut problems);
    let file = Values::of_file(FILE, &builtin, &mut problems);
    variables.keep_known(&builtin, &mut problems);
    // Twice, so that a variable does not hide the mistake in the file that it replaces.
    let (mut settings, mut policy, mut names_policy) = (None, None, false);
    for variables in [&Variables::default(), &variables] {
        match layers::merge(&builtin, &file, variables) {
            Ok(merged) => {
                let mut reader = Reader {
                    merged: &merged,
                    file: &file,
                    variables,
                    directory: &inputs.directory,
                    problems: &mut problems,
                };
                policy = reader.policy();
                names_policy = reader.is_written("policy");
                settings = reader.settings(policy.clone());
            }
            Err(error) => _ = problems.error_of_file(BUILTIN, error.to_string()),
        }
    }
    match settings {
        Some(settings) if !problems.has_errors() && inputs.unreadable.is_empty() => Ok(settings),
        _ => {
            // In what could not be read, `policy` may be set.
            let is_whole = inputs.unreadable.is_empty() && !problems.is_cut_short();
            Err(Refused {
                policy: policy.filter(|_| names_policy || is_whole),
                names_policy,
                rejected: rejected(&inputs.unreadable, problems, &texts),
            })
        }
    }
}

fn rejected(unreadable: &[Problem], problems: Problems<'_>, texts: &[SourceText]) -> Rejected {
    let mut said = unreadable.to_vec();
    for problem in problems.into_sorted() {
        if !said.contains(&problem) {
            said.push(problem);
        }
    }
    let quoted = |text: &&SourceText| said.iter().any(|problem| problem.file == text.name);
    let texts = texts.iter().filter(quoted).cloned().collect();
    Rejected {
        cause: if unreadable.is_empty() {
            Cause::Invalid
        } else {
            Cause::Unreadable
        },
        problems: said,
        texts,
    }
}

fn text(name: &str, text: &str) -> SourceText {
    SourceText {
        name: name.into(),
        text: text.into(),
    }
}

fn unreadable(file: &str, message: String) -> Problem {
    Problem {
        severity: Severity::Error,
        file: file.into(),
        span: None,
        message,
        label: String::new(),
        help: None,
        lint: None,
    }
}

/// The texts, in the order of their problems.
const FILE: u32 = 0;
pub(super) const ENVIRONMENT: u32 = 1;
pub(super) const BUILTIN: u32 = 2;
/// The built-in settings, as the repository shows them.
const BUILTIN_TEXT: &str = include_str!("../../config/sluicegate.yaml");

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::Duration;

    use super::*;
    use crate::settings::{Mode, UpstreamPort};

    #[test]
    fn the_file_in_the_repository_is_what_is_built_in() {
        let bare = load(&Inputs::default()).unwrap();
        let shipped = Inputs {
            file: Some(text("sluicegate.yaml", BUILTIN_TEXT)),
            ..Inputs::default()
        };
        assert_eq!(load(&shipped).unwrap(), bare);
        assert_eq!(bare.listeners[0].bind, "127.0.0.1:3128".parse::<SocketAddr>().unwrap());
        assert_eq!(bare.policy, [PathBuf::from("policy.yaml")]);
        assert!(bare.listeners.iter().all(|listener| listener.bind.ip().is_loopback()));
        assert!(bare.admin.ip().is_loopback() && bare.health.ip().is_loopback());
        assert_eq!(bare.timeouts.lifetime, Duration::ZERO);
    }

    #[test]
    fn every_file_of_the_valid_corpus_loads() {
        for (name, text) in corpus("valid") {
            let inputs = Inputs {
                file: Some(super::text(&name, &text)),
                ..Inputs::default()
            };
            load(&inputs).unwrap_or_else(|refused| panic!("{name}: {}", refused.rejected.render(false)));
        }
    }

    #[test]
    fn every_file_of_the_invalid_corpus_is_refused_with_all_its_problems() {
        let mut wrong = Vec::new();
        for (name, text) in corpus("invalid") {
            let inputs = Inputs {
                file: Some(super::text(&name, &text)),
                ..Inputs::default()
            };
            let rejected = load(&inputs).expect_err(&name).rejected;
            let expected: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("# expect ")).collect();
            let found: Vec<_> = rejected.problems.iter().map(|problem| brief(problem, &text)).collect();
            if found != expected {
                wrong.push(format!("{name}:\n# expect {}\n", found.join("\n# expect ")));
            }
        }
        assert!(wrong.is_empty(), "found:\n{}", wrong.join("\n"));
    }

    #[test]
    fn layers_lie_over_each_other_and_lists_are_replaced_whole() {
        let mut inputs = valid("cluster");
        inputs.directory = "/etc/sluicegate".into();
        inputs.environment = vec![
            variable("TIMEOUTS__IDLE", "2h"),
            variable("LIMITS__CONNECTIONS", "17"),
            variable("LOG__REQUIRED", "false"),
        ];
        let settings = load(&inputs).unwrap();
        assert_eq!(
            settings.timeouts.idle,
            Duration::from_hours(2),
            "the environment over the file"
        );
        assert_eq!(
            settings.timeouts.head,
            Duration::from_secs(5),
            "the file over the built-in value"
        );
        assert_eq!(settings.timeouts.connect, Duration::from_secs(10), "the built-in value");
        assert_eq!((settings.limits.connections, settings.limits.per_source), (17, 5000));
        assert!(!settings.log.required);
        assert_eq!(settings.listeners.len(), 6);
        assert_eq!(
            settings.policy,
            [
                PathBuf::from("/etc/sluicegate/policy.yaml"),
                "/etc/sluicegate/teams".into()
            ]
        );
        let Mode::Explicit { tls: Some(tls) } = &settings.listeners[1].mode else {
            panic!("no TLS")
        };
        assert_eq!(tls.cert, PathBuf::from("/etc/sluicegate/tls/tls.crt"));
        assert_eq!(tls.client_ca, Some("/etc/ca.pem".into()));
        assert_eq!(
            settings.listeners[3].mode,
            Mode::Tls {
                port: UpstreamPort::Tproxy
            }
        );
        let servers: Vec<_> = settings.dns.servers.iter().map(ToString::to_string).collect();
        assert_eq!(
            servers,
            ["10.0.0.10:53", "10.0.0.11:5353", "[::1]:53", "[2001:db8::1]:53"]
        );
    }

    #[test]
    fn the_environment_is_judged_like_a_file() {
        let mut environment = vec![
            variable("LISTENERS", "x"),
            variable("DNS__SERVERS", "10.0.0.10"),
            variable("TIMEOUT__IDLE", "1h"),
            variable("LIMITS__CONNECTIONS", "many"),
            variable("TIMEOUTS__HEAD", "5"),
            variable("ADMIN__BIND", "127.0.0.1:3128"),
            variable("DNS", "x"),
        ];
        environment.sort();
        let rejected = load(&Inputs {
            environment,
            ..Inputs::default()
        })
        .unwrap_err()
        .rejected;
        let text = &rejected.texts[0].text;
        let found: Vec<_> = rejected.problems.iter().map(|problem| brief(problem, text)).collect();
        assert_eq!(
            found,
            [
                "1:25 `admin` and `proxy` would listen on one address",
                "2:1 `SLUICEGATE__DNS` sets nothing",
                "3:1 `dns.servers` is a list, and lists are set only by the settings file",
                "4:33 this number is out of range",
                "5:1 `listeners` is a list, and lists are set only by the settings file",
                "6:28 `5` is not a duration",
                "7:1 `SLUICEGATE__TIMEOUT__IDLE` sets nothing",
            ]
        );
        let help = rejected.problems[6].help.as_deref();
        assert_eq!(help, Some("did you mean `SLUICEGATE__TIMEOUTS__IDLE`?"));
    }

    /// Whoever writes what the help says has mended it.
    #[test]
    fn advice_works_when_it_is_followed() {
        let load_text = |text: &str| {
            load(&Inputs {
                file: Some(super::text("x.yaml", text)),
                ..Inputs::default()
            })
        };
        for (section, bad, good) in [
            ("admin: {bind: @}", "9090", "\"127.0.0.1:9090\""),
            ("admin: {bind: @}", "localhost:9090", "\"[::1]:9090\""),
            ("health: {bind: @}", "\":9091\"", "\"[::]:9091\""),
            (
                "listeners: [{name: p, mode: explicit, bind: @}]",
                "\"::1:3128\"",
                "\"[::1]:3128\"",
            ),
            (
                "listeners: [{name: p, mode: explicit, bind: @}]",
                "0.0.0.0",
                "\"127.0.0.1:3128\"",
            ),
            (
                "listeners: [{name: p, mode: @, bind: \"[::1]:1\", to: \"a.test:25\"}]",
                "dns",
                "tcp",
            ),
            (
                "listeners: [{name: p, mode: @, bind: \"[::1]:1\"}]",
                "proxy",
                "explicit",
            ),
            (
                "listeners: [{name: p, mode: tcp, bind: \"[::1]:1\", to: @}]",
                "a.test",
                "\"smtp.sendgrid.net:587\"",
            ),
            (
                "listeners: [{name: p, mode: tls, bind: \"[::1]:1\", original: @}]",
                "nat",
                "tproxy",
            ),
            ("dns: {servers: [@]}", "dns.google", "\"10.0.0.10:53\""),
            ("dns: {servers: [@]}", "\"10.0.0.10:0\"", "10.0.0.10"),
            ("dns: {timeout: @}", "0s", "2s"),
            ("dns: {timeout: @}", "5", "500ms"),
            ("timeouts: {idle: @}", "1d", "1h30m"),
            ("timeouts: {idle: @}", "9000h", "8784h"),
            ("limits: {connections: @}", "0", "1"),
            ("limits: {connections: @}", "1000000000", "100000000"),
            ("log: {format: @}", "xml", "azure"),
            ("log: {required: @}", "\"yes\"", "true"),
            ("log: {decisions: @}", "none", "denied"),
        ] {
            let refused = load_text(&section.replace('@', bad)).unwrap_err().rejected;
            let said = refused.render(false);
            assert_eq!(refused.problems.len(), 1, "{said}");
            assert!(said.contains(good), "{good} is no advice of\n{said}");
            load_text(&section.replace('@', good))
                .unwrap_or_else(|refused| panic!("{}", refused.rejected.render(false)));
        }
    }

    #[test]
    fn a_variable_does_not_hide_a_mistake_in_the_file() {
        let inputs = Inputs {
            file: Some(text("x.yaml", "dns: {timeout: 5}\nlimits: 3\n")),
            environment: vec![variable("DNS__TIMEOUT", "5s"), variable("LIMITS__CONNECTIONS", "5")],
            ..Inputs::default()
        };
        let rejected = load(&inputs).unwrap_err().rejected;
        assert_eq!(rejected.problems.len(), 2, "{:?}", rejected.problems);
    }

    #[test]
    fn only_our_variables_are_read_and_a_missing_file_is_unreadable() {
        let load_with = |variables: &[(&str, &str)]| {
            let variables = variables
                .iter()
                .map(|(name, value)| (OsString::from(name), OsString::from(value)));
            load(&Inputs::read(None, variables))
        };
        let settings = load_with(&[
            // What Kubernetes makes for a Service of this name.
            ("SLUICEGATE_SERVICE_HOST", "10.0.0.1"),
            ("SLUICEGATE_PORT", "tcp://10.0.0.1:3128"),
            ("SLUICEGATE_CONFIG", "x.yaml"),
            ("SLUICEGATE__LOG__FORMAT", "text"),
            ("PATH", "/bin"),
        ]);
        assert_eq!(settings.unwrap().log.format, crate::settings::LogFormat::Text);
        for near in [
            "SLUICEGATE_TIMEOUTS__IDLE",
            "SLUICEGATE_TIMEOUTS_IDLE",
            "SLUICEGATE__TIMEOUTS_IDLE",
        ] {
            let rejected = load_with(&[(near, "1h")]).unwrap_err().rejected;
            let help = rejected.problems[0].help.as_deref();
            assert_eq!(help, Some("did you mean `SLUICEGATE__TIMEOUTS__IDLE`?"), "{near}");
        }
        let missing = Inputs::read(Some(Path::new("/nowhere/at/all.yaml")), std::iter::empty());
        let refused = load(&missing).unwrap_err();
        assert_eq!(refused.rejected.cause, Cause::Unreadable);
        assert_eq!(refused.policy, None, "nobody knows which");
    }

    #[test]
    fn refused_settings_say_which_policy_they_mean_where_that_is_clear() {
        let policy = |text: &str| {
            let file = Some(super::text("x.yaml", text));
            let refused = load(&Inputs {
                file,
                ..Inputs::default()
            })
            .unwrap_err();
            (refused.policy, refused.names_policy)
        };
        let paths = |name: &str| Some(vec![PathBuf::from(name)]);
        assert_eq!(policy("limits: 3\n"), (paths("policy.yaml"), false));
        assert_eq!(policy("policy: [teams]\nlimits: 3\n"), (paths("teams"), true));
        assert_eq!(policy("policy: teams\nlimits: 3\n").0, None);
        assert_eq!(policy("limits: {connections: 5\npolicy: [teams]\n").0, None);
    }

    #[test]
    fn what_cannot_be_read_does_not_hide_what_is_wrong() {
        let mut inputs = Inputs::read(Some(Path::new("/nowhere/at/all.yaml")), std::iter::empty());
        inputs.environment = vec![variable("LIMITS__CONNECTIONS", "many")];
        let rejected = load(&inputs).unwrap_err().rejected;
        assert_eq!(rejected.problems.len(), 2, "{}", rejected.render(false));
        assert_eq!(rejected.cause, Cause::Unreadable);
    }

    fn variable(name: &str, value: &str) -> (String, String) {
        (format!("{PREFIX}{name}"), value.to_owned())
    }

    fn valid(name: &str) -> Inputs {
        let (name, text) = corpus("valid")
            .into_iter()
            .find(|(file, _)| file == &format!("{name}.yaml"))
            .unwrap();
        Inputs {
            file: Some(super::text(&name, &text)),
            ..Inputs::default()
        }
    }

    fn corpus(kind: &str) -> Vec<(String, String)> {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/corpus/settings")
            .join(kind);
        let files = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
        let files: Vec<_> = files
            .map(|file| {
                (
                    file.file_name().into_string().unwrap(),
                    fs::read_to_string(file.path()).unwrap(),
                )
            })
            .collect();
        assert!(!files.is_empty());
        files
    }

    /// `line:column message`.
    fn brief(problem: &Problem, text: &str) -> String {
        if &*problem.file == "built-in settings" {
            return format!("0:0 {}", problem.message);
        }
        let start = problem.span.map_or(0, |span| span.start);
        let before = &text[..start];
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|letter| *letter != '\n').count() + 1;
        format!("{line}:{column} {}", problem.message)
    }
}
