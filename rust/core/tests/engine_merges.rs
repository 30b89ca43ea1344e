//! Partial updates, and what they share with the entity they were made from.

#![allow(clippy::unwrap_used, reason = "a test ends where its fixture is wrong")]
#![allow(
    clippy::needless_pass_by_value,
    reason = "fixtures are written in place"
)]

use std::sync::Arc;

use schematic_core::{
    engine::{Company, Preflight, User, evaluate},
    wire::{WireError, parse_company, parse_flag, parse_flags, parse_user},
};
use serde_json::{Value, json};

fn ids(id: &str, mut fields: Value) -> Value {
    fields["id"] = id.into();
    fields["account_id"] = "account".into();
    fields["environment_id"] = "environment".into();
    fields
}

fn bytes(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

fn metric(event: &str, period: &str, value: i64) -> Value {
    json!({
        "account_id": "account", "environment_id": "environment", "company_id": "company",
        "event_subtype": event, "period": period, "month_reset": "first_of_month", "value": value,
        "created_at": "2025-10-01T00:00:00Z",
    })
}

fn entitlement(key: &str, fields: Value) -> Value {
    let mut entitlement = json!({"feature_id": key, "feature_key": key, "value_type": "credit"});
    for (name, value) in fields.as_object().unwrap() {
        entitlement[name] = value.clone();
    }
    entitlement
}

fn company() -> Company {
    let company = ids(
        "company",
        json!({
            "keys": {"id": "acme", "slug": "acme-inc"},
            "credit_balances": {"gold": 10.0, "silver": 20.0},
            "metrics": [metric("calls", "all_time", 5), metric("seats", "current_month", 7)],
            "plan_ids": ["plan"],
            "entitlements": [
                entitlement("paid", json!({"credit_id": "gold", "credit_remaining": 3.0, "usage": 1,
                    "event_name": "calls"})),
                entitlement("other", json!({"credit_id": "silver", "credit_remaining": 4.0, "usage": 2,
                    "event_name": "seats", "metric_period": "current_month"})),
            ],
        }),
    );
    parse_company(&bytes(&company)).unwrap()
}

fn merged(partial: &Value) -> Company {
    company().merge(&bytes(partial)).unwrap()
}

/// (remaining, usage) of an entitlement.
fn follows(company: &Company, key: &str) -> (Option<f64>, Option<i64>) {
    let entitlement = company.entitlement(key).unwrap();
    (entitlement.credit_remaining, entitlement.usage)
}

/// Whether a condition on the company holds.
fn holds(company: &Company, fields: &Value) -> bool {
    let mut condition = ids("condition", json!({"operator": "eq", "trait_value": ""}));
    for (name, value) in fields.as_object().unwrap() {
        condition[name] = value.clone();
    }
    let rule = json!({
        "rule_type": "standard", "name": "", "priority": 0, "value": true, "conditions": [condition],
    });
    let flag = json!({"key": "feature", "default_value": false, "rules": [ids("rule", rule)]});
    let flag = parse_flag(&bytes(&ids("flag", flag))).unwrap();
    evaluate(&flag, Some(company), None, &Preflight::default(), None).value
}

fn usage(company: &Company, event: &str, period: &str, value: i64) -> bool {
    let fields = json!({
        "condition_type": "metric", "event_subtype": event, "metric_period": period,
        "metric_value": value,
    });
    holds(company, &fields)
}

#[test]
fn keys_and_balances_merge_name_by_name() {
    let merged = merged(
        &json!({"keys": {"slug": "new", "crm": "7"}, "credit_balances": {"gold": 1.5, "tin": 2}}),
    );
    let keys: Vec<_> = merged.keys().collect();
    assert_eq!(keys, [("id", "acme"), ("slug", "new"), ("crm", "7")]);
    assert_eq!(merged.balance("gold"), Some(1.5));
    assert_eq!(merged.balance("silver"), Some(20.0));
    assert_eq!(merged.balance("tin"), Some(2.0));
    assert_eq!(merged.balance("lead"), None);
}

#[test]
fn what_leases_leave_becomes_the_balance() {
    let leased = json!({"gold": {"remaining": 4.0, "reserved": 6.0}});
    let merged =
        merged(&json!({"credit_lease_balance": leased, "credit_balances": {"gold": 9, "tin": 1}}));
    assert_eq!(merged.balance("gold"), Some(4.0));
    assert_eq!(merged.balance("silver"), Some(20.0));
    assert_eq!(merged.balance("tin"), Some(1.0));
    assert_eq!(follows(&merged, "paid").0, Some(4.0));
}

#[test]
fn metrics_merge_by_event_period_and_reset() {
    let pushed = [
        metric("calls", "all_time", 50),
        metric("calls", "current_day", 1),
    ];
    let merged = merged(&json!({"metrics": pushed}));
    assert!(usage(&merged, "calls", "all_time", 50));
    assert!(usage(&merged, "calls", "current_day", 1));
    assert!(usage(&merged, "seats", "current_month", 7));
}

#[test]
fn everything_else_replaces_and_null_is_empty() {
    let in_plan = json!({"condition_type": "plan", "resource_ids": ["plan"]});
    let based = json!({"condition_type": "base_plan", "operator": "not_empty"});
    assert!(holds(&company(), &in_plan));
    assert!(!holds(&merged(&json!({"plan_ids": null})), &in_plan));
    assert!(!holds(&merged(&json!({"plan_ids": ["another"]})), &in_plan));
    let with_base = merged(&json!({"base_plan_id": "plan"}));
    assert!(holds(&with_base, &based) && holds(&with_base, &in_plan));
    assert!(!holds(
        &with_base.merge(br#"{"base_plan_id":null}"#).unwrap(),
        &based
    ));
    assert!(
        merged(&json!({"entitlements": null}))
            .entitlement("paid")
            .is_none()
    );
}

#[test]
fn entitlements_follow_the_balances_and_metrics_that_moved() {
    let balance = merged(&json!({"credit_balances": {"gold": 11}}));
    assert_eq!(follows(&balance, "paid"), (Some(11.0), Some(1)));
    assert_eq!(follows(&balance, "other"), (Some(4.0), Some(2)));
    let usage = merged(&json!({"metrics": [metric("calls", "all_time", 50)]}));
    assert_eq!(follows(&usage, "paid"), (Some(3.0), Some(50)));
    assert_eq!(follows(&usage, "other"), (Some(4.0), Some(7)));
    let neither = merged(&json!({"plan_ids": []}));
    assert_eq!(follows(&neither, "paid"), (Some(3.0), Some(1)));
}

#[test]
fn entitlements_that_a_message_brings_follow_nothing() {
    let brought = [entitlement(
        "paid",
        json!({"credit_id": "gold", "credit_remaining": 8.0}),
    )];
    let merged = merged(&json!({"credit_balances": {"gold": 11}, "entitlements": brought}));
    assert_eq!(follows(&merged, "paid"), (Some(8.0), None));
}

#[test]
fn an_entitlement_that_did_not_move_is_shared() {
    let before = company();
    let after = before.merge(br#"{"credit_balances":{"gold":11}}"#).unwrap();
    let same = |key| {
        Arc::ptr_eq(
            before.entitlement(key).unwrap(),
            after.entitlement(key).unwrap(),
        )
    };
    assert!(same("other"));
    assert!(!same("paid"));
    assert_eq!(before.balance("gold"), Some(10.0));
}

#[test]
fn usage_counted_during_a_merge_is_not_lost() {
    let before = company();
    let after = before
        .merge(&bytes(
            &json!({"metrics": [metric("seats", "current_month", 1)]}),
        ))
        .unwrap();
    before.add_usage("calls", 3);
    after.add_usage("seats", 1);
    assert!(usage(&after, "calls", "all_time", 8));
    assert!(usage(&after, "seats", "current_month", 2));
    assert!(usage(&before, "seats", "current_month", 7));
}

#[test]
fn usage_grows_in_place_on_many_threads_and_wraps() {
    let company = company()
        .merge(&bytes(
            &json!({"metrics": [metric("calls", "current_week", 0)]}),
        ))
        .unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..1000).for_each(|_| company.add_usage("calls", 1)));
        }
    });
    assert!(usage(&company, "calls", "all_time", 4005));
    assert!(usage(&company, "calls", "current_week", 4000));
    assert!(usage(&company, "seats", "current_month", 7));
    company.add_usage("calls", i64::MAX);
    assert!(usage(&company, "calls", "current_week", i64::MIN + 3999));
}

#[test]
fn a_partial_of_another_entity_is_refused() {
    let error = company()
        .merge(br#"{"id":"someone","plan_ids":[]}"#)
        .unwrap_err();
    assert!(matches!(error, WireError::OtherEntity { .. }));
    assert_eq!(
        error.to_string(),
        "partial company is about \"someone\", not \"company\""
    );
    assert!(company().merge(br#"{"id":"company"}"#).is_ok());
}

#[test]
fn a_partial_that_cannot_be_read_changes_nothing() {
    for partial in [
        &b"{"[..],
        b"[1]",
        b"{\"plan_ids\":[null]}",
        b"{\"credit_balances\":{\"gold\":\"1\"}}",
        b"\xff",
    ] {
        assert!(company().merge(partial).is_err());
    }
}

#[test]
fn a_user_merges_keys_and_replaces_the_rest() {
    let value = |text: &str| {
        json!([{
            "trait_definition": {"id": "t", "comparable_type": "string", "entity_type": "user"},
            "value": text,
        }])
    };
    let wire = ids("user", json!({"keys": {"id": "u"}, "traits": value("old")}));
    let user: User = parse_user(&bytes(&wire)).unwrap();
    let after = user
        .merge(&bytes(
            &json!({"keys": {"mail": "u@x"}, "traits": value("new")}),
        ))
        .unwrap();
    assert_eq!(
        after.keys().collect::<Vec<_>>(),
        [("id", "u"), ("mail", "u@x")]
    );
    let condition = json!({
        "condition_type": "trait", "operator": "eq", "trait_value": "new",
        "trait_definition": {"id": "t", "comparable_type": "string", "entity_type": "user"},
    });
    let mut condition = ids("condition", condition);
    condition["priority"] = 0.into();
    let rule = json!({
        "rule_type": "standard", "name": "", "priority": 0, "value": true, "conditions": [condition],
    });
    let flag = json!({"key": "feature", "default_value": false, "rules": [ids("rule", rule)]});
    let flag = parse_flag(&bytes(&ids("flag", flag))).unwrap();
    let value_for = |user| evaluate(&flag, None, Some(user), &Preflight::default(), None).value;
    assert!(value_for(&after));
    assert!(!value_for(&user));
    assert!(user.merge(br#"{"id":"company"}"#).is_err());
}

#[test]
fn one_flag_that_cannot_be_read_does_not_take_the_others_along() {
    let flag = |id: &str| ids(id, json!({"key": id, "default_value": true}));
    let list = json!([flag("a"), {"id": "b"}, flag("c"), null, 7]);
    let (flags, skipped) = parse_flags(&bytes(&list)).unwrap();
    assert_eq!(
        flags.iter().map(|flag| &**flag.key()).collect::<Vec<_>>(),
        ["a", "c"]
    );
    assert_eq!(skipped.len(), 3);
    assert!(
        skipped[0].starts_with("flag 1 of the list is skipped: flag cannot be read: missing field")
    );
    assert!(parse_flags(b"null").unwrap().0.is_empty());
    assert!(parse_flags(b"{}").is_err());
    assert!(parse_flags(b"[").is_err());
}
