//! Leases as they come from the service: installed, extended, dropped, and what to ask for next.
//!
//! A live lease is never replaced, and a total that the service names is taken as it is: nothing is added up here.

use std::sync::Arc;

use super::{
    Ledger,
    lease::{NewLease, SlotLease},
    slot::{LeaseState, Slot},
};
use crate::{
    Millis, Now,
    leases::{AcquirePlan, Credits, ExtendPlan, SlotKey},
};

/// A slot that stays low is reported again after this time, for instance because its extend failed.
const LOW_REMINDER: Millis = 1000;

/// What became of a lease that was to be installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installed {
    /// Whether the slot was written; otherwise the lease that was there stays.
    pub written: bool,
    /// The lease that is in the slot now.
    pub lease_id: Option<Arc<str>>,
}

impl Ledger {
    /// Puts a lease into an empty slot, or over an expired lease with another id.
    ///
    /// A live lease stays, even with another id: a sibling won the race. An expired lease with the
    /// same id is reconciled as by an extend, since rewriting it would forget open holds.
    pub fn install(
        &self,
        key: SlotKey<'_>,
        lease: &NewLease<'_>,
        now: impl Into<Now>,
    ) -> Installed {
        let now = now.into();
        let knobs = self.knobs.of(key.credit_type_id);
        let (hash, shard) = self.shard(key);
        let mut shard = shard.lock();
        let at = shard.open_slot(hash, key);
        let slot = &mut shard.slots[at as usize];
        let Some(granted) = Credits::new(lease.granted) else {
            return Installed {
                written: false,
                lease_id: slot.lease.as_ref().map(|held| Arc::clone(&held.id)),
            };
        };
        let written = match &mut slot.lease {
            Some(held) if held.is_live(now) => false,
            Some(held) if *held.id == *lease.lease_id => {
                held.reconcile(granted, Some(lease.expires_at), knobs);
                false
            }
            place => {
                *place = Some(SlotLease::new(lease, granted, knobs));
                slot.low_told_until = Millis::MIN;
                true
            }
        };
        slot.spent = None;
        Installed {
            written,
            lease_id: slot.lease.as_ref().map(|held| Arc::clone(&held.id)),
        }
    }

    /// Reconciles the slot with the service's total for its lease; `false` if nothing fitted.
    pub fn extend(
        &self,
        key: SlotKey<'_>,
        granted_total: f64,
        expires_at: Option<Millis>,
        pin: Option<&str>,
    ) -> bool {
        let Some(total) = Credits::new(granted_total) else {
            return false;
        };
        let knobs = self.knobs.of(key.credit_type_id);
        let (hash, shard) = self.shard(key);
        let mut shard = shard.lock();
        let Some(slot) = shard.slot(hash, key) else {
            return false;
        };
        let Some(lease) = slot.lease.as_mut().filter(|lease| lease.fits(pin)) else {
            return false;
        };
        lease.reconcile(total, expires_at, knobs);
        slot.low_told_until = Millis::MIN;
        slot.spent = None;
        true
    }

    /// Empties the slot, after its lease was released.
    pub fn drop_lease(&self, key: SlotKey<'_>) {
        let (hash, shard) = self.shard(key);
        if let Some(slot) = shard.lock().slot(hash, key) {
            slot.lease = None;
        }
    }

    /// The slot's lease, live or expired.
    #[must_use]
    pub fn lease(&self, key: SlotKey<'_>) -> Option<LeaseState> {
        let (hash, shard) = self.shard(key);
        shard.lock().slot(hash, key)?.state()
    }

    /// Every lease that is live at `now`.
    #[must_use]
    pub fn live_leases(&self, now: impl Into<Now>) -> Vec<LeaseState> {
        let now = now.into();
        let live = |slot: &Slot| {
            let is_live = slot.lease.as_ref().is_some_and(|lease| lease.is_live(now));
            slot.state().filter(|_| is_live)
        };
        self.shards
            .iter()
            .flat_map(|shard| {
                shard
                    .lock()
                    .slots
                    .iter()
                    .filter_map(live)
                    .collect::<Vec<_>>()
            })
            .collect()
    }

    /// The lease to acquire, or `None` while a live one is in the slot.
    #[must_use]
    pub fn plan_acquire(&self, key: SlotKey<'_>, now: impl Into<Now>) -> Option<AcquirePlan> {
        let now = now.into();
        let (hash, shard) = self.shard(key);
        if shard
            .lock()
            .lease(hash, key)
            .is_some_and(|lease| lease.is_live(now))
        {
            return None;
        }
        Some(self.knobs.of(key.credit_type_id).acquire(now.wall))
    }

    /// The extend that is due, or that `required` credits need; `None` if none is, or if the lease
    /// has expired.
    #[must_use]
    pub fn plan_extend(
        &self,
        key: SlotKey<'_>,
        required: Option<f64>,
        now: impl Into<Now>,
    ) -> Option<ExtendPlan> {
        let now = now.into();
        let (hash, shard) = self.shard(key);
        let mut shard = shard.lock();
        let lease = shard.lease(hash, key).filter(|lease| lease.is_live(now))?;
        lease.plan_extend(required, self.knobs.of(key.credit_type_id), now.wall)
    }

    /// Notes that a slot is low; `true` if that was not reported lately.
    pub fn note_low(&self, key: SlotKey<'_>, now: impl Into<Now>) -> bool {
        let now = now.into().steady;
        let (hash, shard) = self.shard(key);
        let mut shard = shard.lock();
        let at = shard.open_slot(hash, key);
        let slot = &mut shard.slots[at as usize];
        if now < slot.low_told_until {
            return false;
        }
        slot.low_told_until = now.saturating_add(LOW_REMINDER);
        let name = (
            Arc::clone(&slot.company_id),
            Arc::clone(&slot.credit_type_id),
        );
        drop(shard);
        self.low.lock().push(name);
        true
    }

    /// Takes the slots that were noted as low.
    pub fn take_low(&self) -> Vec<(Arc<str>, Arc<str>)> {
        std::mem::take(&mut self.low.lock())
    }
}
