//! What a settlement claims and bills.

use schematic_core::leases::{
    FailureMode, Mode, Reservation, Settlement, valid_quantity, whole_units,
};
use std::sync::Arc;

use crate::trace::{Trace, debited, metered};

fn reservation(mode: Mode) -> Arc<Reservation> {
    let trace = Trace::after(FailureMode::Closed, &[metered(), debited()]);
    Arc::new(Reservation {
        mode,
        ..(*trace.hold()).clone()
    })
}

#[test]
fn what_is_no_quantity_is_not_settled() {
    for quantity in [-1.0, -1e-300, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        assert!(!valid_quantity(quantity), "{quantity}");
        let hold = reservation(Mode::Client);
        assert!(Settlement::begin(&hold, quantity).is_none(), "{quantity}");
    }
    for quantity in [0.0, -0.0, 1e-300, 1e300] {
        assert!(valid_quantity(quantity), "{quantity}");
    }
}

#[test]
fn our_own_hold_is_claimed_at_whole_events() {
    let hold = reservation(Mode::Client);
    let settlement = Settlement::begin(&hold, 2.25).expect("a quantity");
    assert_eq!((settlement.units(), settlement.claim()), (3, Some(12.0)));
    assert_eq!(*settlement.reservation(), hold);
    let settlement = Settlement::begin(&hold, 0.0).expect("a quantity");
    assert_eq!((settlement.units(), settlement.claim()), (0, Some(0.0)));
}

#[test]
fn a_hold_of_the_service_is_billed_and_claimed_nowhere() {
    let hold = reservation(Mode::Server);
    let settlement = Settlement::begin(&hold, 2.25).expect("a quantity");
    assert_eq!((settlement.units(), settlement.claim()), (3, None));
}

#[test]
fn a_bill_ends_at_the_largest_integer() {
    assert_eq!(whole_units(1e300), i64::MAX);
    assert_eq!(whole_units(4_000_000_000_000.5), 4_000_000_000_001);
}
