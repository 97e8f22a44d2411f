//! What the tests of the binary stand on: a DNS server, a certificate authority, origins, raw clients, the proxy itself.
//! Must not decide what is right; it plays, records and waits for events. No sleeps, no fixed ports.
//! Called by every module of this test binary.

pub mod ca;
pub mod client;
pub mod dns;
pub mod event;
pub mod folder;
pub mod hello;
pub mod http;
pub mod origin;
pub mod proxy;
pub mod record;
pub mod setup;
pub mod world;

use std::time::Duration;

/// How long a test waits for something that must happen. Long, because a busy machine is slow, and never waited out
/// unless the test fails.
pub const DEADLINE: Duration = Duration::from_secs(20);
/// How long a test watches for something that must not happen.
pub const QUIET: Duration = Duration::from_millis(300);
