//! What to ask the service for: a new lease, or more credits in one.
//!
//! A plan is only a proposal. Nothing here changes a lease.

use std::sync::Arc;

use crate::{
    Millis,
    leases::{Credits, LeaseKnobs},
};

/// A lease to ask the service for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AcquirePlan {
    /// Credits to ask for.
    pub requested_amount: f64,
    /// When the lease shall end.
    pub expires_at: Millis,
}

/// An extend to ask the service for.
#[derive(Clone, Debug, PartialEq)]
pub struct ExtendPlan {
    /// The lease to extend.
    pub lease_id: Arc<str>,
    /// Credits to add.
    pub additional_amount: f64,
    /// Credits that a check lacks: fewer do not help it.
    pub shortfall: f64,
    /// When the lease shall end.
    pub expires_at: Millis,
}

impl LeaseKnobs {
    /// The lease to ask for now.
    #[must_use]
    pub const fn acquire(&self, now: Millis) -> AcquirePlan {
        AcquirePlan {
            requested_amount: self.lease_size,
            expires_at: now.saturating_add(self.lease_duration),
        }
    }
}

impl ExtendPlan {
    /// The extend that is due for a lease, or that `required` credits need; `None` if none is.
    pub(super) fn of(
        lease: &LeaseBalance<'_>,
        required: Option<f64>,
        knobs: &LeaseKnobs,
        now: Millis,
    ) -> Option<Self> {
        let required = required.and_then(Credits::new).unwrap_or_default();
        if lease.remaining > lease.low_at && lease.remaining >= required {
            return None;
        }
        let shortfall = if required > lease.remaining {
            required - lease.remaining
        } else {
            Credits::ZERO
        };
        Some(Self {
            lease_id: lease.lease_id.into(),
            additional_amount: knobs.lease_size.max(shortfall.to_f64()),
            shortfall: shortfall.to_f64(),
            expires_at: now.saturating_add(knobs.lease_duration),
        })
    }
}

/// What decides whether a lease needs an extend.
pub(super) struct LeaseBalance<'a> {
    pub lease_id: &'a str,
    pub remaining: Credits,
    /// The lease is low at or below this balance.
    pub low_at: Credits,
}

/// The balance at or below which a lease of this grant is low.
pub(super) fn low_at(granted: Credits, knobs: &LeaseKnobs) -> Credits {
    Credits::new(knobs.low_at(granted.to_f64())).unwrap_or_default()
}

/// A live lease in a store that other processes share.
#[derive(Clone, Copy, Debug)]
pub struct SharedBalance<'a> {
    /// The lease's id.
    pub lease_id: &'a str,
    /// The service's total for it, in credits.
    pub granted: f64,
    /// What may still be reserved, in credits.
    pub remaining: f64,
}

impl SharedBalance<'_> {
    /// The extend that is due, or that `required` credits need; `None` if none is.
    #[must_use]
    pub fn plan_extend(
        &self,
        required: Option<f64>,
        knobs: &LeaseKnobs,
        now: Millis,
    ) -> Option<ExtendPlan> {
        let lease = LeaseBalance {
            lease_id: self.lease_id,
            remaining: Credits::new(self.remaining).unwrap_or_default(),
            low_at: low_at(Credits::new(self.granted)?, knobs),
        };
        ExtendPlan::of(&lease, required, knobs, now)
    }
}
