//! The wire form of flags, companies and users, as the server sends them.
//!
//! Fields have their snake case name or its camel case; both at once, like any field twice, is an error.
//! Fields that are not here are skipped. A missing or null list or map is empty. Values of an
//! enumeration that are not here are read as its `Unknown`. The published engine takes a struct as an array of
//! its fields too, so their order is part of the contract.

use serde::{Deserialize, Deserializer};

use super::text::{Map, Text, Unread};
use crate::engine::{
    Comparable, MetricPeriod, MonthReset, Operator, PolicyKind, PolicyScope, RuleType, ValueType,
};

/// A null is the empty value.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    from: D,
) -> Result<T, D::Error> {
    Option::deserialize(from).map(Option::unwrap_or_default)
}

/// Tells a null, which is the empty value, from a field that is not there.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    from: D,
) -> Result<Option<T>, D::Error> {
    or_default(from).map(Some)
}

/// What a condition is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ConditionType {
    BasePlan,
    BillingProduct,
    Company,
    Credit,
    Metric,
    Plan,
    PlanVersion,
    Trait,
    User,
    #[serde(other)]
    Unknown,
}

/// Whose trait it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum EntityType {
    Company,
    User,
    #[serde(other)]
    Unknown,
}

/// A feature flag.
#[derive(Debug, Deserialize)]
#[serde(bound(deserialize = "'de: 'a"))]
pub(crate) struct Flag<'a> {
    pub id: Text<'a>,
    #[serde(alias = "accountId")]
    pub account_id: Unread,
    #[serde(alias = "environmentId")]
    pub environment_id: Unread,
    pub key: Text<'a>,
    #[serde(default, deserialize_with = "or_default")]
    pub rules: Vec<Rule<'a>>,
    #[serde(alias = "defaultValue")]
    pub default_value: bool,
}

/// A rule of a flag, or one that a company or user adds to a flag.
#[derive(Debug, Deserialize)]
#[serde(bound(deserialize = "'de: 'a"))]
pub(crate) struct Rule<'a> {
    pub id: Text<'a>,
    #[serde(alias = "flagId", default)]
    pub flag_id: Option<Text<'a>>,
    #[serde(alias = "accountId")]
    pub account_id: Unread,
    #[serde(alias = "environmentId")]
    pub environment_id: Unread,
    #[serde(alias = "ruleType")]
    pub rule_type: RuleType,
    pub name: Text<'a>,
    pub priority: i64,
    #[serde(default, deserialize_with = "or_default")]
    pub conditions: Vec<Condition<'a>>,
    #[serde(alias = "conditionGroups", default, deserialize_with = "or_default")]
    pub condition_groups: Vec<ConditionGroup<'a>>,
    pub value: bool,
}

/// Conditions of which one must hold.
#[derive(Debug, Deserialize)]
#[serde(bound(deserialize = "'de: 'a"))]
pub(crate) struct ConditionGroup<'a> {
    #[serde(default, deserialize_with = "or_default")]
    pub conditions: Vec<Condition<'a>>,
}

/// A condition; which fields matter depends on its type.
#[derive(Debug, Deserialize)]
#[serde(bound(deserialize = "'de: 'a"))]
pub(crate) struct Condition<'a> {
    pub id: Text<'a>,
    #[serde(alias = "accountId")]
    pub account_id: Unread,
    #[serde(alias = "environmentId")]
    pub environment_id: Unread,
    #[serde(alias = "conditionType")]
    pub condition_type: ConditionType,
    pub operator: Operator,
    #[serde(alias = "resourceIds", default, deserialize_with = "or_default")]
    pub resource_ids: Vec<Text<'a>>,
    #[serde(alias = "eventSubtype", default)]
    pub event_subtype: Option<Text<'a>>,
    #[serde(alias = "metricValue", default)]
    pub metric_value: Option<i64>,
    #[serde(alias = "metricPeriod", default)]
    pub metric_period: Option<MetricPeriod>,
    #[serde(alias = "metricPeriodMonthReset", default)]
    pub metric_period_month_reset: Option<MonthReset>,
    #[serde(alias = "creditId", default)]
    pub credit_id: Option<Text<'a>>,
    #[serde(alias = "consumptionRate", default)]
    pub consumption_rate: Option<f64>,
    #[serde(alias = "quantityRates", default, deserialize_with = "or_default")]
    pub quantity_rates: Map<'a, Option<f64>>,
    #[serde(alias = "traitDefinition", default)]
    pub trait_definition: Option<TraitDefinition<'a>>,
    #[serde(alias = "traitValue")]
    pub trait_value: Text<'a>,
    #[serde(alias = "comparisonTraitDefinition", default)]
    pub comparison_trait_definition: Option<TraitDefinition<'a>>,
}

/// What a trait is.
#[derive(Debug, Deserialize)]
#[serde(bound(deserialize = "'de: 'a"))]
pub(crate) struct TraitDefinition<'a> {
    pub id: Text<'a>,
    #[serde(alias = "comparableType")]
    pub comparable_type: Comparable,
    #[serde(alias = "entityType")]
    pub entity_type: EntityType,
}

/// A company.
#[derive(Debug, Deserialize)]
#[serde(bound(deserialize = "'de: 'a"))]
pub(crate) struct Company<'a> {
    pub id: Text<'a>,
    #[serde(alias = "accountId")]
    pub account_id: Unread,
    #[serde(alias = "environmentId")]
    pub environment_id: Unread,
    #[serde(alias = "basePlanId", default)]
    pub base_plan_id: Option<Text<'a>>,
    #[serde(alias = "billingProductIds", default, deserialize_with = "or_default")]
    pub billing_product_ids: Vec<Text<'a>>,
    #[serde(default, deserialize_with = "or_default")]
    pub keys: Map<'a, Text<'a>>,
    #[serde(alias = "planIds", default, deserialize_with = "or_default")]
    pub plan_ids: Vec<Text<'a>>,
    #[serde(alias = "planVersionIds", default, deserialize_with = "or_default")]
    pub plan_version_ids: Vec<Text<'a>>,
    #[serde(default, deserialize_with = "or_default")]
    pub metrics: Vec<Metric<'a>>,
    #[serde(alias = "creditBalances", default, deserialize_with = "or_default")]
    pub credit_balances: Map<'a, f64>,
    #[serde(alias = "creditPostpaid", default, deserialize_with = "or_default")]
    pub credit_postpaid: Map<'a, Option<Postpaid>>,
    #[serde(default)]
    pub subscription: Option<Subscription<'a>>,
    #[serde(default, deserialize_with = "or_default")]
    pub traits: Vec<Trait<'a>>,
    #[serde(default, deserialize_with = "or_default")]
    pub rules: Vec<Rule<'a>>,
    #[serde(
        alias = "creditSpendPolicies",
        default,
        deserialize_with = "or_default"
    )]
    pub credit_spend_policies: Vec<SpendPolicy<'a>>,
    #[serde(default, deserialize_with = "or_default")]
    pub entitlements: Vec<Entitlement<'a>>,
}

/// A user.
#[derive(Debug, Deserialize)]
#[serde(bound(deserialize = "'de: 'a"))]
pub(crate) struct User<'a> {
    pub id: Text<'a>,
    #[serde(alias = "accountId")]
    pub account_id: Unread,
    #[serde(alias = "environmentId")]
    pub environment_id: Unread,
    #[serde(default, deserialize_with = "or_default")]
    pub keys: Map<'a, Text<'a>>,
    #[serde(default, deserialize_with = "or_default")]
    pub traits: Vec<Trait<'a>>,
    #[serde(
        alias = "creditSpendPolicies",
        default,
        deserialize_with = "or_default"
    )]
    pub credit_spend_policies: Vec<SpendPolicy<'a>>,
    #[serde(default, deserialize_with = "or_default")]
    pub rules: Vec<Rule<'a>>,
}

/// What changed about a company. A field that is not there did not.
#[derive(Debug, Deserialize)]
#[serde(bound(deserialize = "'de: 'a"))]
pub(crate) struct CompanyPartial<'a> {
    #[serde(default)]
    pub id: Option<Text<'a>>,
    #[serde(alias = "basePlanId", default, deserialize_with = "present")]
    pub base_plan_id: Option<Option<Text<'a>>>,
    #[serde(alias = "billingProductIds", default, deserialize_with = "present")]
    pub billing_product_ids: Option<Vec<Text<'a>>>,
    #[serde(default, deserialize_with = "present")]
    pub keys: Option<Map<'a, Text<'a>>>,
    #[serde(alias = "planIds", default, deserialize_with = "present")]
    pub plan_ids: Option<Vec<Text<'a>>>,
    #[serde(alias = "planVersionIds", default, deserialize_with = "present")]
    pub plan_version_ids: Option<Vec<Text<'a>>>,
    #[serde(default, deserialize_with = "present")]
    pub metrics: Option<Vec<Metric<'a>>>,
    #[serde(alias = "creditBalances", default, deserialize_with = "present")]
    pub credit_balances: Option<Map<'a, f64>>,
    #[serde(alias = "creditPostpaid", default, deserialize_with = "present")]
    pub credit_postpaid: Option<Map<'a, Option<Postpaid>>>,
    #[serde(default, deserialize_with = "present")]
    pub subscription: Option<Option<Subscription<'a>>>,
    #[serde(default, deserialize_with = "present")]
    pub traits: Option<Vec<Trait<'a>>>,
    #[serde(default, deserialize_with = "present")]
    pub rules: Option<Vec<Rule<'a>>>,
    #[serde(alias = "creditSpendPolicies", default, deserialize_with = "present")]
    pub credit_spend_policies: Option<Vec<SpendPolicy<'a>>>,
    #[serde(default, deserialize_with = "present")]
    pub entitlements: Option<Vec<Entitlement<'a>>>,
    #[serde(alias = "creditLeaseBalance", default, deserialize_with = "present")]
    pub credit_lease_balance: Option<Map<'a, LeaseBalance>>,
}

/// What changed about a user. A field that is not there did not.
#[derive(Debug, Deserialize)]
#[serde(bound(deserialize = "'de: 'a"))]
pub(crate) struct UserPartial<'a> {
    #[serde(default)]
    pub id: Option<Text<'a>>,
    #[serde(default, deserialize_with = "present")]
    pub keys: Option<Map<'a, Text<'a>>>,
    #[serde(default, deserialize_with = "present")]
    pub traits: Option<Vec<Trait<'a>>>,
    #[serde(alias = "creditSpendPolicies", default, deserialize_with = "present")]
    pub credit_spend_policies: Option<Vec<SpendPolicy<'a>>>,
    #[serde(default, deserialize_with = "present")]
    pub rules: Option<Vec<Rule<'a>>>,
}

/// What is left of a credit that leases are taken from.
#[derive(Debug, Deserialize)]
pub(crate) struct LeaseBalance {
    pub remaining: f64,
}

/// A trait of a company or user.
#[derive(Debug, Deserialize)]
#[serde(bound(deserialize = "'de: 'a"))]
pub(crate) struct Trait<'a> {
    #[serde(alias = "traitDefinition", default)]
    pub trait_definition: Option<TraitDefinition<'a>>,
    pub value: Text<'a>,
}

/// The usage of one event.
#[derive(Debug, Deserialize)]
#[serde(bound(deserialize = "'de: 'a"))]
pub(crate) struct Metric<'a> {
    #[serde(alias = "accountId")]
    pub account_id: Unread,
    #[serde(alias = "environmentId")]
    pub environment_id: Unread,
    #[serde(alias = "companyId")]
    pub company_id: Unread,
    #[serde(alias = "eventSubtype")]
    pub event_subtype: Text<'a>,
    pub period: MetricPeriod,
    #[serde(alias = "monthReset")]
    pub month_reset: MonthReset,
    pub value: i64,
    #[serde(alias = "createdAt")]
    pub created_at: Unread,
    #[serde(alias = "validUntil", default)]
    pub valid_until: Option<Unread>,
}

/// A company's subscription; dates as RFC 3339.
#[derive(Debug, Deserialize)]
#[serde(bound(deserialize = "'de: 'a"))]
pub(crate) struct Subscription<'a> {
    pub id: Unread,
    #[serde(alias = "periodStart")]
    pub period_start: Text<'a>,
    #[serde(alias = "periodEnd")]
    pub period_end: Text<'a>,
}

/// What a company is entitled to for one feature.
#[derive(Debug, Deserialize)]
#[serde(bound(deserialize = "'de: 'a"))]
pub(crate) struct Entitlement<'a> {
    #[serde(alias = "featureId")]
    pub feature_id: Text<'a>,
    #[serde(alias = "featureKey")]
    pub feature_key: Text<'a>,
    #[serde(alias = "valueType")]
    pub value_type: ValueType,
    #[serde(default)]
    pub allocation: Option<i64>,
    #[serde(alias = "softLimit", default)]
    pub soft_limit: Option<i64>,
    #[serde(default)]
    pub usage: Option<i64>,
    #[serde(alias = "eventName", default)]
    pub event_name: Option<Text<'a>>,
    #[serde(alias = "eventSubtype", default)]
    pub event_subtype: Option<Text<'a>>,
    #[serde(alias = "metricPeriod", default)]
    pub metric_period: Option<MetricPeriod>,
    #[serde(alias = "monthReset", default)]
    pub month_reset: Option<MonthReset>,
    #[serde(alias = "metricResetAt", default)]
    pub metric_reset_at: Option<Text<'a>>,
    #[serde(alias = "creditId", default)]
    pub credit_id: Option<Text<'a>>,
    #[serde(alias = "creditTotal", default)]
    pub credit_total: Option<f64>,
    #[serde(alias = "creditUsed", default)]
    pub credit_used: Option<f64>,
    #[serde(alias = "creditRemaining", default)]
    pub credit_remaining: Option<f64>,
    #[serde(alias = "creditReserved", default)]
    pub credit_reserved: Option<f64>,
    #[serde(alias = "creditSettled", default)]
    pub credit_settled: Option<f64>,
    // Without a default: as an array, an entitlement must reach this far.
    #[serde(alias = "consumptionRate")]
    pub consumption_rate: Option<f64>,
    #[serde(alias = "quantityRates", default, deserialize_with = "or_default")]
    pub quantity_rates: Map<'a, Option<f64>>,
    #[serde(alias = "warningTiers", default, deserialize_with = "or_default")]
    pub warning_tiers: Vec<WarningTier<'a>>,
}

/// Usage at which a company is warned.
#[derive(Debug, Deserialize)]
#[serde(bound(deserialize = "'de: 'a"))]
pub(crate) struct WarningTier<'a> {
    pub key: Text<'a>,
    pub value: i64,
}

/// A credit that is paid for after it was used.
#[derive(Debug, Deserialize)]
pub(crate) struct Postpaid {
    #[serde(alias = "overdraftLimit", default)]
    pub overdraft_limit: Option<f64>,
}

/// A limit on draws of a credit.
#[derive(Debug, Deserialize)]
#[serde(bound(deserialize = "'de: 'a"))]
pub(crate) struct SpendPolicy<'a> {
    #[serde(default, deserialize_with = "or_default")]
    pub id: Text<'a>,
    #[serde(alias = "creditId", default, deserialize_with = "or_default")]
    pub credit_id: Text<'a>,
    #[serde(default)]
    pub kind: Option<PolicyKind>,
    #[serde(default)]
    pub scope: Option<PolicyScope>,
    #[serde(alias = "companyId", default)]
    pub company_id: Option<Text<'a>>,
    #[serde(default)]
    pub label: Option<Text<'a>>,
    #[serde(default)]
    pub limit: Option<f64>,
    #[serde(default, deserialize_with = "or_default")]
    pub consumed: f64,
    #[serde(default)]
    pub window: Option<SpendWindow<'a>>,
    #[serde(alias = "resetsAt", default)]
    pub resets_at: Option<Text<'a>>,
}

/// The window of a spend policy.
#[derive(Debug, Deserialize)]
#[serde(bound(deserialize = "'de: 'a"))]
pub(crate) struct SpendWindow<'a> {
    #[serde(default, deserialize_with = "or_default")]
    pub unit: Text<'a>,
    #[serde(default)]
    pub count: Option<i64>,
}

/// A preflight. Its fields are read in snake case only.
#[derive(Debug, Deserialize)]
#[serde(bound(deserialize = "'de: 'a"))]
pub(crate) struct Options<'a> {
    #[serde(default)]
    pub credit_cost: Map<'a, f64>,
    #[serde(default)]
    pub usage: Option<i64>,
    #[serde(default)]
    pub event_usage: Option<EventUsage<'a>>,
    #[serde(default)]
    pub event_quantities: Option<EventQuantities<'a>>,
}

/// Units of usage of one event.
#[derive(Debug, Deserialize)]
#[serde(bound(deserialize = "'de: 'a"))]
pub(crate) struct EventUsage<'a> {
    pub event_subtype: Text<'a>,
    pub quantity: i64,
}

/// Quantities of one event.
#[derive(Debug, Deserialize)]
#[serde(bound(deserialize = "'de: 'a"))]
pub(crate) struct EventQuantities<'a> {
    pub event_subtype: Text<'a>,
    #[serde(default)]
    pub quantity: Option<f64>,
    #[serde(default, deserialize_with = "or_default")]
    pub quantities: Map<'a, Option<f64>>,
}
