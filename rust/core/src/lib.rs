//! The decisions of Schematic feature checks and credit leases.
//!
//! This crate owns everything that decides: compiled flags and their evaluation, the cache of
//! companies and users, leases with their reservations, and the queue of events. It never waits:
//! it opens no socket, reads no clock and knows no Python. Time comes in as an argument and
//! randomness through a seed, so one seed replays a whole run.

pub mod cache;
pub mod decider;

pub mod engine;
pub mod events;
pub mod leases;
pub mod text;
pub mod wire;

mod hash;
mod name;

/// An instant: milliseconds since the Unix epoch.
pub type Millis = i64;

/// Now, by both clocks.
///
/// Ends that others set are told by the wall clock, which may step. What only lasts here, such as the life
/// of a slab, is measured by a clock that runs on evenly, from whichever origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds since the Unix epoch.
    pub wall: Millis,
    /// Milliseconds by the clock that never steps.
    pub steady: Millis,
}

impl From<Millis> for Now {
    /// Where one clock tells both.
    fn from(now: Millis) -> Self {
        Self {
            wall: now,
            steady: now,
        }
    }
}
