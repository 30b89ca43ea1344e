//! What a hold is made of, and what becomes of its draft.

use schematic_core::{
    Millis,
    engine::Terms,
    leases::{CheckFlow, Exported, Failure, FailureMode, Ids, Mode, Reservation, Step, StepResult},
};
use std::sync::Arc;

use crate::trace::{
    NOW, SEED, SLOT, TTL, Trace, begin, blind_allowance, debited, denial, held, holder, metered,
    terms,
};

#[test]
fn a_hold_is_made_of_the_check_the_debit_and_what_was_passed_in() {
    let trace = Trace::after(FailureMode::Closed, &[metered(), debited()]);
    let expected = Reservation {
        id: Ids::new(SEED).next(),
        lease_id: "lease_amber".into(),
        mode: Mode::Client,
        holder: holder(),
        terms: Arc::new(Terms {
            credit_id: SLOT.credit_type_id.into(),
            event_subtype: "frames_rendered".into(),
            rate: 4.0,
        }),
        quantity_reserved: 7.5,
        credits_reserved: 32.0,
        expires_at: NOW + TTL,
        exported: Exported::default(),
    };
    assert_eq!(*trace.hold(), expected);
}

#[test]
fn the_gate_is_asked_with_the_balance_before_the_debit() {
    let answers = [metered(), debited(), StepResult::Recorded];
    let trace = Trace::after(FailureMode::Closed, &answers);
    assert_eq!(trace.flow.step(), Step::Gate { balance: 90.0 });
    assert_eq!(trace.flow.cost(), 32.0);
}

#[test]
fn ids_are_drawn_in_the_order_of_the_seed() {
    let (ids, replay) = (Ids::new(SEED), Ids::new(SEED));
    for _ in 0..3 {
        let mut trace = begin(FailureMode::Closed);
        for answer in [metered(), debited()] {
            trace.flow.advance(answer, NOW, TTL, &ids);
        }
        let hold = trace.flow.hold().expect("the hold is to be recorded");
        assert_eq!(hold.id, replay.next());
    }
}

#[test]
fn an_endless_time_to_live_does_not_overflow() {
    let mut trace = begin(FailureMode::Closed);
    trace.tell(metered());
    trace
        .flow
        .advance(debited(), NOW, Millis::MAX, &Ids::new(SEED));
    let hold = trace.flow.hold().expect("the hold is to be recorded");
    assert_eq!(hold.expires_at, Millis::MAX);
}

#[test]
fn a_usage_that_is_no_quantity_asks_nobody() {
    for usage in [-1.0, -0.001, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let closed = CheckFlow::begin(usage, None, FailureMode::Closed, holder());
        let expected = Step::Done(denial(Failure::InvalidUsage));
        assert_eq!(closed.step(), expected, "{usage}");
        let open = CheckFlow::begin(usage, None, FailureMode::Open, holder());
        let expected = Step::Done(blind_allowance(Failure::InvalidUsage));
        assert_eq!(open.step(), expected, "{usage}");
    }
}

#[test]
fn a_rate_that_is_no_number_is_no_price() {
    for rate in [f64::NAN, f64::NEG_INFINITY, -0.0] {
        let trace = Trace::after(FailureMode::Closed, &[terms(rate)]);
        assert_eq!(trace.flow.step(), Step::Plain, "{rate}");
    }
}

#[test]
fn a_hold_that_is_debited_and_recorded_at_once_is_gated_like_any_other() {
    for value in [Some(true), Some(false), None] {
        let gated = StepResult::Evaluated(value);
        let at_once = Trace::drafting(FailureMode::Closed, &[metered(), held(), gated.clone()]);
        let apart = [metered(), debited(), StepResult::Recorded, gated];
        let apart = Trace::after(FailureMode::Closed, &apart);
        assert_eq!(at_once.flow.step(), apart.flow.step());
        assert_eq!(
            at_once.steps[2], apart.steps[3],
            "gated by the same balance"
        );
        let (hold, other) = (at_once.hold(), apart.hold());
        assert_eq!(hold, other);
    }
}

#[test]
fn a_draft_becomes_the_hold_of_its_debit() {
    let mut trace = Trace::drafting(FailureMode::Closed, &[metered()]);
    let draft = trace.flow.hold().cloned().expect("a draft");
    trace.tell(held());
    let expected = Reservation {
        lease_id: "lease_amber".into(),
        expires_at: NOW + TTL,
        ..Reservation::clone(&draft)
    };
    assert_eq!(*trace.hold(), expected);
    assert_eq!(trace.flow.slot(), Some(SLOT));
}
