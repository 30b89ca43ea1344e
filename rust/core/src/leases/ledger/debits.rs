//! Debits: credits that leave a lease for a hold.
//!
//! A debit is of one live lease and never takes more than remains of it.

use std::sync::Arc;

use parking_lot::MutexGuard;

use super::{Ledger, shard::Shard};
use crate::{
    Now,
    leases::{Credits, Debit, Refusal, Reservation, SlabId, SlotKey},
};

/// A locked slot: no other thread reaches it while this exists.
#[derive(Debug)]
pub struct Place<'a> {
    ledger: &'a Ledger,
    shard: MutexGuard<'a, Shard>,
    at: Option<u32>,
}

impl Place<'_> {
    /// Takes credits out of the live lease; down to exactly none is allowed.
    ///
    /// # Errors
    /// Why nothing was taken.
    pub fn try_reserve(&mut self, credits: f64, now: impl Into<Now>) -> Result<Debit, Refusal> {
        match self.at {
            Some(at) => self.shard.try_reserve(at, credits, now.into()),
            None => Err(Credits::new(credits).map_or(Refusal::Invalid, |_| Refusal::NoLease)),
        }
    }

    /// Records a hold on what was debited; `false` if its id is taken.
    #[must_use]
    pub fn add(
        mut self,
        reservation: &Arc<Reservation>,
        slab: Option<SlabId>,
        now: impl Into<Now>,
    ) -> bool {
        let now = now.into();
        let lapses_at = self.ledger.lapses_at(reservation, now);
        self.shard.holds.see(now.wall);
        self.at
            .is_some_and(|at| self.shard.add(at, reservation, slab, lapses_at))
    }
}

impl Ledger {
    /// The slot, to debit it and to record the hold without letting others in between.
    ///
    /// The caller must not call the ledger again before the place is dropped: the lock is not reentrant.
    #[must_use]
    pub fn place(&self, key: SlotKey<'_>) -> Place<'_> {
        let (hash, shard) = self.shard(key);
        let shard = shard.lock();
        Place {
            ledger: self,
            at: shard.find(hash, key),
            shard,
        }
    }

    /// Takes credits out of the slot's live lease; down to exactly none is allowed.
    ///
    /// # Errors
    /// Why nothing was taken.
    pub fn try_reserve(
        &self,
        key: SlotKey<'_>,
        credits: f64,
        now: impl Into<Now>,
    ) -> Result<Debit, Refusal> {
        self.place(key).try_reserve(credits, now)
    }

    /// Gives credits back, never above the grant; with a pin, only to that lease.
    pub fn refund(&self, key: SlotKey<'_>, credits: f64, pin: Option<&str>) {
        let Some(credits) = Credits::new(credits) else {
            return;
        };
        let (hash, shard) = self.shard(key);
        if let Some(lease) = shard
            .lock()
            .lease(hash, key)
            .filter(|lease| lease.fits(pin))
        {
            lease.refund(credits);
        }
    }

    /// Undoes a debit that no hold was recorded for.
    pub fn undo(&self, key: SlotKey<'_>, credits: f64, lease_id: &str, slab: Option<SlabId>) {
        let Some(slab) = slab else {
            self.refund(key, credits, Some(lease_id));
            return;
        };
        let credits = Credits::new(credits).unwrap_or_default();
        let (hash, shard) = self.shard(key);
        let mut shard = shard.lock();
        let closed = shard.slot(hash, key).and_then(|slot| {
            slot.end_in_slab(slab, |lease| lease.end_hold(Credits::ZERO, credits))
        });
        shard.closed.extend(closed);
    }
}
