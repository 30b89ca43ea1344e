//! Properties of the engine: the compiled form answers as a plain evaluator does, noise does not matter, and no bytes
//! do harm.

#![allow(clippy::unwrap_used, reason = "a test ends where its fixture is wrong")]

mod plain_engine;

use chrono::DateTime;
use plain_engine::Answer;
use proptest::{
    collection::{btree_map, vec},
    option,
    prelude::*,
    sample::select,
};
use schematic_core::{
    cache::Cache,
    engine::{Preflight, evaluate},
    wire::{check_flag_json, check_flags_json, parse_company, parse_flag, parse_flags, parse_user},
};
use serde_json::{Map, Value, json};

const NOW: i64 = 1_706_000_000_000;
const OPERATORS: [&str; 9] = [
    "eq",
    "ne",
    "gt",
    "lt",
    "gte",
    "lte",
    "is_empty",
    "not_empty",
    "odd",
];
const CONDITIONS: [&str; 10] = [
    "base_plan",
    "billing_product",
    "company",
    "credit",
    "metric",
    "plan",
    "plan_version",
    "trait",
    "user",
    "odd",
];
const RULES: [&str; 7] = [
    "global_override",
    "company_override",
    "plan_entitlement",
    "company_override_usage_exceeded",
    "plan_entitlement_usage_exceeded",
    "standard",
    "default",
];
const QUANTITIES: [&str; 5] = [
    "input_tokens",
    "cached_input_tokens",
    "cache_creation_input_tokens",
    "b",
    "a",
];
const VALUES: [&str; 16] = [
    "",
    "0",
    "1",
    "2",
    "true",
    "-1",
    "+2",
    "1.5",
    "1e0",
    "x",
    "9223372036854775807",
    "2024-01-15T10:00:00Z",
    "2024-01-15 10:00:00 UTC",
    "2024-01-15T10:00:00.000+0000",
    "Mon Jan 15 2024 10:00:00 GMT+0100",
    "2024-01-15",
];

fn id() -> impl Strategy<Value = Value> {
    select(vec!["a", "b", "c", ""]).prop_map(Value::from)
}

fn amount() -> impl Strategy<Value = Value> {
    prop_oneof![
        select(vec![0.0, 1.0, 2.0, 0.1, 0.3, -1.0, 1e9, 2e9]).prop_map(Value::from),
        (0.0..20.0f64).prop_map(Value::from),
    ]
}

fn count() -> impl Strategy<Value = Value> {
    select(vec![0i64, 1, 2, 3, -1, i64::MAX, i64::MIN]).prop_map(Value::from)
}

fn pick<const N: usize>(pool: [&'static str; N]) -> impl Strategy<Value = Value> {
    select(pool.to_vec()).prop_map(Value::from)
}

fn maybe(value: impl Strategy<Value = Value>) -> impl Strategy<Value = Value> {
    option::weighted(0.8, value).prop_map(|value| value.unwrap_or(Value::Null))
}

fn many(value: impl Strategy<Value = Value>, most: usize) -> impl Strategy<Value = Value> {
    maybe(vec(value, 0..=most).prop_map(Value::from))
}

fn map(
    names: &'static [&'static str],
    value: impl Strategy<Value = Value>,
) -> impl Strategy<Value = Value> {
    let pairs = btree_map(select(names), value, 0..=names.len());
    pairs.prop_map(|pairs| {
        pairs
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect::<Map<_, _>>()
            .into()
    })
}

/// An object of these fields, with the ids that everything has.
macro_rules! object {
    ($($name:ident: $strategy:expr),+ $(,)?) => {
        ($($strategy.boxed(),)+).prop_map(|($($name,)+)| {
            json!({"account_id": "account", "environment_id": "environment", $(stringify!($name): $name),+})
        })
    };
}

/// Two objects as one.
fn joined(parts: (Value, Value)) -> Value {
    let (mut whole, part) = parts;
    for (name, value) in part.as_object().unwrap() {
        whole[name] = value.clone();
    }
    whole
}

fn definition() -> impl Strategy<Value = Value> {
    object! {
        id: id(), comparable_type: pick(["bool", "date", "int", "string"]),
        entity_type: pick(["company", "user"]),
    }
}

fn condition() -> impl Strategy<Value = Value> {
    let common = object! {
        id: select(vec!["x", "x", "x", ""]).prop_map(Value::from), condition_type: pick(CONDITIONS),
        operator: pick(OPERATORS), resource_ids: many(id(), 2), trait_value: pick(VALUES),
        trait_definition: maybe(definition()),
        comparison_trait_definition: option::weighted(0.2, definition()).prop_map(|it| it.unwrap_or(Value::Null)),
    };
    let metered = object! {
        event_subtype: maybe(id()), metric_value: maybe(count()),
        metric_period: maybe(pick(["all_time", "current_day"])),
        metric_period_month_reset: maybe(pick(["first_of_month", "billing_cycle"])),
        credit_id: maybe(id()), consumption_rate: maybe(amount()),
        quantity_rates: maybe(map(&QUANTITIES, maybe(amount()))),
    };
    (common, metered).prop_map(joined)
}

fn rule() -> impl Strategy<Value = Value> {
    let group = object! { conditions: many(condition(), 2) };
    object! {
        id: id(), flag_id: maybe(id()), rule_type: pick(RULES), name: id(), priority: count(),
        conditions: many(condition(), 2), condition_groups: many(group, 1), value: any::<bool>().prop_map(Value::from),
    }
}

fn flag() -> impl Strategy<Value = Value> {
    object! {
        id: id(), key: Just(Value::from("k")), default_value: any::<bool>().prop_map(Value::from),
        rules: many(rule(), 4),
    }
}

fn policy() -> impl Strategy<Value = Value> {
    object! {
        id: id(), credit_id: id(), kind: maybe(pick(["per_draw", "window", "odd"])),
        scope: maybe(pick(["company", "user", "group", "odd"])), company_id: maybe(id()), limit: maybe(amount()),
        consumed: maybe(amount()), resets_at: maybe(pick(["2024-01-01T00:00:00Z", "2030-01-01T00:00:00Z", "x"])),
    }
}

fn entity() -> impl Strategy<Value = Value> {
    let held = object! { trait_definition: maybe(definition()), value: pick(VALUES) };
    object! {
        id: id(), traits: many(held, 12), rules: many(rule(), 2), credit_spend_policies: many(policy(), 2),
    }
}

fn company() -> impl Strategy<Value = Value> {
    let metric = object! {
        company_id: id(), event_subtype: id(), period: pick(["all_time", "current_day"]),
        month_reset: pick(["first_of_month", "billing_cycle"]), value: count(), created_at: id(),
    };
    let postpaid = object! { overdraft_limit: maybe(amount()) };
    let own = object! {
        base_plan_id: maybe(id()), plan_ids: many(id(), 3), plan_version_ids: many(id(), 3),
        billing_product_ids: many(id(), 3), credit_balances: maybe(map(&["a", "b", "c", ""], amount())),
        credit_postpaid: maybe(map(&["a", "b"], maybe(postpaid))), metrics: many(metric, 20),
    };
    (entity(), own).prop_map(joined)
}

fn options() -> impl Strategy<Value = Value> {
    let event = object! { event_subtype: id(), quantity: count() };
    let quantities = object! {
        event_subtype: id(), quantity: maybe(amount()), quantities: maybe(map(&QUANTITIES, maybe(amount()))),
    };
    object! {
        usage: maybe(count()), event_usage: maybe(event), event_quantities: maybe(quantities),
        credit_cost: map(&["a", "b"], amount()),
    }
}

fn envelope() -> impl Strategy<Value = Value> {
    object! { flag: flag(), company: maybe(company()), user: maybe(entity()), options: maybe(options()) }
}

fn ours(envelope: &Value) -> Answer {
    let result = check_flag_json(envelope.to_string().as_bytes(), Some(NOW)).unwrap();
    let result: Value = serde_json::from_str(&result).unwrap();
    Answer {
        value: result["value"] == true,
        rule_id: result["ruleId"].as_str().map(str::to_owned),
        spend_policy: result["creditSpendPolicy"]["policy"]["id"]
            .as_str()
            .map(str::to_owned),
        allocation: result["featureAllocation"].as_i64(),
        usage: result["featureUsage"].as_i64(),
        error: result["err"].is_string(),
    }
}

// `PROPTEST_CASES` asks for more.
proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.max(2000), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_compiled_form_answers_as_the_plain_evaluator(envelope in envelope()) {
        let now = DateTime::from_timestamp_millis(NOW).unwrap();
        prop_assert_eq!(ours(&envelope), plain_engine::check(&envelope, now));
    }

    #[test]
    fn what_no_condition_names_does_not_matter(
        mut envelope in envelope(), company in company(), size in 1..40usize,
    ) {
        envelope["company"] = company;
        let before = ours(&envelope);
        let company = &mut envelope["company"];
        for field in ["traits", "metrics"] {
            let mut entries = company[field].as_array().cloned().unwrap_or_default();
            for at in 0..size {
                let name = format!("noise {at}");
                entries.push(match field {
                    "traits" => json!({"value": "1", "trait_definition": {
                        "id": name, "comparable_type": "int", "entity_type": "company"}}),
                    _ => json!({"account_id": "", "environment_id": "", "company_id": "", "event_subtype": name,
                        "period": "all_time", "month_reset": "first_of_month", "value": 1, "created_at": ""}),
                });
            }
            company[field] = entries.into();
        }
        prop_assert_eq!(ours(&envelope), before);
    }

    #[test]
    fn an_overlay_balance_is_the_balance(
        flag in flag(), mut company in company(), credit in select(vec!["a", "b"]), balance in 0.0..20.0f64,
    ) {
        let flag = parse_flag(flag.to_string().as_bytes()).unwrap();
        let value = |company: &Value, preflight: &Preflight<'_>| {
            let company = parse_company(company.to_string().as_bytes()).unwrap();
            let verdict = evaluate(&flag, Some(&company), None, preflight, Some(NOW));
            (verdict.value, verdict.reason.to_string())
        };
        let overlay = Preflight { balance: Some((credit, balance)), ..Preflight::default() };
        let with_overlay = value(&company, &overlay);
        if company["credit_balances"].is_null() {
            company["credit_balances"] = json!({});
        }
        company["credit_balances"][credit] = balance.into();
        prop_assert_eq!(with_overlay, value(&company, &Preflight::default()));
    }

    #[test]
    fn no_bytes_do_harm(
        envelope in envelope(), cuts in vec((any::<prop::sample::Index>(), any::<u8>(), 0..4u8), 1..4),
    ) {
        for part in [&envelope, &envelope["flag"], &envelope["company"], &envelope["user"]] {
            let mut bytes = part.to_string().into_bytes();
            for (index, byte, how) in &cuts {
                let at = index.index(bytes.len());
                match how {
                    0 => bytes[at] = *byte,
                    1 => bytes.insert(at, *byte),
                    2 => bytes.truncate(at.max(1)),
                    _ => drop(bytes.remove(at)),
                }
                if bytes.is_empty() {
                    bytes.push(*byte);
                }
            }
            survive(&bytes);
            survive_as_message(&bytes);
        }
    }

    #[test]
    fn deep_nesting_is_refused_or_skipped(depth in 1..100_000usize, name in select(vec!["rules", "extra", "traits"])) {
        let nested = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        survive(nested.as_bytes());
        survive(format!("{{\"{name}\":{nested}}}").as_bytes());
    }
}

/// Hands bytes to everything that reads any.
fn survive(bytes: &[u8]) {
    let envelope = check_flag_json(bytes, Some(NOW));
    let bulk = check_flags_json(bytes, None);
    drop((envelope, bulk, parse_flags(bytes)));
    let empty = br#"{"id":"a","account_id":"","environment_id":""}"#;
    let company = parse_company(empty)
        .unwrap()
        .merge(bytes)
        .or_else(|_| parse_company(bytes));
    let user = parse_user(empty)
        .unwrap()
        .merge(bytes)
        .or_else(|_| parse_user(bytes));
    if let Ok(flag) = parse_flag(bytes) {
        let verdict = evaluate(
            &flag,
            company.as_ref().ok(),
            user.as_ref().ok(),
            &Preflight::default(),
            Some(NOW),
        );
        assert!(!verdict.reason.to_string().is_empty());
    }
}

/// Hands bytes to a cache, as a message and as the data of messages, and sees that it still takes in a good one.
fn survive_as_message(bytes: &[u8]) {
    let cache = Cache::new(2, 2);
    cache.apply(bytes);
    for kind in ["Company", "User", "Flag", "Flags"] {
        for what in ["full", "partial", "delete", "error"] {
            let start = format!(
                r#"{{"entity_type":"rulesengine.{kind}","message_type":"{what}","entity_id":"a","data":"#
            );
            cache.apply(&[start.as_bytes(), bytes, b"}"].concat());
        }
    }
    let good = br#"{"entity_type":"rulesengine.Company","message_type":"full","data":
        {"id":"good","account_id":"","environment_id":"","keys":{"id":"good"}}}"#;
    assert!(cache.apply(good).skipped.is_empty());
    assert!(cache.companies().get("good").is_some());
}
