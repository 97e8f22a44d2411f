//! Tests of the real binary: started as a process, spoken to over sockets, judged by bytes, records and metrics.
//! Must not reach into the crate: what is tested is what a user gets; only `azure` calls the gate. One binary: it links once.
//! Called by `tests/run`; the modules `clients`, `lab`, `image`, `manifests::tools` and `deploy::promtool` are rings.

#![allow(unreachable_pub, reason = "a test binary has no outside")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "what is missing fails the test that needs it"
)]
#![allow(clippy::format_push_string, reason = "short texts, written once")]

mod support;

mod azure;
mod bodies;
mod clients;
mod cluster;
mod commands;
mod connect;
mod deploy;
mod endings;
mod forward;
mod harness;
mod history;
mod https_proxy;
mod image;
mod import;
mod inspect;
mod lab;
mod lifecycle;
mod limits;
mod load;
mod manifests;
mod netpol;
mod pages;
mod presets;
mod reload;
mod resolve;
mod transparent;
mod verdicts;
mod verify;
mod workers;
mod workloads;
