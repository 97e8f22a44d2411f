//! The gate: the one function that every entry, `check`, `explain` and the tests call.
//! Must not resolve, log, count or read a clock. Same policy, time, source and ask: same decision.
//! Called up to three times per connection: before resolving, for each address, and when the hello was read.

use jiff::Timestamp;

use super::ask::{Ask, Decision, Source};
use super::compiled::Policy;

/// Judges one ask.
pub fn gate(policy: &Policy, now: Timestamp, source: &Source, ask: &Ask) -> Decision {
    let _ = (policy, now, source, ask);
    todo!()
}
