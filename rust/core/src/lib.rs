//! The decisions of Schematic feature checks and credit leases.
//!
//! This crate owns everything that decides: compiled flags and their evaluation, the cache of
//! companies and users, leases with their reservations, and the queue of events. It never waits:
//! it opens no socket, reads no clock and knows no Python. Time comes in as an argument and
//! randomness through a seed, so one seed replays a whole run.

pub mod engine;
pub mod wire;

/// An instant: milliseconds since the Unix epoch.
pub type Millis = i64;
