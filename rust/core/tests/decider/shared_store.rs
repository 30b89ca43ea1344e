//! Checks whose leases live in a store that other processes share.

use schematic_core::{
    Millis,
    decider::{Need, Pending, Reply, Topic},
    leases::{Failure, FailureMode, Refusal, Reservation},
};
use std::sync::Arc;

use crate::studio::{NOW, Studio, balance_of, done, flag, on_plan, waiting};

#[test]
fn a_shared_store_is_asked_to_debit_to_record_and_nothing_else() {
    let studio = Studio::shared();
    let pending = waiting(studio.check(3.0, FailureMode::Closed));
    drafted(&pending);
    let debited = Reply::Debited {
        remaining: 9.0,
        granted: 80.0,
        lease_id: "lease_elsewhere".into(),
        at: NOW - 7000,
        recorded: false,
    };
    let pending = waiting(studio.decider.resume(pending, debited, NOW));
    let Need::Record(hold) = pending.need().clone() else {
        panic!("the check waits for {:?}", pending.need());
    };
    assert_eq!(&*hold.lease_id, "lease_elsewhere");
    assert_eq!(hold.expires_at, NOW - 7000 + 20_000, "by the store's clock");
    let answer = done(studio.decider.resume(pending, Reply::Done(true), NOW));
    assert!(answer.allowed);
    assert_eq!(answer.reservation, Some(hold));
    assert_eq!(studio.decider.ledger().open_holds(), 0);
    assert_eq!(studio.wakes(Topic::Extend), 1, "9 of 80 is low");
}

#[test]
fn a_hold_that_the_shared_store_refuses_is_refunded_there() {
    let studio = Studio::shared();
    let pending = waiting(studio.check(3.0, FailureMode::Closed));
    let pending = waiting(studio.decider.resume(pending, plenty(), NOW));
    let pending = waiting(studio.decider.resume(pending, Reply::Done(false), NOW));
    assert!(matches!(pending.need(), Need::Refund(_)));
    let answer = done(studio.decider.resume(pending, Reply::Done(true), NOW));
    assert_eq!(answer.error, Some(Failure::StoreError));
}

#[test]
fn a_hold_of_which_the_shared_store_said_nothing_is_claimed_and_not_refunded_besides() {
    let studio = Studio::shared();
    let pending = waiting(studio.check(3.0, FailureMode::Closed));
    let pending = waiting(studio.decider.resume(pending, plenty(), NOW));
    let pending = waiting(studio.decider.resume(pending, Reply::Lost, NOW));
    assert!(matches!(pending.need(), Need::Cancel(_)));
    let answer = done(studio.decider.resume(pending, Reply::Gone, NOW));
    assert_eq!(answer.error, Some(Failure::StoreError));
}

#[test]
fn a_reply_to_another_need_is_not_taken() {
    let studio = Studio::shared();
    let pending = waiting(studio.check(3.0, FailureMode::Closed));
    assert!(
        !pending.takes(&Reply::Done(true)),
        "a debit is told in full"
    );
    assert!(!pending.takes(&Reply::Gone));
    assert!(pending.takes(&Reply::Done(false)));
    assert!(pending.takes(&Reply::Lost));
    let pending = waiting(studio.decider.resume(pending, plenty(), NOW));
    assert!(!pending.takes(&plenty()));
    assert!(!pending.takes(&Reply::Refused(Refusal::Short)));
    assert!(!pending.takes(&Reply::Gone));
}

#[test]
fn a_shared_store_that_is_short_is_extended_once() {
    let studio = Studio::shared();
    let pending = waiting(studio.check(3.0, FailureMode::Closed));
    let refused = Reply::Refused(Refusal::Short);
    let pending = waiting(studio.decider.resume(pending, refused.clone(), NOW));
    assert_eq!(*pending.need(), Need::Extend);
    let pending = waiting(studio.decider.resume(pending, Reply::Done(true), NOW));
    drafted(&pending);
    let answer = done(studio.decider.resume(pending, refused, NOW));
    assert_eq!(answer.error, Some(Failure::InsufficientBalance));
}

#[test]
fn a_shared_store_that_debits_and_records_at_once_is_asked_for_nothing_else() {
    let studio = Studio::shared();
    let pending = waiting(studio.check(3.0, FailureMode::Closed));
    let (draft, ttl) = drafted(&pending);
    assert_eq!((&*draft.lease_id, ttl), ("", 20_000));
    let held = Reply::Debited {
        remaining: 9.0,
        granted: 80.0,
        lease_id: "lease_elsewhere".into(),
        at: NOW - 7000,
        recorded: true,
    };
    assert!(pending.takes(&held));
    let answer = done(studio.decider.resume(pending, held, NOW));
    assert!(answer.allowed);
    let expected = Reservation {
        lease_id: "lease_elsewhere".into(),
        expires_at: NOW - 7000 + ttl,
        ..Reservation::clone(&draft)
    };
    assert_eq!(answer.reservation.as_deref(), Some(&expected));
    assert_eq!(studio.decider.ledger().open_holds(), 0);
}

#[test]
fn a_hold_that_was_recorded_at_once_is_cancelled_if_the_gate_denies_it() {
    let studio = Studio::shared();
    studio.put_flag(&flag(&[on_plan("plan_hobby"), balance_of("cred_render")]));
    let pending = waiting(studio.check(3.0, FailureMode::Closed));
    let (draft, _) = drafted(&pending);
    let held = Reply::Debited {
        remaining: 70.0,
        granted: 80.0,
        lease_id: "lease_elsewhere".into(),
        at: NOW,
        recorded: true,
    };
    let pending = waiting(studio.decider.resume(pending, held, NOW));
    let Need::Cancel(unused) = pending.need() else {
        panic!("the check waits for {:?}", pending.need());
    };
    assert_eq!(unused.id, draft.id);
    assert!(!done(studio.decider.resume(pending, Reply::Done(true), NOW)).allowed);
}

#[test]
fn a_hold_that_may_have_been_debited_and_recorded_at_once_is_claimed_and_nothing_else() {
    let studio = Studio::shared();
    for reply in [Reply::Done(true), Reply::Gone, Reply::Lost] {
        let pending = waiting(studio.check(3.0, FailureMode::Closed));
        let (draft, _) = drafted(&pending);
        let pending = waiting(studio.decider.resume(pending, Reply::Lost, NOW));
        assert_eq!(*pending.need(), Need::Cancel(draft));
        let answer = done(studio.decider.resume(pending, reply, NOW));
        assert_eq!(answer.error, Some(Failure::StoreError));
        assert_eq!(answer.reservation, None);
    }
}

#[test]
fn a_draft_that_was_refused_is_the_draft_of_the_second_try() {
    let studio = Studio::shared();
    let pending = waiting(studio.check(3.0, FailureMode::Closed));
    let (draft, _) = drafted(&pending);
    let refused = Reply::Refused(Refusal::Short);
    let pending = waiting(studio.decider.resume(pending, refused, NOW));
    let pending = waiting(studio.decider.resume(pending, Reply::Done(true), NOW));
    assert_eq!(drafted(&pending).0, draft);
}

fn drafted(pending: &Pending) -> (Arc<Reservation>, Millis) {
    match pending.need() {
        Need::Reserve { draft, ttl } => (Arc::clone(draft), *ttl),
        need => panic!("the check waits for {need:?}"),
    }
}

fn plenty() -> Reply {
    Reply::Debited {
        remaining: 70.0,
        granted: 80.0,
        lease_id: "lease_elsewhere".into(),
        at: NOW,
        recorded: false,
    }
}
