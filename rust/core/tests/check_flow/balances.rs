//! Whether a debit is given back just once, by a ledger that breaks at each step.

use schematic_core::leases::{
    CheckFlow, Failure, FailureMode, Knobs, LeaseKnobs, Ledger, NewLease, Step, StepResult,
};

use crate::trace::{NOW, SLOT, TTL, Trace, begin, metered};

const GRANTED: f64 = 90.0;
const OTHERS: f64 = 40.0;

/// Where a store breaks.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    RecordLost,
    RecordLandedUnheard,
    RecordLostAndRefund,
    RecordLandedUnheardAndCancel,
    RecordLandsLate,
    Cancel,
}

/// Runs a check that the gate denies against a ledger that breaks where it is told to.
fn run(fault: Fault, mode: FailureMode) -> (Trace, Ledger) {
    let ledger = Ledger::new(Knobs::new(LeaseKnobs::default()));
    let lease = NewLease {
        lease_id: "lease_amber",
        granted: GRANTED,
        expires_at: NOW + 10 * TTL,
    };
    ledger.install(SLOT, &lease, NOW);
    // Others hold credits too: a second refund would otherwise be hidden by the clamp at the grant.
    assert!(ledger.try_reserve(SLOT, OTHERS, NOW).is_ok());
    let mut trace = begin(mode);
    while !matches!(trace.flow.step(), Step::Done(_)) {
        let answer = answer(&ledger, &trace.flow, fault);
        trace.tell(answer);
        assert!(trace.steps.len() < 20, "a flow that does not end");
    }
    (trace, ledger)
}

fn answer(ledger: &Ledger, flow: &CheckFlow, fault: Fault) -> StepResult {
    let hold = || flow.hold().expect("credits are debited");
    match flow.step() {
        Step::Probe => metered(),
        Step::Reserve => match ledger.try_reserve(SLOT, flow.cost(), NOW) {
            Ok(debit) => StepResult::Debited(debit),
            Err(refusal) => StepResult::Refused(refusal),
        },
        Step::Record => match fault {
            Fault::RecordLost | Fault::RecordLostAndRefund => StepResult::StoreFailed,
            Fault::RecordLandedUnheard | Fault::RecordLandedUnheardAndCancel => {
                assert!(ledger.add(hold(), None, NOW));
                StepResult::StoreLost
            }
            Fault::RecordLandsLate => StepResult::StoreLost,
            Fault::Cancel => {
                assert!(ledger.add(hold(), None, NOW));
                StepResult::Recorded
            }
        },
        Step::Cancel | Step::Refund
            if matches!(
                fault,
                Fault::RecordLostAndRefund | Fault::RecordLandedUnheardAndCancel
            ) =>
        {
            StepResult::StoreFailed
        }
        Step::Cancel if fault != Fault::Cancel => match ledger.consume(hold(), 0.0) {
            Some(_) => StepResult::Cancelled,
            None => StepResult::Gone,
        },
        Step::Refund => {
            let hold = hold();
            ledger.refund(SLOT, hold.credits_reserved, Some(&hold.lease_id));
            StepResult::Cancelled
        }
        Step::Gate { .. } | Step::Open => StepResult::Evaluated(Some(false)),
        Step::Cancel => StepResult::StoreFailed,
        step => panic!("{step:?} is not asked with a live lease at hand"),
    }
}

fn remaining(ledger: &Ledger) -> f64 {
    ledger.lease(SLOT).expect("the lease is there").remaining
}

#[test]
fn a_failed_record_gives_the_debit_back_exactly_once_whether_or_not_the_record_landed() {
    for mode in [FailureMode::Closed, FailureMode::Open] {
        for fault in [Fault::RecordLost, Fault::RecordLandedUnheard] {
            let (trace, ledger) = run(fault, mode);
            assert_eq!(
                trace.count(|step| matches!(step, Step::Refund | Step::Cancel)),
                1,
                "{fault:?}"
            );
            assert_eq!(trace.outcome().failure(), Some(Failure::StoreError));
            assert!(!trace.outcome().allowed);
            assert_eq!(remaining(&ledger), GRANTED - OTHERS, "{fault:?}");
            assert_eq!(
                (ledger.open_holds(), ledger.reserved_credits(SLOT)),
                (0, 0.0)
            );
            assert_eq!(ledger.sweep(NOW + TTL), 0);
        }
    }
}

#[test]
fn a_record_that_may_land_later_is_not_refunded_besides() {
    for mode in [FailureMode::Closed, FailureMode::Open] {
        let (trace, ledger) = run(Fault::RecordLandsLate, mode);
        assert_eq!(trace.outcome().failure(), Some(Failure::StoreError));
        assert_eq!(trace.count(|step| matches!(step, Step::Refund)), 0);
        assert_eq!(remaining(&ledger), GRANTED - OTHERS - 32.0);
        // It lands after all: the sweep gives the debit back, and nobody gave it back before.
        assert!(ledger.add(&trace.hold(), None, NOW));
        assert_eq!(ledger.sweep(NOW + TTL), 1);
        assert_eq!(remaining(&ledger), GRANTED - OTHERS);
    }
}

#[test]
fn a_hold_that_can_neither_be_refunded_nor_cancelled_leaks_no_longer_than_its_time() {
    for fault in [Fault::RecordLandedUnheardAndCancel, Fault::Cancel] {
        let (trace, ledger) = run(fault, FailureMode::Closed);
        assert!(!trace.outcome().allowed);
        assert_eq!(remaining(&ledger), GRANTED - OTHERS - 32.0, "{fault:?}");
        assert_eq!(ledger.sweep(NOW + TTL - 1), 0);
        assert_eq!(ledger.sweep(NOW + TTL), 1);
        assert_eq!(remaining(&ledger), GRANTED - OTHERS);
    }
    let (_, ledger) = run(Fault::RecordLostAndRefund, FailureMode::Closed);
    assert_eq!(remaining(&ledger), GRANTED - OTHERS - 32.0);
    assert_eq!(ledger.open_holds(), 0);
}
