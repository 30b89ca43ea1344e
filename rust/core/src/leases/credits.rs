//! Amounts of credits, exact.
//!
//! Balances are never sums of doubles: those forget small parts.

use std::ops::{Add, AddAssign, Sub, SubAssign};

/// An exact amount of credits: fixed-point, in units of 2^-64.
///
/// Every double from 2^-12 to 2^62 converts without loss and back; a smaller fraction loses what
/// lies below the unit, once, on entry. Sums are therefore exact, in any order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Credits(i128);

const UNITS_PER_CREDIT: f64 = 18_446_744_073_709_551_616.0;
/// Above this a sum of two amounts could leave the range of the representation.
const LARGEST: f64 = 4_611_686_018_427_387_904.0;

impl Credits {
    /// No credits.
    pub const ZERO: Self = Self(0);

    /// The amount, or `None` if it is negative, not finite or above 2^62 credits.
    #[must_use]
    pub fn new(credits: f64) -> Option<Self> {
        if !(0.0..=LARGEST).contains(&credits) {
            return None;
        }
        // Scaling by a power of two is exact, and the range was checked, so nothing is cut off
        // but the part below one unit.
        #[allow(clippy::cast_possible_truncation, reason = "range checked above")]
        Some(Self((credits * UNITS_PER_CREDIT) as i128))
    }

    /// The nearest double.
    #[must_use]
    pub fn to_f64(self) -> f64 {
        #[allow(
            clippy::cast_precision_loss,
            reason = "the nearest double is what is wanted"
        )]
        let units = self.0 as f64;
        units / UNITS_PER_CREDIT
    }
}

impl Add for Credits {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }
}

impl Sub for Credits {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0 - other.0)
    }
}

impl AddAssign for Credits {
    fn add_assign(&mut self, other: Self) {
        self.0 += other.0;
    }
}

impl SubAssign for Credits {
    fn sub_assign(&mut self, other: Self) {
        self.0 -= other.0;
    }
}

#[cfg(test)]
mod tests {
    use super::Credits;

    #[test]
    fn what_is_not_an_amount_is_refused() {
        for bad in [
            -1.0,
            -0.000_1,
            f64::NAN,
            f64::INFINITY,
            f64::NEG_INFINITY,
            1e19,
        ] {
            assert_eq!(Credits::new(bad), None, "{bad}");
        }
        assert_eq!(Credits::new(-0.0), Some(Credits::ZERO));
    }

    #[test]
    fn doubles_survive_the_round_trip() {
        for amount in [
            0.0,
            0.1,
            0.3,
            1.0 / 3.0,
            1e12 + 0.1,
            9_007_199_254_740_993.0,
            2f64.powi(62),
        ] {
            assert_eq!(Credits::new(amount).map(Credits::to_f64), Some(amount));
        }
    }

    #[test]
    fn ten_dimes_taken_and_returned_leave_the_balance_as_it_was() {
        let dime = Credits::new(0.1).unwrap_or_default();
        let opening = Credits::new(1e12).unwrap_or_default();
        let mut balance = opening;
        (0..10).for_each(|_| balance -= dime);
        assert!(balance < opening);
        (0..10).for_each(|_| balance += dime);
        assert_eq!(balance, opening);
    }
}
