//! The decisions of Schematic feature checks and credit leases.
//!
//! This crate owns everything that decides: compiled flags and their evaluation, the cache of
//! companies and users, leases with their reservations, and the queue of events. It never waits:
//! it opens no connection, reads no clock and knows no Python. Time comes in as an argument and
//! randomness through a seed, so one seed replays a whole run.
//!
//! Modules lie on floors, and each knows only those below it: [`decider`] joins [`events`], [`cache`], [`leases`] and
//! [`engine`]; [`wire`] reads and writes what the engine evaluates.

pub mod cache;
pub mod decider;

pub mod engine;
pub mod events;
pub mod leases;
pub mod text;
pub mod wire;

mod hash;
mod name;
mod time;

pub use time::{Millis, Now};
