//! The leases and holds of this process.
//!
//! [`Ledger`] spreads slots over shards. Each slot and its holds live in one shard under one lock, so every operation is
//! atomic per slot, and what remains of a lease and what is held of it add up between any two operations. It never talks
//! to the service or to a store that processes share.

mod clocks;
mod debits;
mod hold_table;
mod holds;
mod lease;
mod leasing;
mod shard;
mod slabs;
mod slot;
mod spent;
mod sweep;

use std::sync::{Arc, atomic::AtomicU64};

use parking_lot::Mutex;

pub use debits::Place;
pub use lease::NewLease;
pub use leasing::Installed;
pub use slot::LeaseState;

use crate::{
    Millis,
    leases::{Knobs, SlotKey},
};
use shard::Shard;
use slot::hash_of;

/// The leases and holds of this process.
///
/// Each slot and its holds live in one shard under one lock, so every operation is atomic per slot
/// and `remaining + reserved` is exact between operations.
#[derive(Debug)]
pub struct Ledger {
    knobs: Knobs,
    shards: [Mutex<Shard>; SHARDS],
    low: Mutex<Vec<(Arc<str>, Arc<str>)>>,
    swept: AtomicU64,
    /// By how much the wall clock is ahead of the steady one, in whole seconds from where it first was.
    wall_ahead: Mutex<Option<Millis>>,
}

const SHARDS: usize = 16;

impl Ledger {
    /// An empty ledger.
    #[must_use]
    pub fn new(knobs: Knobs) -> Self {
        Self {
            knobs,
            shards: std::array::from_fn(|_| Mutex::default()),
            low: Mutex::default(),
            swept: AtomicU64::new(0),
            wall_ahead: Mutex::default(),
        }
    }

    /// The knobs it was made with.
    #[must_use]
    pub const fn knobs(&self) -> &Knobs {
        &self.knobs
    }

    fn shard(&self, key: SlotKey<'_>) -> (u64, &Mutex<Shard>) {
        let hash = hash_of(key);
        #[allow(clippy::cast_possible_truncation, reason = "any bits of a hash do")]
        let at = (hash >> 32) as usize % SHARDS;
        (hash, &self.shards[at])
    }
}
