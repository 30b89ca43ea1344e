//! The sweep of holds whose time is over.
//!
//! A hold that nobody has settled is given back whole, once.

use std::sync::atomic::Ordering::Relaxed;

use super::Ledger;
use crate::{Now, leases::Credits};

impl Ledger {
    /// Gives every lapsed hold back whole and returns how many there were. Those of slabs wait until
    /// it is known whether they were settled elsewhere; of others that is never known, so one of which a
    /// copy has left this process counts as used.
    pub fn sweep(&self, now: impl Into<Now>) -> usize {
        let now = now.into();
        let due = if self.knobs.slabs().is_some() {
            now.steady
        } else {
            now.wall
        };
        let mut swept = 0;
        for shard in &self.shards {
            let mut shard = shard.lock();
            let lapsed = shard.holds.take_lapsed(due);
            swept += lapsed.len();
            for hold in lapsed {
                let slot = &mut shard.slots[hold.slot as usize];
                if slot.slabs().any(|slab| Some(slab.id()) == hold.slab) {
                    shard.lapsed.add(hold);
                } else if hold.reservation.exported.get() {
                    shard.end(&hold, hold.credits);
                } else {
                    shard.end(&hold, Credits::ZERO);
                }
            }
            if self.knobs.slabs().is_some() {
                shard.retire_slabs(|slab| !slab.is_live(now), now);
            }
        }
        self.swept.fetch_add(swept as u64, Relaxed);
        swept
    }

    /// How many holds lapsed since the ledger was made.
    #[must_use]
    pub fn swept(&self) -> u64 {
        self.swept.load(Relaxed)
    }
}
