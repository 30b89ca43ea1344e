//! What the rules decide about a check that has its credits.

use schematic_core::{
    Millis,
    decider::FlagRequest,
    engine::Terms,
    leases::{Exported, Failure, FailureMode, Holder, Ids, Mode, Reservation},
};
use serde_json::{Value, json};
use std::sync::Arc;

use crate::studio::{
    COMPANY, NOW, SEED, SLOT, Studio, USER, balance_of, company, done, flag, on_plan, user,
};

#[test]
fn a_check_that_the_rules_deny_gives_its_credits_back() {
    let rules = flag(&[on_plan("plan_hobby"), balance_of("cred_render")]);
    for mode in [FailureMode::Closed, FailureMode::Open] {
        let studio = Studio::with_lease(&rules, &company());
        let answer = done(studio.check(15.0, mode));
        assert!(!answer.allowed);
        assert_eq!(&*answer.reason, "No rules matched; default value for flag");
        assert_eq!(answer.error, None);
        assert!(answer.reservation.is_none());
        assert_eq!(studio.remaining(), 80.0);
        studio.assert_nothing_is_held();
        let check = studio.event("flag_check");
        assert_eq!(
            (&check["value"], &check["error"]),
            (&json!(false), &Value::Null)
        );
    }
}

#[test]
fn a_spend_policy_denies_what_the_lease_could_pay() {
    let mut heron = company();
    heron["credit_spend_policies"] = json!([{
        "id": "policy_draw", "credit_id": "cred_render", "kind": "per_draw", "scope": "company",
        "limit": 20.0,
    }]);
    let studio = Studio::with_lease(&flag(&[balance_of("cred_render")]), &heron);
    let answer = done(studio.check(15.0, FailureMode::Closed));
    assert!(!answer.allowed);
    let reason = "A draw of 30 credits exceeds the company limit of 20 credits per request";
    assert_eq!(&*answer.reason, reason);
    assert_eq!(answer.error, None);
    assert_eq!(studio.remaining(), 80.0);
    studio.assert_nothing_is_held();
    assert_eq!(studio.event("flag_check")["reason"], reason);
    studio.allow(10.0);
}

#[test]
fn the_value_of_a_flag_follows_the_windows_of_spend_policies() {
    let policy = |scope: &str| {
        json!([{
            "id": "policy_window", "credit_id": "cred_render", "kind": "window", "scope": scope,
            "limit": 20.0, "consumed": 20.0, "resets_at": "2025-06-15T15:06:40Z",
        }])
    };
    let studio = Studio::with_lease(&flag(&[balance_of("cred_render")]), &company());
    let value = |now: Millis| {
        let request = FlagRequest {
            flag_key: "render",
            company: Some(COMPANY),
            user: Some(USER),
            ..FlagRequest::default()
        };
        studio.decider.flag_value(&request, || now)
    };
    let mut heron = company();
    heron["credit_spend_policies"] = policy("company");
    studio.put_company(&heron);
    studio.put_user(&user());
    assert_eq!((value(NOW - 1), value(NOW)), (Ok(false), Ok(true)));
    let mut ada = user();
    ada["credit_spend_policies"] = policy("user");
    studio.put_company(&company());
    studio.put_user(&ada);
    assert_eq!((value(NOW - 1), value(NOW)), (Ok(false), Ok(true)));
}

#[test]
fn a_balance_that_the_lease_does_not_stand_for_can_still_deny() {
    let rules = flag(&[balance_of("cred_render"), balance_of("cred_disk")]);
    let studio = Studio::with_lease(&rules, &company());
    let answer = done(studio.check(15.0, FailureMode::Closed));
    assert!(!answer.allowed);
    assert_eq!(studio.remaining(), 80.0);
    studio.assert_nothing_is_held();

    let mut heron = company();
    heron["credit_balances"] = json!({"cred_render": 0.0, "cred_disk": 2.0});
    studio.put_company(&heron);
    studio.allow(15.0);
}

#[test]
fn the_lease_stands_in_for_the_companys_own_balance() {
    for balance in [0.0, -500.0] {
        let mut heron = company();
        heron["credit_balances"] = json!({"cred_render": balance});
        let studio = Studio::with_lease(&flag(&[balance_of("cred_render")]), &heron);
        // The last one drains the lease: its gate is asked with the balance before the debit.
        studio.allow(15.0);
        studio.allow(25.0);
        assert_eq!(studio.remaining(), 0.0);
    }
}

#[test]
fn a_hold_whose_id_is_taken_is_undone_and_leaves_the_other_hold_alone() {
    for mode in [FailureMode::Closed, FailureMode::Open] {
        let studio = Studio::with_lease(&flag(&[balance_of("cred_render")]), &company());
        let ledger = studio.decider.ledger();
        let debit = ledger.try_reserve(SLOT, 7.0, NOW).expect("a debit");
        let squatter = Arc::new(Reservation {
            id: Ids::new(SEED).next(),
            lease_id: debit.lease_id,
            mode: Mode::Client,
            holder: Holder::new(SLOT.company_id, None, None),
            terms: Arc::new(Terms {
                credit_id: SLOT.credit_type_id.into(),
                event_subtype: "frames_rendered".into(),
                rate: 2.0,
            }),
            quantity_reserved: 3.5,
            credits_reserved: 7.0,
            expires_at: NOW + 20_000,
            exported: Exported::default(),
        });
        assert!(ledger.add(&squatter, None, NOW));
        let answer = done(studio.check(15.0, mode));
        assert_eq!(answer.error, Some(Failure::StoreError));
        assert!(answer.reservation.is_none());
        let reason = match mode {
            FailureMode::Closed => "lease_store_error",
            FailureMode::Open => {
                "Matched plan entitlement rule \"Rendering\" (rule_metered) (lease_store_error_fail_open)"
            }
        };
        assert_eq!(&*answer.reason, reason);
        assert_eq!(answer.allowed, mode == FailureMode::Open);
        assert_eq!(
            (studio.remaining(), ledger.reserved_credits(SLOT)),
            (73.0, 7.0)
        );
        assert_eq!(ledger.consume(&squatter, 7.0), Some(7.0));
        assert_eq!(studio.events().len(), 1);
    }
}
