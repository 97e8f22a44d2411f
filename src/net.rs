//! Sockets and names: listening, resolving, dialling, original destinations.
//! Must not decide: which address may be dialled is judged by the function that the caller passes in.
//! Called by the fronts and the session, and by the application when it binds its sockets.

pub mod descriptors;
pub mod dial;
pub mod listen;
pub mod original;
pub mod own;
mod race;
pub mod resolve;
#[cfg(test)]
mod scripted;
pub mod shared_listener;
pub mod socket;

pub use dial::{DialError, Dialled, Limits, dial};
pub use own::Own;
pub use resolve::{Answer, Family, ResolveError, Resolver};
pub use socket::{abort, do_not_abort};
