//! The policy: what the files say (document), what runs (compiled), and the one gate that judges every ask.
//! Pure: no tokio, no files, no logs, no clock but the one passed in.
//! Called by the data path, by `check` and `explain`, and by the tests, all through the same functions.

pub mod ask;
pub mod changes;
mod compile;
pub mod compiled;
pub mod diff;
pub mod document;
pub(crate) mod expect;
pub mod explain;
mod fingerprint;
#[cfg(test)]
pub(crate) mod fixture;
pub mod gate;
#[cfg(test)]
pub(crate) mod golden;
mod index;
mod lint;
pub mod load;
mod nets;
pub mod presets;
pub mod problem;
pub mod reason;
pub mod rule;
pub(crate) mod yaml;

pub use ask::{Action, Ask, Decision, Inspect, Seen, Source, Stage};
pub use changes::{Changes, changes};
pub(crate) use compile::{API_SERVER, end_of};
pub use compiled::{Mode, Policy, Workload};
pub use explain::{Explanation, explain, suggestion};
pub use gate::{enforce, expected, gate};
pub(crate) use lint::{any_tenant, opened_suffix, shared_suffix};
pub use load::{Loaded, load, load_with, problems_of_part};
pub use presets::builtin;
pub use problem::{Problem, Severity, SourceText, Span, render};
pub use reason::Reason;
pub use rule::{Destination, Generation, Rule, RuleId, Scheme};
