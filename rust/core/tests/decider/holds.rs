//! What a hold is made of, and when a lease is low.

use schematic_core::{
    decider::{CheckRequest, Reply, Topic},
    leases::{FailureMode, NewLease, SlotKey},
};
use serde_json::json;

use crate::studio::{
    NOW, SLOT, Studio, balance_of, company, done, flag, on_plan, request, waiting,
};

#[test]
fn the_callers_event_is_held_and_billed() {
    let studio = Studio::with_lease(&flag(&[balance_of("cred_render")]), &company());
    let asked = CheckRequest {
        event_subtype: Some("thumbnails"),
        ..request()
    };
    let hold = done(studio.decider.check(&asked, NOW)).reservation;
    let hold = hold.expect("credits are held");
    studio.events();
    assert_eq!(studio.decider.settle(&hold, 1.0, None), Some(true));
    assert_eq!(studio.event("track")["event"], "thumbnails");
}

#[test]
fn a_credit_type_may_have_a_time_to_live_of_its_own() {
    let mut heron = company();
    heron["entitlements"][0]["credit_id"] = json!("cred_patient");
    let studio = Studio::with(&flag(&[]), &heron);
    let pending = waiting(studio.check(1.0, FailureMode::Closed));
    let slot = SlotKey {
        credit_type_id: "cred_patient",
        ..SLOT
    };
    let lease = NewLease {
        lease_id: "lease_slow",
        granted: 10.0,
        expires_at: NOW + 90_000,
    };
    studio.decider.ledger().install(slot, &lease, NOW);
    let answer = done(studio.decider.resume(pending, Reply::Done(true), NOW));
    let hold = answer.reservation.expect("credits are held");
    assert_eq!(hold.expires_at, NOW + 33_000);
}

#[test]
fn a_low_lease_is_told_of_once_until_it_was_extended() {
    let studio = Studio::with_lease(&flag(&[balance_of("cred_render")]), &company());
    studio.allow(29.0);
    assert_eq!(studio.wakes(Topic::Extend), 0);
    studio.allow(1.0);
    assert_eq!(studio.wakes(Topic::Extend), 1);
    studio.allow(1.0);
    studio.allow(1.0);
    assert_eq!(studio.wakes(Topic::Extend), 1);
    let low: Vec<_> = studio.decider.ledger().take_low();
    assert_eq!(low, [("comp_heron".into(), "cred_render".into())]);

    assert!(studio.decider.ledger().extend(SLOT, 100.0, None, None));
    studio.allow(2.0);
    assert_eq!(studio.wakes(Topic::Extend), 1);
    studio.allow(5.0);
    assert_eq!(studio.wakes(Topic::Extend), 2);
}

#[test]
fn a_lease_that_stays_low_is_told_of_again_after_a_second() {
    let studio = Studio::with_lease(&flag(&[balance_of("cred_render")]), &company());
    studio.allow(35.0);
    let later = |after| {
        studio.decider.check(
            &CheckRequest {
                usage: 1.0,
                ..request()
            },
            NOW + after,
        )
    };
    assert!(done(later(999)).allowed);
    assert_eq!(studio.wakes(Topic::Extend), 1);
    assert!(done(later(1000)).allowed);
    assert_eq!(studio.wakes(Topic::Extend), 2);
}

#[test]
fn a_denied_check_tells_nobody_of_a_low_lease() {
    let rules = flag(&[on_plan("plan_hobby"), balance_of("cred_render")]);
    let studio = Studio::with_lease(&rules, &company());
    assert!(!done(studio.check(40.0, FailureMode::Closed)).allowed);
    assert_eq!(studio.wakes(Topic::Extend), 0);
}
