//! What a check waits for, and what may change meanwhile.

use schematic_core::{
    decider::{CheckRequest, Need, Reply},
    leases::{Failure, FailureMode, Ids, Mode},
};
use serde_json::{Value, json};

use crate::studio::{
    COMPANY, NOW, SEED, SLOT, Studio, USER, balance_of, company, condition, done, flag, on_plan,
    owned, request, user, waiting,
};

#[test]
fn a_check_waits_for_its_company_then_for_its_lease_and_then_is_allowed() {
    let studio = Studio::empty();
    studio.put_flag(&flag(&[balance_of("cred_render")]));

    let pending = waiting(studio.decider.check(&request(), NOW));
    let need = Need::Resolve {
        company: true,
        user: false,
    };
    assert_eq!(*pending.need(), need);
    assert_eq!(pending.slot(), None);

    studio.put_company(&company());
    let pending = waiting(studio.decider.resume(pending, Reply::Done(true), NOW));
    assert_eq!(*pending.need(), Need::Acquire);
    let slot = pending
        .slot()
        .map(|slot| (slot.company_id, slot.credit_type_id));
    assert_eq!(slot, Some(("comp_heron", "cred_render")));
    assert_eq!(pending.required_credits(), 30.0);

    studio.install("lease_new", 500.0, NOW + 90_000);
    let answer = done(studio.decider.resume(pending, Reply::Done(true), NOW + 7));
    assert!(answer.allowed && answer.value);
    assert_eq!(
        &*answer.reason,
        "Matched plan entitlement rule \"Rendering\" (rule_metered)"
    );
    assert_eq!(answer.error, None);
    let hold = answer.reservation.expect("credits are held");
    assert_eq!((&*hold.lease_id, hold.mode), ("lease_new", Mode::Client));
    assert_eq!(
        (hold.quantity_reserved, hold.credits_reserved),
        (15.0, 30.0)
    );
    assert_eq!(hold.expires_at, NOW + 7 + 20_000);
    assert_eq!(hold.id, Ids::new(SEED).next());
    assert!(hold.company().is_some_and(|keys| keys.are(COMPANY)));
    assert_eq!(studio.remaining(), 470.0);
    assert_eq!(studio.decider.ledger().reserved_credits(SLOT), 30.0);
    assert_eq!(studio.decider.traffic(), (1, 0));

    let check = studio.event("flag_check");
    let expected = json!({
        "flag_key": "render", "value": true, "flag_id": "flag_render",
        "reason": "Matched plan entitlement rule \"Rendering\" (rule_metered)",
        "rule_id": "rule_metered", "company_id": "comp_heron", "req_company": {"slug": "heron"},
    });
    assert_eq!(check, expected);
}

#[test]
fn a_check_says_which_entity_it_lacks() {
    let studio = Studio::empty();
    studio.put_flag(&flag(&[balance_of("cred_render")]));
    let asked = CheckRequest {
        user: Some(USER),
        ..request()
    };
    let resolve = |company, user| Need::Resolve { company, user };
    let need = || waiting(studio.decider.check(&asked, NOW)).need().clone();
    assert_eq!(need(), resolve(true, true));
    studio.put_company(&company());
    assert_eq!(need(), resolve(false, true));
    studio.put_user(&user());
    assert_eq!(need(), Need::Acquire);
    studio.install("lease_amber", 80.0, NOW + 40_000);
    let hold = done(studio.decider.check(&asked, NOW)).reservation;
    let hold = hold.expect("credits are held");
    assert!(hold.user().is_some_and(|keys| keys.are(USER)));
    assert_eq!(studio.event("flag_check")["user_id"], "user_ada");
}

#[test]
fn what_cannot_be_resolved_is_left_to_a_plain_check_and_recorded_by_it() {
    let studio = Studio::empty();
    let pending = waiting(studio.decider.check(&request(), NOW));
    assert_eq!(*pending.need(), Need::Plain);

    studio.put_flag(&flag(&[balance_of("cred_render")]));
    let pending = waiting(studio.decider.check(&request(), NOW));
    let pending = waiting(studio.decider.resume(pending, Reply::Done(false), NOW));
    assert_eq!(*pending.need(), Need::Plain);
    let pending = waiting(studio.decider.resume(pending, Reply::Done(true), NOW));
    assert_eq!(*pending.need(), Need::Plain);

    let mut heron = company();
    heron["keys"] = json!({"slug": "heron", "tag": "h"});
    studio.put_company(&heron);
    let ibis = owned(json!({"id": "comp_ibis", "keys": {"tag": "i"}}));
    studio.put_company(&ibis);
    let conflicting = CheckRequest {
        company: Some(&[("slug", "heron"), ("tag", "i")]),
        ..request()
    };
    let pending = waiting(studio.decider.check(&conflicting, NOW));
    assert_eq!(*pending.need(), Need::Plain);
    assert_eq!(studio.events(), Vec::<Value>::new());
}

#[test]
fn without_a_lease_a_closed_check_is_denied_and_recorded_once() {
    let studio = Studio::with(&flag(&[balance_of("cred_render")]), &company());
    let pending = waiting(studio.check(15.0, FailureMode::Closed));
    assert_eq!(studio.decider.events().counts().analytics, 0);
    let answer = done(studio.decider.resume(pending, Reply::Done(false), NOW));
    assert!(!answer.allowed && !answer.value);
    assert_eq!(&*answer.reason, "lease_acquire_failed");
    assert_eq!(answer.error, Some(Failure::AcquireFailed));
    assert!(answer.reservation.is_none());
    let check = studio.event("flag_check");
    assert_eq!(check["value"], false);
    assert_eq!(check["error"], "lease_acquire_failed");
}

#[test]
fn without_a_lease_an_open_check_is_decided_by_the_rules() {
    for (plan, allowed) in [("plan_studio", true), ("plan_hobby", false)] {
        let mut heron = company();
        // The company has no credits at all: an open check does not ask for them.
        heron["credit_balances"] = json!({"cred_render": 0.0});
        let rules = flag(&[on_plan(plan), balance_of("cred_render")]);
        let studio = Studio::with(&rules, &heron);
        let pending = waiting(studio.check(15.0, FailureMode::Open));
        let answer = done(studio.decider.resume(pending, Reply::Done(false), NOW));
        assert_eq!(answer.allowed, allowed, "{plan}");
        let suffix = " (lease_acquire_failed_fail_open)";
        assert!(answer.reason.ends_with(suffix), "{}", &*answer.reason);
        assert!(answer.reason.len() > suffix.len());
        assert_eq!(answer.error, Some(Failure::AcquireFailed));
        assert!(answer.reservation.is_none());
        let check = studio.event("flag_check");
        assert_eq!(check["value"], allowed);
        assert_eq!(check["reason"], *answer.reason);
    }
}

#[test]
fn an_open_check_still_counts_its_usage_against_other_limits() {
    let metric = condition(
        "metric",
        json!({"operator": "lte", "event_subtype": "frames_rendered", "metric_value": 20}),
    );
    for (usage, allowed) in [(20.0, true), (20.25, false)] {
        let rules = flag(&[metric.clone(), balance_of("cred_render")]);
        let studio = Studio::with(&rules, &company());
        let pending = waiting(studio.check(usage, FailureMode::Open));
        let answer = done(studio.decider.resume(pending, Reply::Done(false), NOW));
        assert_eq!(answer.allowed, allowed, "{usage}");
        assert_eq!(answer.error, Some(Failure::AcquireFailed));
    }
}

#[test]
fn a_short_lease_is_waited_for_once() {
    let studio = Studio::with_lease(&flag(&[balance_of("cred_render")]), &company());
    let pending = waiting(studio.check(100.0, FailureMode::Closed));
    assert_eq!(*pending.need(), Need::Extend);
    assert_eq!(pending.required_credits(), 200.0);
    assert!(studio.decider.ledger().extend(SLOT, 580.0, None, None));
    let answer = done(studio.decider.resume(pending, Reply::Done(true), NOW));
    assert!(answer.allowed);
    assert_eq!(studio.remaining(), 380.0);

    let pending = waiting(studio.check(300.0, FailureMode::Closed));
    let answer = done(studio.decider.resume(pending, Reply::Done(false), NOW));
    assert_eq!(answer.error, Some(Failure::InsufficientBalance));
    assert_eq!(studio.remaining(), 380.0);
    assert_eq!(studio.events().len(), 2);
}

#[test]
fn a_check_that_waited_is_gated_by_what_came_meanwhile() {
    let studio = Studio::empty();
    studio.put_flag(&flag(&[balance_of("cred_render")]));
    studio.put_company(&company());
    let pending = waiting(studio.check(15.0, FailureMode::Closed));
    studio.put_flag(&flag(&[on_plan("plan_hobby"), balance_of("cred_render")]));
    studio.install("lease_new", 500.0, NOW + 90_000);
    assert!(!done(studio.decider.resume(pending, Reply::Done(true), NOW)).allowed);
    assert_eq!(studio.remaining(), 500.0);
    studio.assert_nothing_is_held();
}

#[test]
fn a_check_whose_company_went_away_while_it_waited_ends_with_what_it_knew() {
    let studio = Studio::empty();
    studio.put_flag(&flag(&[balance_of("cred_render")]));
    studio.put_company(&company());
    let pending = waiting(studio.check(15.0, FailureMode::Closed));
    assert!(studio.decider.cache().companies().remove("comp_heron"));
    studio.install("lease_new", 500.0, NOW + 90_000);
    assert!(done(studio.decider.resume(pending, Reply::Done(true), NOW)).allowed);
}
