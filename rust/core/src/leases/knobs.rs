//! What leases, holds and slabs are like: sizes, durations, shares.
//!
//! Knobs are set when a decider is made and never change after that.

use std::collections::HashMap;

use crate::{Millis, leases::SlabKnobs};

/// Credits asked for at an acquire, unless a knob says otherwise.
pub const LEASE_SIZE: f64 = 10_000.0;
/// How long a lease is asked for, unless a knob says otherwise, in milliseconds.
pub const LEASE_DURATION: Millis = 300_000;
/// How long a hold lives, unless a knob says otherwise, in milliseconds.
pub const RESERVATION_TTL: Millis = 60_000;
/// The share of its grant at which a lease is low, unless a knob says otherwise.
pub const LOW_WATER_MARK: f64 = 0.25;
/// The most credits that a lease may have: larger amounts lose whole credits to rounding.
pub const LARGEST_LEASE: f64 = 1e18;
/// The longest duration, in milliseconds: a century. Longer ones are mistakes, and shorter ones cannot overflow
/// an instant.
pub const LONGEST_TERM: Millis = 3_155_760_000_000;

/// What one credit type's leases are like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LeaseKnobs {
    /// Credits asked for at an acquire, and the least asked for at an extend.
    pub lease_size: f64,
    /// How long a lease is asked for, in milliseconds.
    pub lease_duration: Millis,
    /// How long a hold lives, in milliseconds.
    pub reservation_ttl: Millis,
    /// A lease is extended in the background at or below this share of its grant.
    pub low_water_mark: f64,
}

impl LeaseKnobs {
    /// The balance at or below which a lease of this grant is low, in credits.
    #[must_use]
    pub const fn low_at(&self, granted: f64) -> f64 {
        self.low_water_mark * granted.max(1.0)
    }
}

impl Default for LeaseKnobs {
    fn default() -> Self {
        Self {
            lease_size: LEASE_SIZE,
            lease_duration: LEASE_DURATION,
            reservation_ttl: RESERVATION_TTL,
            low_water_mark: LOW_WATER_MARK,
        }
    }
}

/// The knobs of every credit type: common ones, and overrides by credit type id.
#[derive(Clone, Debug, Default)]
pub struct Knobs {
    common: LeaseKnobs,
    slabs: Option<SlabKnobs>,
    overrides: HashMap<Box<str>, LeaseKnobs>,
}

impl Knobs {
    /// Knobs without overrides.
    #[must_use]
    pub fn new(common: LeaseKnobs) -> Self {
        Self {
            common,
            slabs: None,
            overrides: HashMap::new(),
        }
    }

    /// The same, with slabs.
    #[must_use]
    pub fn with_slabs(self, slabs: Option<SlabKnobs>) -> Self {
        Self { slabs, ..self }
    }

    /// How slabs are cut; `None` without them.
    #[must_use]
    pub const fn slabs(&self) -> Option<&SlabKnobs> {
        self.slabs.as_ref()
    }

    /// The common knobs.
    #[must_use]
    pub const fn common(&self) -> &LeaseKnobs {
        &self.common
    }

    /// Sets the knobs of one credit type.
    pub fn set(&mut self, credit_type_id: &str, knobs: LeaseKnobs) {
        self.overrides.insert(credit_type_id.into(), knobs);
    }

    /// The knobs of a credit type.
    #[must_use]
    pub fn of(&self, credit_type_id: &str) -> &LeaseKnobs {
        if self.overrides.is_empty() {
            return &self.common;
        }
        self.overrides.get(credit_type_id).unwrap_or(&self.common)
    }
}
