//! A part of the ledger under one lock: some slots, and every hold of theirs.
//!
//! What is debited from a slot's lease and not yet given back is the sum of its open holds and of debits whose hold is
//! about to be recorded. Each method leaves that so.

use std::sync::Arc;

use hashbrown::HashTable;

use super::{
    hold_table::{Hold, Holds},
    lease::SlotLease,
    slot::Slot,
};
use crate::{
    Millis, Now,
    leases::{
        Credits, Debit, Refusal, Reservation, ReservationId, SlabId, SlabUse, SlotKey, slab::Slab,
    },
};

#[derive(Debug, Default)]
pub(super) struct Shard {
    pub slots: Vec<Slot>,
    pub by_key: HashTable<u32>,
    pub holds: Holds,
    /// Holds of slabs that have lapsed: whether they were settled elsewhere is still to be asked.
    pub lapsed: Holds,
    /// Slabs whose last hold has ended.
    pub closed: Vec<SlabUse>,
}

impl Shard {
    pub fn find(&self, hash: u64, key: SlotKey<'_>) -> Option<u32> {
        let slots = &self.slots;
        self.by_key
            .find(hash, |&at| slots[at as usize].is(key))
            .copied()
    }

    pub fn slot(&mut self, hash: u64, key: SlotKey<'_>) -> Option<&mut Slot> {
        let at = self.find(hash, key)?;
        self.slots.get_mut(at as usize)
    }

    pub fn lease(&mut self, hash: u64, key: SlotKey<'_>) -> Option<&mut SlotLease> {
        self.slot(hash, key)?.lease.as_mut()
    }

    /// The slot's index; a new slot is empty.
    pub fn open_slot(&mut self, hash: u64, key: SlotKey<'_>) -> u32 {
        if let Some(at) = self.find(hash, key) {
            return at;
        }
        #[allow(
            clippy::cast_possible_truncation,
            reason = "four billion slots do not fit in memory"
        )]
        let at = self.slots.len() as u32;
        self.slots.push(Slot::new(key));
        let slots = &self.slots;
        self.by_key
            .insert_unique(hash, at, |&at| slots[at as usize].hash());
        at
    }

    /// Gives a hold that was taken out of the table back to the lease that was charged for it,
    /// less what was used of it.
    pub fn end(&mut self, hold: &Hold, used: Credits) {
        let slot = &mut self.slots[hold.slot as usize];
        slot.held -= hold.credits;
        if let Some(slab) = hold.slab {
            let unused = hold.credits - used;
            let closed = slot.end_in_slab(slab, |lease| lease.end_hold(used, unused));
            self.closed.extend(closed);
            return;
        }
        let charged = &hold.reservation.lease_id;
        if let Some(lease) = slot
            .lease
            .as_mut()
            .filter(|lease| !charged.is_empty() && lease.id == *charged)
        {
            lease.refund(hold.credits - used);
        }
    }

    /// Takes credits out of a slot's live lease.
    pub fn try_reserve(&mut self, at: u32, credits: f64, now: Now) -> Result<Debit, Refusal> {
        let credits = Credits::new(credits).ok_or(Refusal::Invalid)?;
        let lease = self.slots[at as usize].lease.as_mut();
        let lease = lease
            .filter(|lease| lease.is_live(now))
            .ok_or(Refusal::NoLease)?;
        if lease.remaining < credits {
            return Err(Refusal::Short);
        }
        lease.remaining -= credits;
        Ok(Debit {
            remaining: lease.remaining.to_f64(),
            lease_id: Arc::clone(&lease.id),
            low: lease.remaining <= lease.low_at,
            shared_at: None,
            slab: lease.slab.as_mut().map(Slab::hold),
        })
    }

    /// Records a hold of a slot; `false` if its id is taken or its amount is not valid.
    pub fn add(
        &mut self,
        at: u32,
        reservation: &Arc<Reservation>,
        slab: Option<SlabId>,
        lapses_at: Millis,
    ) -> bool {
        let Some(credits) = Credits::new(reservation.credits_reserved) else {
            return false;
        };
        let added = self.holds.add(Hold {
            reservation: Arc::clone(reservation),
            credits,
            slot: at,
            slab,
            lapses_at,
        });
        if added {
            self.slots[at as usize].held += credits;
        }
        added
    }

    pub fn retire_slabs(&mut self, which: impl Fn(&SlotLease) -> bool, now: Now) {
        for slot in &mut self.slots {
            if slot
                .lease
                .as_ref()
                .is_some_and(|lease| lease.slab.is_some() && which(lease))
            {
                self.closed.extend(slot.retire_slab(now));
            }
        }
    }

    /// Claims a hold, once, and gives what was not used of it back; with the credits used.
    pub fn claim(&mut self, id: &ReservationId, credits: f64) -> Option<(Hold, Credits)> {
        let hold = self.holds.take(id)?;
        let used = hold.within(credits);
        self.end(&hold, used);
        Some((hold, used))
    }
}
