//! Address classes: which addresses are public, which are never dialled, which a rule may open.
//! Must not know rules or sockets. Source of the ranges: the IANA special-purpose registries, RFC 6890 and design notes.
//! Called by the gate, and by the lints for rules that name addresses.

use std::net::IpAddr;

/// What the guard thinks of an address before it looks at any rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressClass {
    /// Ordinary public unicast.
    Public,
    /// Special-purpose: dialled only where a rule's `addresses` names the range. Carries the range's name.
    Special(&'static str),
    /// Never dialled, whatever a rule says.
    Never(&'static str),
}

/// Classifies an address. IPv6 forms that carry an IPv4 address are `Never` (mapped, compatible, 6to4, Teredo), but NAT64
/// (64:ff9b::/96) is judged by the address inside.
pub fn classify(address: IpAddr) -> AddressClass {
    let _ = address;
    todo!()
}
