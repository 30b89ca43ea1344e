//! Holds: recorded after their debit, and claimed once.
//!
//! A claim gives what was not used back to the lease that was charged, and to no other.

use std::sync::Arc;

use super::Ledger;
use crate::{
    Millis, Now,
    leases::{Reservation, ReservationId, SlabId, SlotKey},
};

impl Ledger {
    /// Records a hold whose credits were already debited, of this slab if of any; `false` if its
    /// id is taken.
    pub fn add(
        &self,
        reservation: &Arc<Reservation>,
        slab: Option<SlabId>,
        now: impl Into<Now>,
    ) -> bool {
        let key = reservation.slot();
        let now = now.into();
        let lapses_at = self.lapses_at(reservation, now);
        let (hash, shard) = self.shard(key);
        let mut shard = shard.lock();
        let at = shard.open_slot(hash, key);
        shard.holds.see(now.wall);
        shard.add(at, reservation, slab, lapses_at)
    }

    /// When a hold lapses. Those of slabs must end before others may sweep the slab, so they go by the
    /// clock that the slab does.
    pub(super) fn lapses_at(&self, reservation: &Reservation, now: Now) -> Millis {
        if self.knobs.slabs().is_none() {
            return reservation.expires_at;
        }
        let lasts = reservation.expires_at.saturating_sub(now.wall);
        now.steady.saturating_add(lasts)
    }

    /// Claims a hold, once, and gives what was not used of it back to the lease that was charged.
    ///
    /// Returns what the hold was of, or `None` if it is gone.
    pub fn claim(&self, reservation: &Reservation, credits: f64) -> Option<Arc<Reservation>> {
        let (_, shard) = self.shard(reservation.slot());
        let (hold, _) = shard.lock().claim(&reservation.id, credits)?;
        Some(hold.reservation)
    }

    /// Claims a hold, and returns the credits consumed, at most those held.
    pub fn consume(&self, reservation: &Reservation, credits: f64) -> Option<f64> {
        let (_, shard) = self.shard(reservation.slot());
        let (_, used) = shard.lock().claim(&reservation.id, credits)?;
        Some(used.to_f64())
    }

    /// Consumes a hold of which only the id is known.
    pub fn consume_by_id(&self, id: &ReservationId, credits: f64) -> Option<f64> {
        self.shards
            .iter()
            .find_map(|shard| shard.lock().claim(id, credits))
            .map(|(_, used)| used.to_f64())
    }

    /// Whether a hold is open.
    #[must_use]
    pub fn holds(&self, id: &ReservationId) -> bool {
        self.shards
            .iter()
            .any(|shard| shard.lock().holds.contains(id))
    }

    /// The number of open holds.
    #[must_use]
    pub fn open_holds(&self) -> usize {
        self.shards
            .iter()
            .map(|shard| shard.lock().holds.len())
            .sum()
    }

    /// Credits in open holds of a slot.
    #[must_use]
    pub fn reserved_credits(&self, key: SlotKey<'_>) -> f64 {
        let (hash, shard) = self.shard(key);
        shard
            .lock()
            .slot(hash, key)
            .map_or(0.0, |slot| slot.held.to_f64())
    }
}
