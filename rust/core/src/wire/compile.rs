//! From the wire form to the compiled form: everything parsed, hashed and put in order, once.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::models;
use super::text::{Map, Text};
use crate::engine::{
    Balance, Company, CompanyParts, Comparable, Condition, CreditCondition, CreditPolicies,
    Entitlement, Feature, Flag, FlagRules, Ids, Key, Membership, Metric, MetricCondition,
    MetricPeriod, MonthReset, Operator, PolicyKind, PolicyScope, Postpaid, QuantityRate,
    QuantityRates, RowKey, Rule, RuleName, RuleType, SpendPolicy, SpendWindow, Subscription, Table,
    Trait, TraitCondition, TraitOwner, User, UserParts, Value, WarningTier, ordered, parse_rfc3339,
};
use crate::name::Name;

pub(super) fn flag(flag: &models::Flag<'_>) -> Flag {
    let rules = flag.rules.iter().filter_map(rule).collect();
    Flag::new(&flag.id, &flag.key, flag.default_value, ordered(rules))
}

pub(super) fn company(company: models::Company<'_>) -> Company {
    Company::new(CompanyParts {
        id: Arc::from(&*company.id),
        keys: keys(company.keys),
        base_plan: company.base_plan_id.as_deref().map(Key::new),
        plans: ids(&company.plan_ids),
        plan_versions: ids(&company.plan_version_ids),
        billing_products: ids(&company.billing_product_ids),
        balances: balances(company.credit_balances),
        postpaid: postpaid(company.credit_postpaid),
        policies: policies(&company.credit_spend_policies, PolicyScope::User),
        features: features(company.entitlements),
        metrics: metrics(&company.metrics),
        rules: rules_by_flag(&company.rules),
        subscription: company.subscription.as_ref().map(subscription),
        traits: traits(&company.traits),
    })
}

pub(super) fn user(user: models::User<'_>) -> User {
    User::new(UserParts {
        id: Arc::from(&*user.id),
        keys: keys(user.keys),
        policies: policies(&user.credit_spend_policies, PolicyScope::Company),
        rules: rules_by_flag(&user.rules),
        traits: traits(&user.traits),
    })
}

pub(super) fn keys(keys: Map<'_, Text<'_>>) -> Arc<[(Box<str>, Box<str>)]> {
    keys.into_distinct()
        .iter()
        .map(|(name, value)| (Box::from(&**name), Box::from(&**value)))
        .collect()
}

pub(super) fn ids(ids: &[Text<'_>]) -> Ids {
    Ids::new(ids.iter().map(|id| Key::new(id)))
}

pub(super) fn balances(balances: Map<'_, f64>) -> Table<Balance> {
    // In reverse, because the last of a name counts.
    let pairs = balances.into_pairs().into_iter().rev();
    Table::first_wins(pairs.map(|(credit, amount)| Balance {
        credit: Name::new(&credit),
        amount,
    }))
}

/// What is left of each credit that leases are taken from, as balances.
pub(super) fn lease_balances(leased: Map<'_, models::LeaseBalance>) -> Table<Balance> {
    let pairs = leased.into_pairs().into_iter().rev();
    Table::first_wins(pairs.map(|(credit, left)| Balance {
        credit: Name::new(&credit),
        amount: left.remaining,
    }))
}

pub(super) fn postpaid(postpaid: Map<'_, Option<models::Postpaid>>) -> Table<Postpaid> {
    let entries = postpaid
        .into_distinct()
        .into_iter()
        .filter_map(|(credit, entry)| {
            Some(Postpaid {
                credit: Name::new(&credit),
                overdraft_limit: entry?.overdraft_limit,
            })
        });
    Table::first_wins(entries)
}

/// Leaves out the policies that limit nothing here: those of `excluded` scope, of a kind that is not known,
/// and those without a limit.
pub(super) fn policies(
    policies: &[models::SpendPolicy<'_>],
    excluded: PolicyScope,
) -> Table<CreditPolicies> {
    let mut by_credit: BTreeMap<&str, Vec<SpendPolicy>> = BTreeMap::new();
    for policy in policies
        .iter()
        .filter(|policy| policy.scope != Some(excluded))
    {
        if let Some(compiled) = spend_policy(policy) {
            by_credit
                .entry(&policy.credit_id)
                .or_default()
                .push(compiled);
        }
    }
    Table::first_wins(
        by_credit
            .into_iter()
            .map(|(credit, policies)| CreditPolicies {
                credit: Name::new(credit),
                policies: policies.into_boxed_slice(),
            }),
    )
}

fn spend_policy(policy: &models::SpendPolicy<'_>) -> Option<SpendPolicy> {
    let kind = policy.kind.filter(|&kind| kind != PolicyKind::Unknown)?;
    let window = policy.window.as_ref();
    Some(SpendPolicy {
        id: Arc::from(&*policy.id),
        credit_id: Arc::from(&*policy.credit_id),
        kind,
        scope: policy.scope.unwrap_or(PolicyScope::Unknown),
        company_id: shared(policy.company_id.as_ref()),
        label: shared(policy.label.as_ref()),
        limit: policy.limit?,
        consumed: policy.consumed,
        window: window.map(|window| SpendWindow {
            unit: Arc::from(&*window.unit),
            count: window.count,
        }),
        resets_at: shared(policy.resets_at.as_ref()),
        resets: policy.resets_at.as_deref().and_then(parse_rfc3339),
    })
}

pub(super) fn features(entitlements: Vec<models::Entitlement<'_>>) -> Table<Feature> {
    Table::first_wins(
        entitlements
            .into_iter()
            .map(|it| Feature::new(entitlement(it))),
    )
}

fn entitlement(wire: models::Entitlement<'_>) -> Entitlement {
    let tiers = wire.warning_tiers.iter();
    let rates = wire.quantity_rates.into_distinct().into_iter();
    Entitlement {
        feature_id: Arc::from(&*wire.feature_id),
        feature_key: Arc::from(&*wire.feature_key),
        value_type: wire.value_type,
        allocation: wire.allocation,
        soft_limit: wire.soft_limit,
        usage: wire.usage,
        event_name: shared(wire.event_name.as_ref()),
        event_subtype: shared(wire.event_subtype.as_ref()),
        metric_period: wire.metric_period,
        month_reset: wire.month_reset,
        metric_reset_at: shared(wire.metric_reset_at.as_ref()),
        credit_id: shared(wire.credit_id.as_ref()),
        credit_total: wire.credit_total,
        credit_used: wire.credit_used,
        credit_remaining: wire.credit_remaining,
        credit_reserved: wire.credit_reserved,
        credit_settled: wire.credit_settled,
        consumption_rate: wire.consumption_rate,
        quantity_rates: QuantityRates(
            rates
                .filter_map(|(name, rate)| Some((Arc::from(&*name), rate?)))
                .collect(),
        ),
        warning_tiers: tiers
            .map(|tier| WarningTier {
                key: Arc::from(&*tier.key),
                value: tier.value,
            })
            .collect(),
    }
}

/// Leaves out the rows that no condition can name.
pub(super) fn metrics(metrics: &[models::Metric<'_>]) -> Table<Metric> {
    let known = metrics.iter().filter(|metric| {
        metric.period != MetricPeriod::Unknown && metric.month_reset != MonthReset::Unknown
    });
    Table::first_wins(known.map(|metric| {
        let key = RowKey::new(&metric.event_subtype, metric.period, metric.month_reset);
        Metric::new(key, metric.value)
    }))
}

pub(super) fn subscription(subscription: &models::Subscription<'_>) -> Subscription {
    Subscription {
        start: parse_rfc3339(&subscription.period_start),
        end: parse_rfc3339(&subscription.period_end),
    }
}

/// A trait without a definition is one that no condition can name.
pub(super) fn traits(traits: &[models::Trait<'_>]) -> Table<Trait> {
    Table::first_wins(traits.iter().filter_map(|wire| {
        let definition = wire.trait_definition.as_ref()?;
        Some(Trait {
            definition: Name::new(&definition.id),
            value: Value::new(definition.comparable_type, &wire.value),
        })
    }))
}

/// Leaves out the rules that name no flag: they apply to none.
pub(super) fn rules_by_flag(rules: &[models::Rule<'_>]) -> Table<FlagRules> {
    let mut by_flag: BTreeMap<&str, Vec<Rule>> = BTreeMap::new();
    for wire in rules {
        if let (Some(flag_id), Some(rule)) = (wire.flag_id.as_deref(), rule(wire)) {
            by_flag.entry(flag_id).or_default().push(rule);
        }
    }
    Table::first_wins(by_flag.into_iter().map(|(flag_id, rules)| FlagRules {
        flag_id: Name::new(flag_id),
        rules: ordered(rules),
    }))
}

/// `None` for a rule that can never match: one without an id, or of a type that is not known.
fn rule(rule: &models::Rule<'_>) -> Option<Rule> {
    let kind = rule.rule_type;
    if rule.id.is_empty() || kind == RuleType::Unknown {
        return None;
    }
    let order = match kind {
        RuleType::Standard => rule.priority,
        kind if kind.is_unconditional() => 0,
        _ => i64::from(!rule.value),
    };
    let (conditions, groups) = if kind.is_unconditional() {
        (Box::default(), Box::default())
    } else {
        let groups = rule.condition_groups.iter();
        (
            conditions(&rule.conditions),
            groups.map(|group| conditions(&group.conditions)).collect(),
        )
    };
    let name = RuleName::new(&rule.id, kind, &rule.name);
    Some(Rule::new(name, order, rule.value, conditions, groups))
}

fn conditions(conditions: &[models::Condition<'_>]) -> Box<[Condition]> {
    conditions.iter().map(condition).collect()
}

fn condition(condition: &models::Condition<'_>) -> Condition {
    if condition.id.is_empty() {
        return Condition::Never;
    }
    let member = |of| Condition::Member {
        of,
        ids: ids(&condition.resource_ids),
        negated: condition.operator == Operator::Ne,
    };
    match condition.condition_type {
        models::ConditionType::BasePlan => Condition::BasePlan {
            operator: condition.operator,
            ids: ids(&condition.resource_ids),
        },
        models::ConditionType::BillingProduct => member(Membership::BillingProduct),
        models::ConditionType::Company => member(Membership::Company),
        models::ConditionType::Plan => member(Membership::Plan),
        models::ConditionType::PlanVersion => member(Membership::PlanVersion),
        models::ConditionType::User => member(Membership::User),
        models::ConditionType::Credit => credit_condition(condition).unwrap_or(Condition::Never),
        models::ConditionType::Metric => metric_condition(condition).unwrap_or(Condition::Never),
        models::ConditionType::Trait => trait_condition(condition).unwrap_or(Condition::Never),
        models::ConditionType::Unknown => Condition::Never,
    }
}

/// `None` for a condition that can never hold.
fn credit_condition(condition: &models::Condition<'_>) -> Option<Condition> {
    Some(Condition::Credit(CreditCondition {
        credit: Key::new(condition.credit_id.as_deref()?),
        event: condition.event_subtype.as_deref().map(Name::new),
        rate: condition.consumption_rate.unwrap_or(1.0),
        quantity_rates: quantity_rates(&condition.quantity_rates),
        negated: matches!(condition.operator, Operator::Gt | Operator::Gte),
    }))
}

fn quantity_rates(rates: &Map<'_, Option<f64>>) -> Box<[QuantityRate]> {
    let named: BTreeMap<&str, Option<f64>> =
        rates.pairs().map(|(name, rate)| (name, *rate)).collect();
    let mut rates: Vec<_> = named
        .into_iter()
        .filter_map(|(name, rate)| Some(QuantityRate::new(name, rate?)))
        .collect();
    // The names are in order already, and the sort is stable.
    rates.sort_by_key(|rate| rate.kind);
    rates.into_boxed_slice()
}

/// `None` for a condition that can never hold.
fn metric_condition(condition: &models::Condition<'_>) -> Option<Condition> {
    let event = condition.event_subtype.as_deref()?;
    let period = condition.metric_period.unwrap_or(MetricPeriod::AllTime);
    let reset = condition
        .metric_period_month_reset
        .unwrap_or(MonthReset::FirstOfMonth);
    if period == MetricPeriod::Unknown || reset == MonthReset::Unknown {
        return None;
    }
    let Some(value) = condition.metric_value else {
        return Some(Condition::MetricWithoutValue);
    };
    Some(Condition::Metric(MetricCondition {
        operator: condition.operator,
        event: Arc::from(event),
        row: RowKey::new(event, period, reset),
        period: condition.metric_period,
        reset: condition.metric_period_month_reset,
        value,
        comparison: comparison(condition),
    }))
}

/// `None` for a condition that can never hold.
fn trait_condition(condition: &models::Condition<'_>) -> Option<Condition> {
    let definition = condition.trait_definition.as_ref()?;
    let owner = match definition.entity_type {
        models::EntityType::Company => TraitOwner::Company,
        models::EntityType::User => TraitOwner::User,
        models::EntityType::Unknown => return None,
    };
    let comparable = match definition.comparable_type {
        // A trait that no entity can have compares as text.
        _ if definition.id.is_empty() => Comparable::Text,
        comparable => comparable,
    };
    Some(Condition::Trait(TraitCondition {
        operator: condition.operator,
        owner,
        comparable,
        definition: Key::new(&definition.id),
        value: Value::new(comparable, &condition.trait_value),
        comparison: comparison(condition),
    }))
}

fn comparison(condition: &models::Condition<'_>) -> Option<Box<Key>> {
    let definition = condition.comparison_trait_definition.as_ref()?;
    Some(Box::new(Key::new(&definition.id)))
}

fn shared(text: Option<&Text<'_>>) -> Option<Arc<str>> {
    text.map(|text| Arc::from(&**text))
}
