//! Compiled flags and entities, and their evaluation.
//!
//! A [`Flag`], [`Company`] or [`User`] is compiled once from its wire form (see [`crate::wire`]) and does not
//! change after that, except for metric values that grow in place. [`evaluate`] reads them, a [`Preflight`] and an
//! instant, and answers with a [`Verdict`] that borrows from all of these. It allocates nothing, reads no
//! clock and looks everything up by hashes computed at compile time, so that its cost depends on the rules of
//! the flag alone.
//!
//! The answers are those of the published engine, version [`VERSION_KEY`]; `docs/engine.md` lists where this
//! one answers while that one refuses.

mod company;
mod condition;
mod cost;
mod date;
mod entitlement;
mod evaluate;
mod facts;
mod flag;
mod gate;
mod metric;
mod operator;
mod period;
mod preflight;
mod rule;
mod spend;
mod table;
mod traits;
mod user;
mod value;
mod verdict;

pub use company::Company;
pub(crate) use company::{Balance, CompanyParts, Postpaid};
pub(crate) use condition::{
    Condition, CreditCondition, Membership, MetricCondition, QuantityRate, TraitCondition,
    TraitOwner,
};
pub(crate) use date::parse_rfc3339;
pub(crate) use entitlement::Feature;
pub use entitlement::{Entitlement, QuantityRates, Terms, ValueType, WarningTier};
pub use evaluate::evaluate;
pub use flag::{Flag, FlagName};
pub(crate) use metric::{Metric, RowKey};
pub(crate) use operator::Operator;
pub(crate) use period::Subscription;
pub use period::{MetricPeriod, MonthReset};
pub use preflight::{Preflight, PreflightError};
pub(crate) use rule::{FlagRules, Rule, ordered};
pub use rule::{RuleName, RuleType};
pub(crate) use spend::CreditPolicies;
pub use spend::{PolicyKind, PolicyScope, SpendPolicy, SpendWindow, Violation};
pub(crate) use table::{Ids, Key, Table};
pub(crate) use traits::Trait;
pub use user::User;
pub(crate) use user::UserParts;
pub(crate) use value::{Comparable, Value};
pub use verdict::{FeatureUsage, KeptReason, Reason, Verdict};

/// The version key of the published engine whose answers these are.
pub const VERSION_KEY: &str = "fde6dba2";
