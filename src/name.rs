//! Names of hosts as the whole crate understands them: one canonical form, patterns over it, authorities.
//! Must not do anything but parse and compare; no DNS, no policy. Every other module takes these types, never `&str`.
//! Called by the wire readers, the policy and the settings.

pub mod authority;
pub mod host;
pub mod pattern;
pub mod suffix;

pub use authority::{Authority, BadAuthority, Port};
pub use host::{BadHost, Host, HostName};
pub use pattern::{BadPattern, HostPattern, LabelPattern};
pub use suffix::PublicSuffix;
