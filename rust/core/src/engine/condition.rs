//! Compiled conditions: everything parsed and hashed, nothing left to look up by name.

use std::sync::Arc;

use super::metric::RowKey;
use super::operator::Operator;
use super::period::{MetricPeriod, MonthReset};
use super::table::{Ids, Key};
use super::value::{Comparable, Value};
use crate::name::Name;

/// One condition of a rule.
#[derive(Debug, Clone)]
pub(crate) enum Condition {
    /// False, whatever the entities are.
    Never,
    /// The entity, or one of its plans or products, is listed, or (negated) is not.
    Member {
        of: Membership,
        ids: Ids,
        negated: bool,
    },
    BasePlan {
        operator: Operator,
        ids: Ids,
    },
    Metric(MetricCondition),
    /// A metric condition without a value: in the presence of a company it fails its whole rule.
    MetricWithoutValue,
    Trait(TraitCondition),
    Credit(CreditCondition),
}

/// What a [`Condition::Member`] is about.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Membership {
    Company,
    User,
    Plan,
    PlanVersion,
    BillingProduct,
}

#[derive(Debug, Clone)]
pub(crate) struct MetricCondition {
    pub operator: Operator,
    pub event: Arc<str>,
    /// The row of usage to read: of all time where no period is given, of calendar months where no reset is given.
    pub row: RowKey,
    /// As sent; `None` tells that no reset is reported.
    pub period: Option<MetricPeriod>,
    /// As sent.
    pub reset: Option<MonthReset>,
    pub value: i64,
    /// The company trait that replaces `value`.
    pub comparison: Option<Box<Key>>,
}

/// Whose traits a condition is about.
#[derive(Debug, Clone, Copy)]
pub(crate) enum TraitOwner {
    Company,
    User,
}

#[derive(Debug, Clone)]
pub(crate) struct TraitCondition {
    pub operator: Operator,
    pub owner: TraitOwner,
    /// How the trait compares if the entity does not have it.
    pub comparable: Comparable,
    pub definition: Key,
    pub value: Value,
    /// The trait of the same entity that replaces `value`; one with an empty id replaces nothing.
    pub comparison: Option<Box<Key>>,
}

#[derive(Debug, Clone)]
pub(crate) struct CreditCondition {
    pub credit: Key,
    pub event: Option<Name>,
    /// Credits per unit of usage.
    pub rate: f64,
    /// In the order in which they are added up.
    pub quantity_rates: Box<[QuantityRate]>,
    /// Holds when the credits do not suffice.
    pub negated: bool,
}

/// Credits per unit of one quantity of an event.
#[derive(Debug, Clone)]
pub(crate) struct QuantityRate {
    pub kind: RateKind,
    pub name: Name,
    pub rate: f64,
}

/// Known quantities go first, in this order, and input tokens stand for those that no subset counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum RateKind {
    InputTokens,
    OutputTokens,
    CachedInputTokens,
    CacheCreationInputTokens,
    ReasoningTokens,
    Other,
}

/// A subset of the input tokens, priced on its own.
pub(crate) const CACHED_INPUT_TOKENS: &str = "cached_input_tokens";
/// A subset of the input tokens, priced on its own.
pub(crate) const CACHE_CREATION_INPUT_TOKENS: &str = "cache_creation_input_tokens";

impl QuantityRate {
    pub fn new(name: &str, rate: f64) -> Self {
        let kind = match name {
            "input_tokens" => RateKind::InputTokens,
            "output_tokens" => RateKind::OutputTokens,
            CACHED_INPUT_TOKENS => RateKind::CachedInputTokens,
            CACHE_CREATION_INPUT_TOKENS => RateKind::CacheCreationInputTokens,
            "reasoning_tokens" => RateKind::ReasoningTokens,
            _ => RateKind::Other,
        };
        Self {
            kind,
            name: Name::new(name),
            rate,
        }
    }
}
