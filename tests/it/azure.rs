//! Production's rules in and out, against an independent model of the firewall that they were written for.
//! Must not start a proxy; here the gate is asked as a function, a hundred thousand times.
//! Called by `tests/run`.

mod model;
