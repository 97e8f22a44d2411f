//! Strict readers of what clients send: TLS records and ClientHello, request heads, body framing.
//! Sans-IO and pure: bytes in, `Need | Value | Reject` out. No repair, no guessing, no allocation per byte.
//! Called by the fronts before anything else may look at the bytes.

pub mod body;
pub mod head;
pub mod hello;

/// The answer of every reader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress<T, R> {
    /// Not enough yet: at least this many more bytes, never 0.
    Need(usize),
    Value(T),
    Reject(R),
}

#[cfg(test)]
mod tests;
