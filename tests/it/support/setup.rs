//! What a test starts: the settings file, the policy file, the environment and the wrapper of one proxy process.
//! Must not choose for a test; its defaults are one explicit listener on a free port and nobody to ask for names.
//! Called by every test, directly or through `World`.

use std::fs;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::dns::Dns;
use super::proxy::Proxy;

/// What to start.
#[derive(Debug)]
pub struct Setup {
    pub folder: TempDir,
    settings: Value,
    /// Put before the binary: `prlimit`, for example.
    wrapper: Vec<String>,
    environment: Vec<(String, String)>,
    output: Output,
}

/// What becomes of its standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Every line must be a JSON record.
    Records,
    /// Kept as lines.
    Lines,
    /// Nobody reads it.
    Unread,
}

impl Setup {
    /// One explicit listener, this policy, and no name server until [`Setup::dns`].
    pub fn new(policy: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("policy.yaml"), policy).unwrap();
        let settings = json!({
            "listeners": [{"name": "proxy", "mode": "explicit", "bind": "127.0.0.1:0"}],
            "admin": {"bind": "127.0.0.1:0"},
            "health": {"bind": "127.0.0.1:0"},
            "policy": ["policy.yaml"],
            // Nobody listens there: a test that needs names says so.
            "dns": {"servers": ["127.0.0.1:9"], "timeout": "500ms"},
        });
        Self {
            folder,
            settings,
            wrapper: Vec::new(),
            environment: Vec::new(),
            output: Output::Records,
        }
    }

    pub fn dns(self, dns: &Dns) -> Self {
        self.set("dns.servers", json!([dns.address.to_string()]))
    }

    /// One more listener.
    pub fn listener(mut self, listener: Value) -> Self {
        self.settings["listeners"].as_array_mut().unwrap().push(listener);
        self
    }

    /// Sets one key, written with dots.
    pub fn set(mut self, key: &str, value: Value) -> Self {
        let mut place = &mut self.settings;
        for part in key.split('.') {
            place = &mut place[part];
        }
        *place = value;
        self
    }

    pub fn file(self, name: &str, text: &str) -> Self {
        fs::write(self.folder.path().join(name), text).unwrap();
        self
    }

    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn wrapped(mut self, wrapper: &[&str]) -> Self {
        self.wrapper = wrapper.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// Standard output is not JSON.
    pub fn raw(self) -> Self {
        Self {
            output: Output::Lines,
            ..self
        }
    }

    /// Nobody reads its standard output.
    pub fn deaf(self) -> Self {
        Self {
            output: Output::Unread,
            ..self
        }
    }

    /// Starts it and waits until it is ready.
    pub fn start(self) -> Proxy {
        let count = self.settings["listeners"].as_array().unwrap().len() + 2;
        Proxy::start(self.command(), self.output, count, self.folder)
    }

    /// Starts what must not run: its exit code and what it said.
    pub fn fails(self) -> (i32, String) {
        let output = self.command().output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        (
            output.status.code().unwrap_or_else(|| panic!("it was killed: {said}")),
            plain(said),
        )
    }

    fn command(&self) -> Command {
        let file = self.folder.path().join("sluicegate.yaml");
        // JSON is YAML.
        fs::write(&file, self.settings.to_string()).unwrap();
        let words: Vec<&str> = self
            .wrapper
            .iter()
            .map(String::as_str)
            .chain([BINARY, "run", "-c"])
            .collect();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).arg(file);
        command
            .env_clear()
            .env("PATH", std::env::var("PATH").unwrap())
            .env("RUST_BACKTRACE", "1");
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }
}

/// Without terminal colours.
pub fn plain(line: String) -> String {
    if !line.contains('\x1b') {
        return line;
    }
    let mut out = String::new();
    for (number, part) in line.split('\x1b').enumerate() {
        let end = if number == 0 {
            0
        } else {
            part.find('m').map_or(0, |end| end + 1)
        };
        out.push_str(&part[end..]);
    }
    out
}

pub const BINARY: &str = env!("CARGO_BIN_EXE_sluicegate");
