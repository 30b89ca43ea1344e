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
        // The whole and the fraction each fit a machine word, which spares the slow conversion to
        // 128 bits. Subtracting the whole and scaling by a power of two are exact, so nothing is
        // cut off but the part below one unit.
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_precision_loss,
            clippy::cast_sign_loss,
            reason = "the range was checked, and what is cut off is taken as the fraction"
        )]
        let units = {
            let whole = credits as i64;
            let fraction = (credits - whole as f64) * UNITS_PER_CREDIT;
            i128::from(whole) << 64 | i128::from(fraction as u64)
        };
        Some(Self(units))
    }

    /// The nearest double.
    #[must_use]
    pub fn to_f64(self) -> f64 {
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_precision_loss,
            clippy::cast_sign_loss,
            reason = "the nearest double is what is wanted, and an amount of whole credits has no lower half"
        )]
        if self.0 as u64 == 0 {
            // The word that holds whole credits is converted much faster than all the units.
            (self.0 >> 64) as i64 as f64
        } else {
            self.0 as f64 / UNITS_PER_CREDIT
        }
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
    #![allow(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        reason = "what is tested is how amounts are rounded"
    )]

    use proptest::prelude::*;

    use super::{Credits, UNITS_PER_CREDIT};

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

    proptest! {
        #[test]
        fn an_amount_is_the_number_of_units_that_fit_into_it(
            credits in prop_oneof![
                0.0..=2f64.powi(62),
                0.0..1e6,
                0.0..1.0,
                (0..u64::MAX >> 2).prop_map(|whole| whole as f64),
                (0..1_u64 << 60).prop_map(f64::from_bits),
            ],
        ) {
            let units = (credits * UNITS_PER_CREDIT) as i128;
            prop_assert_eq!(Credits::new(credits), Some(Credits(units)));
        }

        #[test]
        fn an_amount_reads_as_the_nearest_double(
            units in prop_oneof![
                -(1_i128 << 126)..1 << 126,
                (-(1_i128 << 62)..1 << 62).prop_map(|whole| whole << 64),
                -1000..1000_i128,
            ],
        ) {
            prop_assert_eq!(Credits(units).to_f64(), units as f64 / UNITS_PER_CREDIT);
        }
    }
}
