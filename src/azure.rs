//! Azure as text: production's firewall rules, in and out of the policy language; what `az` prints about a cluster.
//! Pure: texts come in, values and texts go out; no files, no clock, no logs.
//! Called by the commands `import`, `export`, `init` and `audit`, and by whoever compares with production.

pub mod audit;
pub mod cluster;
pub mod columns;
pub mod export;
pub mod import;
pub mod input;
pub mod model;
pub mod report;
pub mod resource;

mod arm;
mod classic;
mod ip_groups;
mod json;
mod service_tags;
mod template;
mod terraform;
