//! The lease in a slot: what was granted and what is left of it.
//!
//! Where processes share leases, what lies in a slot is a slab: a part that this process took of the shared lease. What
//! remains never exceeds the grant, and a grant never shrinks.

use std::sync::Arc;

use crate::{
    Millis, Now,
    leases::{
        Credits, ExtendPlan, LeaseKnobs, ReservationId, SlabId, SlabUse,
        plan::{LeaseBalance, low_at},
        slab::Slab,
    },
};

/// A lease as the service granted it.
#[derive(Clone, Copy, Debug)]
pub struct NewLease<'a> {
    /// Its id.
    pub lease_id: &'a str,
    /// The service's total for it, in credits.
    pub granted: f64,
    /// When it ends.
    pub expires_at: Millis,
}

#[derive(Debug)]
pub(super) struct SlotLease {
    pub id: Arc<str>,
    pub granted: Credits,
    pub remaining: Credits,
    pub low_at: Credits,
    pub expires_at: Millis,
    /// Set where the credits are a part that this process took of a shared lease.
    pub slab: Option<Slab>,
}

impl SlotLease {
    pub fn new(lease: &NewLease<'_>, granted: Credits, knobs: &LeaseKnobs) -> Self {
        Self {
            id: lease.lease_id.into(),
            granted,
            remaining: granted,
            low_at: low_at(granted, knobs),
            expires_at: lease.expires_at,
            slab: None,
        }
    }

    pub fn is_live(&self, now: Now) -> bool {
        self.expires_at > now.wall && self.slab.as_ref().is_none_or(|slab| slab.is_live(now))
    }

    /// Raises the grant to the service's total and moves the expiry forward, never back.
    pub fn reconcile(&mut self, total: Credits, expires_at: Option<Millis>, knobs: &LeaseKnobs) {
        if total > self.granted {
            self.remaining += total - self.granted;
            self.granted = total;
            self.low_at = low_at(total, knobs);
        }
        self.expires_at = self.expires_at.max(expires_at.unwrap_or(Millis::MIN));
    }

    pub fn refund(&mut self, credits: Credits) {
        self.remaining = (self.remaining + credits).min(self.granted);
    }

    /// The extend that is due, or that `required` credits need.
    pub fn plan_extend(
        &self,
        required: Option<f64>,
        knobs: &LeaseKnobs,
        now: Millis,
    ) -> Option<ExtendPlan> {
        let balance = LeaseBalance {
            lease_id: &self.id,
            remaining: self.remaining,
            low_at: self.low_at,
        };
        ExtendPlan::of(&balance, required, knobs, now)
    }

    /// Whether this is the lease that a caller pinned; any is, without a pin.
    pub fn fits(&self, pin: Option<&str>) -> bool {
        pin.is_none_or(|pin| *self.id == *pin)
    }
}

// What a slab is besides a lease.
impl SlotLease {
    pub fn is_slab(&self, id: SlabId) -> bool {
        self.slab.as_ref().is_some_and(|slab| slab.id() == id)
    }

    pub fn has_holds(&self) -> bool {
        self.slab.as_ref().is_some_and(Slab::has_holds)
    }

    pub fn end_hold(&mut self, used: Credits, unused: Credits) {
        self.refund(unused);
        if let Some(slab) = &mut self.slab {
            slab.end_hold(used);
        }
    }

    pub fn end_elsewhere(&mut self, used: Credits, unused: Credits) {
        self.refund(unused);
        if let Some(slab) = &mut self.slab {
            slab.end_elsewhere(used);
        }
    }

    pub fn demand(&self, now: Now) -> f64 {
        let used = (self.granted - self.remaining).to_f64();
        self.slab
            .as_ref()
            .map_or(0.0, |slab| slab.demand(used, now))
    }

    pub fn into_closed(self, open: &[(ReservationId, Credits)]) -> Option<SlabUse> {
        let gone = self.granted - self.remaining;
        self.slab.map(|slab| slab.close(gone, open))
    }
}
