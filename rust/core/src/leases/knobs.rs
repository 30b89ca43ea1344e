//! What leases, holds and slabs are like: sizes, durations, shares.
//!
//! Knobs are set when a decider is made and never change after that.

use std::collections::HashMap;

use crate::{Millis, leases::SlabKnobs};

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
            lease_size: 10_000.0,
            lease_duration: 300_000,
            reservation_ttl: 60_000,
            low_water_mark: 0.25,
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
