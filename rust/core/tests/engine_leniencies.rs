//! What the engine reads beyond the published one: the table in `docs/engine.md`, row by row.

#![allow(clippy::unwrap_used, reason = "a test ends where its fixture is wrong")]
#![allow(
    clippy::needless_pass_by_value,
    reason = "fixtures are written in place"
)]

use schematic_core::{
    engine::{Company, Preflight, evaluate},
    wire::{check_flag_json, parse_company, parse_flag},
};
use serde_json::{Value, json};

const NOW: i64 = 1_760_000_000_000;

fn ids(id: &str, mut fields: Value) -> Value {
    fields["id"] = id.into();
    fields["account_id"] = "account".into();
    fields["environment_id"] = "environment".into();
    fields
}

fn condition(fields: Value) -> Value {
    let mut condition = ids("condition", json!({"operator": "eq", "trait_value": ""}));
    for (name, value) in fields.as_object().unwrap() {
        condition[name] = value.clone();
    }
    condition
}

fn rule(id: &str, kind: &str, conditions: &[Value]) -> Value {
    let fields = json!({
        "rule_type": kind, "name": id, "priority": 0, "value": true, "conditions": conditions,
    });
    ids(id, fields)
}

fn flag(rules: &[Value]) -> Value {
    ids(
        "flag",
        json!({"key": "feature", "default_value": false, "rules": rules}),
    )
}

fn definition(id: &str, comparable: &str, entity: &str) -> Value {
    json!({"id": id, "comparable_type": comparable, "entity_type": entity})
}

fn metric(period: &str, reset: &str, value: i64) -> Value {
    json!({
        "account_id": "account", "environment_id": "environment", "company_id": "company",
        "event_subtype": "event", "period": period, "month_reset": reset, "value": value,
        "created_at": "2025-10-01T00:00:00Z",
    })
}

/// The result of a check of the flag for the company.
fn check(flag: &Value, company: Value) -> Value {
    let envelope = json!({"flag": flag, "company": ids("company", company)}).to_string();
    serde_json::from_str(&check_flag_json(envelope.as_bytes(), Some(NOW)).unwrap()).unwrap()
}

/// Whether a condition holds for the company.
fn holds(fields: Value, company: &Value) -> bool {
    check(
        &flag(&[rule("rule", "standard", &[condition(fields)])]),
        company.clone(),
    )["value"]
        == true
}

#[test]
fn a_rule_of_an_unknown_type_never_matches() {
    let result = check(
        &flag(&[rule("new", "mystery", &[]), rule("known", "standard", &[])]),
        json!({}),
    );
    assert_eq!(result["ruleId"], "known");
    assert_eq!(
        check(&flag(&[rule("new", "mystery", &[])]), json!({}))["ruleId"],
        Value::Null
    );
    let mut own = rule("own", "mystery", &[]);
    own["flag_id"] = "flag".into();
    assert_eq!(
        check(&flag(&[]), json!({"rules": [own]}))["ruleId"],
        Value::Null
    );
}

#[test]
fn a_condition_on_an_unknown_period_is_false() {
    let company = json!({"metrics": [metric("all_time", "first_of_month", 5)]});
    for operator in ["eq", "ne", "gte", "lt", "is_empty", "not_empty"] {
        let fields = |period: &str| {
            json!({
                "condition_type": "metric", "operator": operator, "event_subtype": "event",
                "metric_value": 5, "metric_period": period,
            })
        };
        assert!(!holds(fields("mystery"), &company), "{operator}");
    }
}

#[test]
fn a_condition_on_an_unknown_reset_is_false() {
    let company = json!({"metrics": [metric("all_time", "first_of_month", 5)]});
    let fields = |reset: &str| {
        json!({
            "condition_type": "metric", "event_subtype": "event", "metric_value": 5,
            "metric_period_month_reset": reset,
        })
    };
    assert!(holds(fields("first_of_month"), &company));
    assert!(!holds(fields("mystery"), &company));
}

#[test]
fn a_condition_on_the_trait_of_an_unknown_entity_is_false() {
    let company = json!({
        "traits": [{"trait_definition": definition("trait", "string", "company"), "value": "x"}],
    });
    let fields = |entity: &str| {
        json!({
            "condition_type": "trait", "trait_value": "x",
            "trait_definition": definition("trait", "string", entity),
        })
    };
    assert!(holds(fields("company"), &company));
    assert!(!holds(fields("mystery"), &company));
}

#[test]
fn a_condition_on_a_trait_that_compares_in_an_unknown_way_is_false() {
    let company = |comparable: &str| {
        json!({
            "traits": [{"trait_definition": definition("trait", comparable, "company"), "value": "x"}],
        })
    };
    for operator in [
        "eq",
        "ne",
        "gt",
        "lt",
        "gte",
        "lte",
        "is_empty",
        "not_empty",
    ] {
        let fields = json!({
            "condition_type": "trait", "operator": operator, "trait_value": "x",
            "trait_definition": definition("trait", "string", "company"),
        });
        assert!(!holds(fields, &company("mystery")), "{operator}");
    }
    let compared = json!({
        "condition_type": "trait", "trait_value": "",
        "trait_definition": definition("text", "string", "company"),
        "comparison_trait_definition": definition("trait", "mystery", "company"),
    });
    let both = json!({
        "traits": [
            {"trait_definition": definition("text", "string", "company"), "value": "x"},
            {"trait_definition": definition("trait", "mystery", "company"), "value": "x"},
        ],
    });
    assert!(holds(compared, &both));
}

#[test]
fn an_unknown_comparable_type_of_a_condition_matters_only_without_the_trait() {
    let fields = || {
        json!({
            "condition_type": "trait", "operator": "ne", "trait_value": "y",
            "trait_definition": definition("trait", "mystery", "company"),
        })
    };
    let company = json!({
        "traits": [{"trait_definition": definition("trait", "string", "company"), "value": "x"}],
    });
    assert!(holds(fields(), &company));
    assert!(!holds(fields(), &json!({})));
}

#[test]
fn a_metric_row_of_an_unknown_period_is_ignored() {
    let fields = || {
        json!({
            "condition_type": "metric", "operator": "gt", "event_subtype": "event", "metric_value": 1,
        })
    };
    assert!(holds(
        fields(),
        &json!({"metrics": [metric("all_time", "first_of_month", 5)]})
    ));
    assert!(!holds(
        fields(),
        &json!({"metrics": [metric("mystery", "first_of_month", 5)]})
    ));
    assert!(!holds(
        fields(),
        &json!({"metrics": [metric("all_time", "mystery", 5)]})
    ));
}

#[test]
fn an_entitlement_of_an_unknown_type_says_so() {
    let entitlements =
        json!([{"feature_id": "feature", "feature_key": "feature", "value_type": "mystery"}]);
    let result = check(&flag(&[]), json!({"entitlements": entitlements}));
    assert_eq!(result["entitlement"]["valueType"], "unknown");
}

#[test]
fn an_entitlement_over_an_unknown_period_follows_no_metric() {
    let usage_after_push = |field: &str, value: &str| {
        let mut entitlement = json!({
            "feature_id": "feature", "feature_key": "feature", "value_type": "numeric", "usage": 1,
            "event_name": "event",
        });
        entitlement[field] = value.into();
        let company = ids("company", json!({"entitlements": [entitlement]})).to_string();
        let partial = json!({"metrics": [metric("all_time", "first_of_month", 9)]}).to_string();
        let company = parse_company(company.as_bytes())
            .unwrap()
            .merge(partial.as_bytes())
            .unwrap();
        company.entitlement("feature").unwrap().usage
    };
    assert_eq!(usage_after_push("metric_period", "all_time"), Some(9));
    assert_eq!(usage_after_push("metric_period", "mystery"), Some(1));
    assert_eq!(usage_after_push("month_reset", "mystery"), Some(1));
    let entitlement = json!({
        "feature_id": "feature", "feature_key": "feature", "value_type": "numeric",
        "metric_period": "mystery",
    });
    let result = check(&flag(&[]), json!({"entitlements": [entitlement]}));
    assert_eq!(result["entitlement"]["metricPeriod"], "unknown");
}

#[test]
fn a_reset_after_the_last_date_is_none() {
    let last = chrono::DateTime::<chrono::Utc>::MAX_UTC.timestamp_millis();
    let company: Company = parse_company(ids("company", json!({})).to_string().as_bytes()).unwrap();
    for period in ["current_day", "current_week", "current_month"] {
        let fields = json!({
            "condition_type": "metric", "operator": "is_empty", "event_subtype": "event",
            "metric_value": 5, "metric_period": period,
        });
        let rules = [rule("rule", "plan_entitlement", &[condition(fields)])];
        let flag = parse_flag(flag(&rules).to_string().as_bytes()).unwrap();
        let verdict = evaluate(
            &flag,
            Some(&company),
            None,
            &Preflight::default(),
            Some(last),
        );
        assert_eq!(verdict.usage.unwrap().reset_at(), None, "{period}");
    }
}
