use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use crate::{
    Millis,
    leases::{Credits, Reservation},
};

/// How slabs are cut.
///
/// A slab is a part of a shared lease that one process has taken as an ordinary reservation, to
/// serve checks from it without asking the store.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SlabKnobs {
    /// The fewest credits to take.
    pub smallest: f64,
    /// The most credits to take.
    pub largest: f64,
    /// How long holds are carved from a slab, in milliseconds.
    pub lifetime: Millis,
}

/// A slab is cut to last about so long at the demand of late, in milliseconds: long beside the time
/// that it takes to get the next, short beside its lifetime.
const HORIZON: f64 = 2000.0;
/// The reservation outlives the last hold by this time, as clocks of processes differ.
const MARGIN: Millis = 5000;

/// A slab to take of a shared lease.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SlabPlan {
    /// Credits to reserve.
    pub credits: f64,
    /// Credits below which a slab is not worth its while.
    pub smallest: f64,
    /// Until when holds may be carved from it.
    pub usable_until: Millis,
    /// When the reservation lapses, if this process dies.
    pub expires_at: Millis,
}

impl SlabKnobs {
    /// The slab for a demand in credits for each millisecond, when holds live for `hold`.
    #[must_use]
    pub fn plan(&self, demand: f64, hold: Millis, now: Millis) -> SlabPlan {
        let usable_until = now.saturating_add(self.lifetime);
        let credits = (demand * HORIZON).max(self.smallest).min(self.largest);
        SlabPlan {
            // Whole credits, where the bounds leave room for them.
            credits: credits.floor().max(self.smallest),
            smallest: self.smallest,
            usable_until,
            expires_at: usable_until.saturating_add(hold).saturating_add(MARGIN),
        }
    }
}

/// Which slab a hold was carved from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlabId(u64);

/// What a lease's part is besides its credits.
#[derive(Debug)]
pub(super) struct Slab {
    id: SlabId,
    row: Arc<Reservation>,
    opened_at: Millis,
    /// Holds that were carved from it, those of them that have ended, and those that it had when
    /// its row was last looked for.
    carved: u64,
    ended: u64,
    watched: u64,
    /// What holds of it were settled with, and how much of that was told.
    used: Credits,
    told: Credits,
}

/// What was used of a slab.
#[derive(Clone, Debug, PartialEq)]
pub struct SlabUse {
    /// Its reservation in the shared store.
    pub row: Arc<Reservation>,
    /// Credits used of it.
    pub used: f64,
}

/// What became of a slab whose row is gone from the shared store.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SlabLoss {
    /// Credits that holds of it have, or were settled with: the lease may not know of them.
    pub taken: f64,
    /// Credits that it had left: they are not served.
    pub left: f64,
}

impl Slab {
    pub fn new(row: &Arc<Reservation>, now: Millis) -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        Self {
            id: SlabId(LAST.fetch_add(1, Relaxed)),
            row: Arc::clone(row),
            opened_at: now,
            carved: 0,
            ended: 0,
            watched: 0,
            used: Credits::ZERO,
            told: Credits::ZERO,
        }
    }

    pub const fn id(&self) -> SlabId {
        self.id
    }

    /// Notes one more hold.
    pub fn hold(&mut self) -> SlabId {
        self.carved += 1;
        self.id
    }

    pub fn end_hold(&mut self, used: Credits) {
        self.ended += 1;
        self.used += used;
    }

    /// What was used of it so far, if that has grown since it was last told.
    pub fn tell_use(&mut self) -> Option<SlabUse> {
        (self.used > self.told).then(|| {
            self.told = self.used;
            SlabUse {
                row: Arc::clone(&self.row),
                used: self.used.to_f64(),
            }
        })
    }

    pub const fn has_holds(&self) -> bool {
        self.carved > self.ended
    }

    pub fn is_of(&self, row: &Reservation) -> bool {
        self.row.id == row.id
    }

    /// Its row, if holds were carved from it since it was last asked for.
    pub fn watch(&mut self) -> Option<Arc<Reservation>> {
        (self.carved > self.watched).then(|| {
            self.watched = self.carved;
            Arc::clone(&self.row)
        })
    }

    /// Credits used for each millisecond.
    pub fn demand(&self, used: f64, now: Millis) -> f64 {
        #[allow(clippy::cast_precision_loss, reason = "a slab lives for seconds")]
        let age = now.saturating_sub(self.opened_at).max(1) as f64;
        used / age
    }

    pub fn close(self, used: f64) -> SlabUse {
        SlabUse {
            row: self.row,
            used,
        }
    }
}
