//! Wire messages of the sizes that the benchmarks and memory tests speak of.

use serde_json::{Value, json};

/// A flag that a plan entitles to, paid in credits, with `more` targeting rules that do not match, each on a
/// trait of its own.
pub fn flag(more: usize) -> Vec<u8> {
    let condition = |fields: Value| {
        with(
            json!({"operator": "eq", "trait_value": ""}),
            "cond_1",
            fields,
        )
    };
    let plan =
        || condition(json!({"condition_type": "plan", "resource_ids": ["plan_9", "plan_0"]}));
    let credit = || {
        condition(json!({
            "condition_type": "credit", "operator": "gte", "credit_id": "bcrd_inference",
            "event_subtype": "inference_tokens", "consumption_rate": 0.5,
        }))
    };
    let rule = |id: &str, kind: &str, value: bool, conditions: Vec<Value>| {
        let fields = json!({
            "rule_type": kind, "name": kind, "priority": 1, "value": value, "conditions": conditions,
        });
        with(json!({}), id, fields)
    };
    let covered = with(credit(), "cond_2", json!({"operator": "lt"}));
    let region = |at| {
        condition(json!({
            "condition_type": "trait", "trait_value": "eu", "trait_definition": definition(at),
        }))
    };
    let seats = || {
        condition(json!({
            "condition_type": "metric", "operator": "gte", "event_subtype": "event_7",
            "metric_period": "current_month", "metric_value": 1_000_000_000,
        }))
    };
    let mut rules = vec![
        rule("rule_plan", "plan_entitlement", true, vec![plan(), covered]),
        rule(
            "rule_exceeded",
            "plan_entitlement_usage_exceeded",
            false,
            vec![plan(), credit()],
        ),
        rule("rule_standard", "standard", true, vec![region(0), seats()]),
    ];
    for position in 0..more {
        // Company overrides are tried before the plan's rule.
        let id = format!("rule_more_{position}");
        rules.push(rule(
            &id,
            "company_override",
            true,
            vec![plan(), region(position + 1), seats()],
        ));
    }
    let fields = json!({"key": "inference", "rules": rules, "default_value": false});
    with(json!({}), "flag_inference", fields)
        .to_string()
        .into_bytes()
}

/// A company with `size` traits, metrics and entitlements each, the one to the flag among them.
pub fn company(size: usize) -> Vec<u8> {
    let traits: Vec<_> = (0..size)
        .map(|at| json!({"trait_definition": definition(at), "value": format!("{at}")}))
        .collect();
    let metrics: Vec<_> = (0..size)
        .map(|at| {
            json!({
                "account_id": "acct_4Hx2kBrTnVc", "environment_id": "env_9sKpQz1LmXw",
                "company_id": "comp_8fJd3RtYuIo", "event_subtype": format!("event_{at}"),
                "period": "current_month", "month_reset": "first_of_month", "value": at,
                "created_at": "2025-10-01T00:00:00Z",
            })
        })
        .collect();
    let entitlements: Vec<_> = (0..size)
        .map(|at| {
            let key = if at + 1 == size {
                "inference".to_owned()
            } else {
                format!("feature-{at}")
            };
            json!({
                "feature_id": format!("feat_{at}"), "feature_key": key, "value_type": "credit",
                "credit_id": "bcrd_inference", "credit_remaining": 1e6, "credit_total": 2e6,
                "credit_used": 1e6, "consumption_rate": 0.5, "event_name": "inference_tokens",
                "event_subtype": "inference_tokens",
            })
        })
        .collect();
    let fields = json!({
        "keys": {"id": "acme", "slug": "acme-inc"}, "plan_ids": ["plan_0", "plan_1"],
        "plan_version_ids": ["plvr_0"], "base_plan_id": "plan_0", "billing_product_ids": ["prod_0"],
        "credit_balances": {"bcrd_inference": 1e6, "bcrd_images": 10.5},
        "subscription": {
            "id": "bilsub_1", "period_start": "2025-10-01T00:00:00Z", "period_end": "2025-11-01T00:00:00Z",
        },
        "traits": traits, "metrics": metrics, "entitlements": entitlements, "rules": [],
    });
    with(json!({}), "comp_8fJd3RtYuIo", fields)
        .to_string()
        .into_bytes()
}

/// Every fifth trait is no string.
fn definition(at: usize) -> Value {
    let kind = match at % 20 {
        4 | 19 => "int",
        9 => "bool",
        14 => "date",
        _ => "string",
    };
    json!({"id": format!("trtdef_{at}"), "comparable_type": kind, "entity_type": "company"})
}

/// A full message for a company that is found by its `slug`.
#[allow(dead_code, reason = "not every benchmark takes messages in")]
pub fn message_of(slug: &str, size: usize) -> Vec<u8> {
    let mut data: Value = serde_json::from_slice(&company(size)).unwrap_or_default();
    data["id"] = format!("comp_{slug}").into();
    data["keys"] = json!({"id": format!("id-{slug}"), "slug": slug});
    json!({"entity_type": "rulesengine.Company", "message_type": "full", "entity_id": data["id"], "data": data})
        .to_string()
        .into_bytes()
}

/// Adds the ids that everything has, and then `fields`.
fn with(mut value: Value, id: &str, fields: Value) -> Value {
    value["id"] = id.into();
    value["account_id"] = "acct_4Hx2kBrTnVc".into();
    value["environment_id"] = "env_9sKpQz1LmXw".into();
    if let Value::Object(fields) = fields {
        for (name, field) in fields {
            value[name] = field;
        }
    }
    value
}
