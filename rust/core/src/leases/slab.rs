//! Slabs: parts of a shared lease that one process has taken to serve checks from.
//!
//! What is counted here is only what holds of the slab did in this process; its row in the shared store tells the rest.

use std::sync::Arc;

use crate::{
    Millis, Now,
    leases::{Credits, Ids, Reservation, ReservationId},
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

/// A slab is sized to last about this long at the recent demand, in milliseconds: long compared to
/// the time it takes to get the next one, short compared to its lifetime.
const HORIZON: f64 = 2000.0;
/// The reservation outlives the last hold by this time, because the clocks of processes differ.
const MARGIN: Millis = 5000;

/// A slab to take of a shared lease.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SlabPlan {
    /// Credits to reserve.
    pub credits: f64,
    /// A slab of fewer credits than this is not worth taking.
    pub smallest: f64,
    /// For how long from now on holds may be carved from it.
    pub usable_for: Millis,
    /// For how long the store keeps the reservation, if this process dies.
    pub kept_for: Millis,
}

impl SlabKnobs {
    /// The slab for a demand in credits for each millisecond, when holds live for `hold`.
    #[must_use]
    pub fn plan(&self, demand: f64, hold: Millis) -> SlabPlan {
        let credits = (demand * HORIZON).max(self.smallest).min(self.largest);
        SlabPlan {
            // Whole credits, where the bounds leave room for them.
            credits: credits.floor().max(self.smallest),
            smallest: self.smallest,
            usable_for: self.lifetime,
            kept_for: self.lifetime.saturating_add(hold).saturating_add(MARGIN),
        }
    }
}

/// Which slab a hold was carved from: what the names of its holds begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlabId(u64);

impl SlabId {
    /// A name for a hold that is carved from it.
    #[must_use]
    pub fn next_hold(self, ids: &Ids) -> ReservationId {
        ids.next_in(self.0)
    }
}

/// A slab, apart from its credits.
#[derive(Debug)]
pub(super) struct Slab {
    id: SlabId,
    row: Arc<Reservation>,
    /// By the steady clock, as its end.
    opened_at: Millis,
    ends_at: Millis,
    /// Holds that were carved from it, those of them that have ended, and those that it had when
    /// its row was last looked for.
    carved: u64,
    ended: u64,
    watched: u64,
    /// What holds of it were settled with here, and how much of that was reported.
    used: Credits,
    told: Credits,
    /// What holds of it were settled with elsewhere, as its row says.
    elsewhere: Credits,
}

/// What was used of a slab.
#[derive(Clone, Debug, PartialEq)]
pub struct SlabUse {
    /// Its reservation in the shared store.
    pub row: Arc<Reservation>,
    /// Credits used of it in this process.
    pub used: f64,
    /// Holds that are still open, and their credits: all used, unless the row says that one was
    /// settled elsewhere.
    pub held: Vec<(ReservationId, f64)>,
}

/// A hold of a slab that has lapsed here. Another process that received it may have settled it, which
/// the slab's row tells.
#[derive(Clone, Debug, PartialEq)]
pub struct Lapsed {
    /// The slab's reservation in the shared store.
    pub row: Arc<Reservation>,
    /// The hold.
    pub hold: Arc<Reservation>,
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
    pub fn new(row: &Arc<Reservation>, usable_for: Millis, now: Now) -> Self {
        Self {
            id: SlabId(row.id.prefix()),
            row: Arc::clone(row),
            opened_at: now.steady,
            ends_at: now.steady.saturating_add(usable_for),
            carved: 0,
            ended: 0,
            watched: 0,
            used: Credits::ZERO,
            told: Credits::ZERO,
            elsewhere: Credits::ZERO,
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

    /// Notes that a hold was settled elsewhere.
    pub fn end_elsewhere(&mut self, used: Credits) {
        self.ended += 1;
        self.elsewhere += used;
    }

    pub const fn row(&self) -> &Arc<Reservation> {
        &self.row
    }

    /// What was used of it so far, if that has grown since the last call.
    pub fn tell_use(&mut self) -> Option<SlabUse> {
        (self.used > self.told).then(|| {
            self.told = self.used;
            SlabUse {
                row: Arc::clone(&self.row),
                used: self.used.to_f64(),
                held: Vec::new(),
            }
        })
    }

    pub const fn is_live(&self, now: Now) -> bool {
        self.ends_at > now.steady
    }

    pub const fn has_holds(&self) -> bool {
        self.carved > self.ended
    }

    pub fn is_of(&self, row: &Reservation) -> bool {
        self.row.id == row.id
    }

    /// Its row, if holds were carved from it since the last call.
    pub fn watch(&mut self) -> Option<Arc<Reservation>> {
        (self.carved > self.watched).then(|| {
            self.watched = self.carved;
            Arc::clone(&self.row)
        })
    }

    /// Credits used for each millisecond.
    pub fn demand(&self, used: f64, now: Now) -> f64 {
        #[allow(clippy::cast_precision_loss, reason = "a slab lives for seconds")]
        let age = now.steady.saturating_sub(self.opened_at).max(1) as f64;
        used / age
    }

    /// Ends the slab, of which so much is gone, and these holds are open.
    pub fn close(self, gone: Credits, open: &[(ReservationId, Credits)]) -> SlabUse {
        let held = open
            .iter()
            .fold(Credits::ZERO, |sum, (_, credits)| sum + *credits);
        SlabUse {
            row: self.row,
            used: (gone - self.elsewhere - held).to_f64(),
            held: open
                .iter()
                .map(|(id, credits)| (id.clone(), credits.to_f64()))
                .collect(),
        }
    }
}
