//! What the proxy says of itself: decision and tunnel records, metrics.
//! Must not decide or block: a record that cannot be written is counted and dropped, unless the settings require it.
//! Called by sessions at their final verdict and their end.

pub mod record;
