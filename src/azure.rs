//! Azure Firewall rules: what production says, in and out of the policy language.
//! Pure: texts come in, values and texts go out; no files, no clock, no logs.
//! Called by the commands `import` and `export`, and by whoever compares with production.

pub mod columns;
pub mod model;
pub mod report;

#[allow(dead_code, reason = "the readers of rules land next")]
mod json;
