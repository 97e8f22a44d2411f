//! sluicegate: an egress-filtering forward proxy. What the allowlist names gets out, nothing else does.
//!
//! Arrows run downwards only. From `policy` down the code is pure: no tokio, no files, no logs, and no clock but the
//! one that is passed in; `tests/architecture.rs` proves both.

#![forbid(unsafe_code)]

pub mod address;
pub mod admin;
pub mod app;
pub mod azure;
pub mod cli;
pub mod criterion;
pub mod history;
pub mod kubernetes;
pub mod name;
pub mod net;
pub mod policy;
pub mod proxy;
pub mod relay;
pub mod settings;
pub mod source;
pub mod state;
pub mod telemetry;
pub mod verify;
pub mod wire;
