//! Settlements: what is claimed of a hold, and what is billed.
//!
//! Only whole, non-negative event units are billed.

use std::sync::Arc;

use crate::leases::{Mode, Reservation};

/// Whether a quantity can be settled: finite and not negative.
#[must_use]
pub fn valid_quantity(quantity: f64) -> bool {
    quantity.is_finite() && quantity >= 0.0
}

/// Whole event units, as a billing event reports them.
#[must_use]
pub fn whole_units(quantity: f64) -> i64 {
    #[allow(
        clippy::cast_possible_truncation,
        reason = "a cast from a double saturates"
    )]
    let units = quantity.ceil() as i64;
    units
}

/// Credits that a quantity costs: whole units at the rate.
#[must_use]
pub fn credits_used(quantity: f64, rate: f64) -> f64 {
    quantity.ceil() * rate
}

/// The settling of one reservation: claim the hold, then always bill.
///
/// The claim decides only whether local state moved; the billing event goes out either way,
/// because the hold may have been swept while the work was real.
#[derive(Clone, Copy, Debug)]
pub struct Settlement<'a> {
    reservation: &'a Arc<Reservation>,
    units: i64,
    credits: f64,
}

impl<'a> Settlement<'a> {
    /// Begins to settle with what was really used; `None` if the quantity cannot be settled.
    #[must_use]
    pub fn begin(reservation: &'a Arc<Reservation>, actual_quantity: f64) -> Option<Self> {
        valid_quantity(actual_quantity).then(|| Self {
            units: whole_units(actual_quantity),
            credits: credits_used(actual_quantity, reservation.terms.rate),
            reservation,
        })
    }

    /// The credits to claim from the store, or `None` where the service holds them.
    #[must_use]
    pub fn claim(&self) -> Option<f64> {
        (self.reservation.mode == Mode::Client).then_some(self.credits)
    }

    /// What is settled.
    #[must_use]
    pub const fn reservation(&self) -> &'a Arc<Reservation> {
        self.reservation
    }

    /// Whole units to bill.
    #[must_use]
    pub const fn units(&self) -> i64 {
        self.units
    }
}
