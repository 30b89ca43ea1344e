//! What a check does when a store or the engine fails.

use schematic_core::leases::{Basis, Failure, FailureMode, Outcome, Refusal, Step, StepResult};

use crate::trace::{Trace, blind_allowance, debited, denial, metered};

#[test]
fn a_store_that_fails_at_the_debit_denies_a_closed_check() {
    let answers = [metered(), StepResult::StoreFailed];
    let trace = Trace::after(FailureMode::Closed, &answers);
    assert_eq!(trace.outcome(), denial(Failure::StoreError));
    assert_eq!(Failure::StoreError.as_str(), "lease_store_error");
}

#[test]
fn a_store_that_fails_at_the_debit_lets_the_rules_decide_an_open_check() {
    for value in [true, false] {
        let answers = [
            metered(),
            StepResult::StoreFailed,
            StepResult::Evaluated(Some(value)),
        ];
        let trace = Trace::after(FailureMode::Open, &answers);
        assert_eq!(trace.steps[2], Step::Open);
        let expected = Outcome {
            allowed: value,
            basis: Basis::Open(Failure::StoreError),
            low: false,
        };
        assert_eq!(trace.outcome(), expected);
    }
    let answers = [
        metered(),
        StepResult::StoreFailed,
        StepResult::Evaluated(None),
    ];
    let trace = Trace::after(FailureMode::Open, &answers);
    assert_eq!(trace.outcome(), blind_allowance(Failure::StoreError));
    assert_eq!(
        Failure::StoreError.as_fail_open(),
        "lease_store_error_fail_open"
    );
}

#[test]
fn a_store_that_fails_after_an_extend_is_a_store_error_and_no_shortage() {
    let answers = [
        metered(),
        StepResult::Refused(Refusal::Short),
        StepResult::Extended,
        StepResult::StoreFailed,
    ];
    let trace = Trace::after(FailureMode::Closed, &answers);
    assert_eq!(trace.outcome(), denial(Failure::StoreError));
}

#[test]
fn a_debit_whose_hold_was_not_recorded_is_refunded_before_the_check_fails() {
    for undone in [
        StepResult::Cancelled,
        StepResult::StoreFailed,
        StepResult::StoreLost,
    ] {
        let answers = [metered(), debited(), StepResult::StoreFailed];
        let mut trace = Trace::after(FailureMode::Closed, &answers);
        assert_eq!(trace.flow.step(), Step::Refund);
        trace.tell(undone.clone());
        assert_eq!(trace.outcome(), denial(Failure::StoreError));

        let mut trace = Trace::after(FailureMode::Open, &answers);
        assert_eq!(trace.flow.step(), Step::Refund);
        trace.tell(undone);
        assert_eq!(trace.flow.step(), Step::Open);
        trace.tell(StepResult::Evaluated(Some(true)));
        assert_eq!(trace.outcome().basis, Basis::Open(Failure::StoreError));
        assert_eq!(trace.flow.hold(), None);
    }
}

#[test]
fn a_verdict_stands_when_its_cancel_fails() {
    for mode in [FailureMode::Closed, FailureMode::Open] {
        for cancelled in [StepResult::Cancelled, StepResult::StoreFailed] {
            let answers = [
                metered(),
                debited(),
                StepResult::Recorded,
                StepResult::Evaluated(Some(false)),
                cancelled,
            ];
            let trace = Trace::after(mode, &answers);
            assert_eq!(trace.steps[4], Step::Cancel);
            let expected = Outcome {
                allowed: false,
                basis: Basis::Gate,
                low: false,
            };
            assert_eq!(trace.outcome(), expected);
        }
    }
}

#[test]
fn a_gate_that_fails_is_resolved_by_the_mode_whether_or_not_its_cancel_succeeds() {
    for cancelled in [StepResult::Cancelled, StepResult::StoreFailed] {
        let answers = [
            metered(),
            debited(),
            StepResult::Recorded,
            StepResult::Evaluated(None),
            cancelled,
        ];
        let closed = Trace::after(FailureMode::Closed, &answers);
        assert_eq!(closed.steps[4], Step::Cancel);
        assert_eq!(closed.outcome(), denial(Failure::EngineError));
        let open = Trace::after(FailureMode::Open, &answers);
        assert_eq!(open.outcome(), blind_allowance(Failure::EngineError));
        assert_eq!(open.count(|step| *step == Step::Open), 0);
    }
}
