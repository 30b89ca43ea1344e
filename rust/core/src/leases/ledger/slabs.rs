//! Slabs: parts of a shared lease that this process has taken, to serve checks without asking the store.
//!
//! A slab's credits are spent once. What is left of one whose row the store has lost is not served, and one that is
//! closed counts what is still held of it as used.

use std::sync::Arc;

use parking_lot::Mutex;

use super::{
    Ledger,
    hold_table::Hold,
    lease::{NewLease, SlotLease},
    shard::Shard,
    slot::Slot,
};
use crate::{
    Millis, Now,
    leases::{Credits, Lapsed, Reservation, SlabLoss, SlabPlan, SlabUse, SlotKey, slab::Slab},
};

impl Ledger {
    /// The slab that a slot is to take of its shared lease; `None` while it has enough.
    #[must_use]
    pub fn plan_slab(&self, key: SlotKey<'_>, now: impl Into<Now>) -> Option<SlabPlan> {
        let now = now.into();
        let slabs = self.knobs.slabs()?;
        let (hash, shard) = self.shard(key);
        let mut shard = shard.lock();
        let at = shard.open_slot(hash, key);
        let slot = &shard.slots[at as usize];
        let lease = slot.lease.as_ref().filter(|lease| lease.is_live(now));
        if lease.is_some_and(|lease| lease.remaining > lease.low_at) {
            return None;
        }
        let demand = slot
            .lease
            .as_ref()
            .map_or(slot.demand, |lease| lease.demand(now));
        let hold = self.knobs.of(key.credit_type_id).reservation_ttl;
        Some(slabs.plan(demand, hold))
    }

    /// Puts a slab into its slot: credits that this process has taken of a shared lease, as one
    /// reservation there. The slab before it serves no more.
    ///
    /// It serves holds for `usable_for` milliseconds from when it was planned. `false` if its amount is not valid.
    pub fn open_slab(
        &self,
        row: &Arc<Reservation>,
        usable_for: Millis,
        planned: impl Into<Now>,
    ) -> bool {
        let planned = planned.into();
        let Some(credits) = Credits::new(row.credits_reserved) else {
            return false;
        };
        let key = row.slot();
        let knobs = self.knobs.of(key.credit_type_id);
        let (hash, shard) = self.shard(key);
        let mut shard = shard.lock();
        let at = shard.open_slot(hash, key);
        let slot = &mut shard.slots[at as usize];
        let before = slot.retire_slab(planned);
        let lease = NewLease {
            lease_id: &row.lease_id,
            granted: row.credits_reserved,
            expires_at: planned.wall.saturating_add(usable_for),
        };
        slot.lease = Some(SlotLease {
            slab: Some(Slab::new(row, usable_for, planned)),
            ..SlotLease::new(&lease, credits, knobs)
        });
        slot.low_told_until = Millis::MIN;
        shard.closed.extend(before);
        true
    }

    /// What was used of each slab that is not closed, where that has grown since it was last asked.
    pub fn take_slab_uses(&self) -> Vec<SlabUse> {
        let uses = |shard: &Mutex<Shard>| {
            let mut shard = shard.lock();
            let slabs = shard.slots.iter_mut().flat_map(Slot::slabs);
            slabs.filter_map(Slab::tell_use).collect::<Vec<_>>()
        };
        self.shards.iter().flat_map(uses).collect()
    }

    /// The rows of the slabs that holds were carved from since this was last asked: a row that the
    /// shared store has lost must be noticed while its slab serves.
    pub fn take_slabs_in_use(&self) -> Vec<Arc<Reservation>> {
        let rows = |shard: &Mutex<Shard>| {
            let mut shard = shard.lock();
            let slabs = shard.slots.iter_mut().flat_map(Slot::slabs);
            slabs.filter_map(Slab::watch).collect::<Vec<_>>()
        };
        self.shards.iter().flat_map(rows).collect()
    }

    /// Drops a slab whose row the shared store has lost: what it has left is not served, as it may be
    /// in the lease again for others. `None` if there is no such slab, or it is closed.
    pub fn lose_slab(&self, row: &Reservation, now: impl Into<Now>) -> Option<SlabLoss> {
        let now = now.into();
        let key = row.slot();
        let (hash, shard) = self.shard(key);
        let mut shard = shard.lock();
        let lost = shard.slot(hash, key)?.lose_slab(row, now)?;
        let id = lost.slab.as_ref().map(Slab::id);
        let of_it = |hold: &&Hold| hold.slab == id;
        let lapsed = shard.lapsed.iter().filter(of_it);
        let lapsed: Vec<_> = lapsed.map(|hold| Arc::clone(&hold.reservation)).collect();
        for hold in lapsed {
            if let Some(hold) = shard.lapsed.take(&hold.id) {
                shard.end(&hold, Credits::ZERO);
            }
        }
        Some(SlabLoss {
            taken: (lost.granted - lost.remaining).to_f64(),
            left: lost.remaining.to_f64(),
        })
    }

    /// Takes the slabs whose last hold has ended, to be settled in the shared store.
    pub fn take_closed_slabs(&self) -> Vec<SlabUse> {
        let closed = |shard: &Mutex<Shard>| std::mem::take(&mut shard.lock().closed);
        self.shards.iter().flat_map(closed).collect()
    }

    /// Closes every slab. What is still held counts as used, since nobody can give it back later.
    pub fn close_slabs(&self, now: impl Into<Now>) -> Vec<SlabUse> {
        let now = now.into();
        for shard in &self.shards {
            let mut shard = shard.lock();
            shard.retire_slabs(|_| true, now);
            let Shard {
                slots,
                holds,
                lapsed,
                closed,
                ..
            } = &mut *shard;
            let closing = slots
                .iter_mut()
                .flat_map(|slot| slot.closing.drain(..))
                .filter_map(|lease| Some((lease.slab.as_ref()?.id(), lease)));
            for (id, lease) in closing {
                let open: Vec<_> = holds
                    .iter()
                    .chain(lapsed.iter())
                    .filter(|hold| hold.slab == Some(id))
                    .map(|hold| (hold.reservation.id.clone(), hold.credits))
                    .collect();
                closed.extend(lease.into_closed(&open));
            }
            for hold in std::mem::take(lapsed).iter() {
                slots[hold.slot as usize].held -= hold.credits;
            }
        }
        self.take_closed_slabs()
    }

    /// The holds of slabs that have lapsed here and of which it is not known yet whether they were
    /// settled elsewhere. Each is listed until [`Ledger::end_lapsed`] ends it.
    #[must_use]
    pub fn lapsed(&self) -> Vec<Lapsed> {
        let lapsed = |shard: &Mutex<Shard>| {
            let mut shard = shard.lock();
            let Shard { slots, lapsed, .. } = &mut *shard;
            let of = |hold: &Hold| {
                let mut slabs = slots[hold.slot as usize].slabs();
                let slab = slabs.find(|slab| Some(slab.id()) == hold.slab)?;
                Some(Lapsed {
                    row: Arc::clone(slab.row()),
                    hold: Arc::clone(&hold.reservation),
                })
            };
            lapsed.iter().filter_map(of).collect::<Vec<_>>()
        };
        self.shards.iter().flat_map(lapsed).collect()
    }

    /// Ends a hold of a slab that has lapsed, and was settled elsewhere with so many credits: the
    /// rest is given back to the slab.
    pub fn end_lapsed(&self, hold: &Reservation, used: f64) {
        let (_, shard) = self.shard(hold.slot());
        let mut shard = shard.lock();
        let Some(hold) = shard.lapsed.take(&hold.id) else {
            return;
        };
        let used = hold.within(used);
        let slot = &mut shard.slots[hold.slot as usize];
        slot.held -= hold.credits;
        let Some(slab) = hold.slab else { return };
        let unused = hold.credits - used;
        let closed = slot.end_in_slab(slab, |lease| lease.end_elsewhere(used, unused));
        shard.closed.extend(closed);
    }
}
