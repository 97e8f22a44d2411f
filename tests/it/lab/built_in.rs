//! A start without any file: the built-in settings, with their fixed ports, in a namespace of their own.
//! Must not run on the host, where somebody may have these ports.
//! Called by `tests/run` as root.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::netns::Netns;
use crate::support::DEADLINE;
use crate::support::client::Client;
use crate::support::proxy::fetch;

#[test]
fn it_runs_on_built_in_values_and_says_what_it_does() {
    let netns = Netns::new("bare");
    netns.run(|| {
        let empty = TempDir::new().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_sluicegate"));
        command.current_dir(empty.path()).env_clear();
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut said = BufReader::new(child.stderr.take().unwrap());
        let mut text = String::new();
        while !text.contains("Then write a policy.yaml") {
            assert_ne!(said.read_line(&mut text).unwrap(), 0, "it ended:\n{text}");
        }
        for part in [
            "127.0.0.1:3128",
            "127.0.0.1:8443",
            "127.0.0.1:8080",
            "mcr.microsoft.com",
            "Left out",
            "Try:",
        ] {
            assert!(text.contains(part), "no {part}:\n{text}");
        }

        let proxy = "127.0.0.1:3128".parse().unwrap();
        let (_, denied) = Client::connect_request(proxy, "example.com:443");
        assert_eq!(denied.status(), 403);
        assert_eq!(
            fetch(proxy, "http://mcr.microsoft.com/").status(),
            403,
            "the rule is for TLS"
        );
        let health = "127.0.0.1:9091".parse().unwrap();
        let end = Instant::now() + DEADLINE;
        while fetch(health, "http://127.0.0.1/readyz").status() != 200 {
            assert!(Instant::now() < end, "it serves, and is never ready");
        }

        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        let mut rest = String::new();
        said.read_to_string(&mut rest).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0), "{rest}");
    });
}
