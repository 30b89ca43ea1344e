//! Rules, and the order in which they are tried.

use std::sync::Arc;

use serde::Deserialize;

use super::condition::Condition;
use super::gate::Gate;
use super::table::{Key, Named, Table};
use crate::name::Name;

/// What a rule is for. The order of the variants is the order in which the groups are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RuleType {
    /// Matches always, before everything else.
    GlobalOverride,
    /// Made for one company.
    CompanyOverride,
    /// Comes with a plan.
    PlanEntitlement,
    /// A company override whose usage ran out.
    CompanyOverrideUsageExceeded,
    /// A plan entitlement whose usage ran out.
    PlanEntitlementUsageExceeded,
    /// Targeting, by priority.
    Standard,
    /// Matches always, after everything else.
    Default,
    /// A type that only a newer server knows: such a rule never matches.
    #[serde(other)]
    Unknown,
}

impl RuleType {
    /// The name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::GlobalOverride => "global_override",
            Self::CompanyOverride => "company_override",
            Self::PlanEntitlement => "plan_entitlement",
            Self::CompanyOverrideUsageExceeded => "company_override_usage_exceeded",
            Self::PlanEntitlementUsageExceeded => "plan_entitlement_usage_exceeded",
            Self::Standard => "standard",
            Self::Default => "default",
            Self::Unknown => "unknown",
        }
    }

    /// Whether rules of this type match without a look at their conditions.
    pub(crate) fn is_unconditional(self) -> bool {
        matches!(self, Self::GlobalOverride | Self::Default)
    }

    /// Whether rules of this type grant a feature, so that a match reports its usage.
    pub(crate) fn is_entitlement(self) -> bool {
        !matches!(
            self,
            Self::GlobalOverride | Self::Standard | Self::Default | Self::Unknown
        )
    }

    pub(crate) fn is_usage_exceeded(self) -> bool {
        matches!(
            self,
            Self::CompanyOverrideUsageExceeded | Self::PlanEntitlementUsageExceeded
        )
    }
}

/// What a result says about the rule that matched; results share it, so that it may outlive the rule.
#[derive(Debug, PartialEq, Eq)]
pub struct RuleName {
    /// The rule's id, never empty.
    pub id: Arc<str>,
    /// The group that it is tried in.
    pub kind: RuleType,
    /// The reason given when it matches.
    pub reason: Arc<str>,
}

impl RuleName {
    pub(crate) fn new(id: &str, kind: RuleType, name: &str) -> Self {
        let reason = format!(
            "Matched {} rule \"{name}\" ({id})",
            kind.as_str().replace('_', " ")
        );
        Self {
            id: id.into(),
            kind,
            reason: reason.into(),
        }
    }
}

/// A compiled rule.
#[derive(Debug, Clone)]
pub(crate) struct Rule {
    pub name: Arc<RuleName>,
    pub kind: RuleType,
    /// The place among the rules of its group, lower first: the priority of a standard rule, 0 and 1 for the
    /// entitlements that grant and deny.
    pub order: i64,
    pub value: bool,
    /// All of these must hold ...
    pub conditions: Box<[Condition]>,
    /// ... and one of each of these.
    pub groups: Box<[Box<[Condition]>]>,
    pub(super) gate: Gate,
}

impl Rule {
    pub fn new(
        name: RuleName,
        order: i64,
        value: bool,
        conditions: Box<[Condition]>,
        groups: Box<[Box<[Condition]>]>,
    ) -> Self {
        Self {
            kind: name.kind,
            name: Arc::new(name),
            order,
            value,
            gate: Gate::new(&conditions),
            conditions,
            groups,
        }
    }

    fn rank(&self) -> (RuleType, i64) {
        (self.kind, self.order)
    }
}

/// Puts the rules of one source into the order in which they are tried.
pub(crate) fn ordered(mut rules: Vec<Rule>) -> Box<[Rule]> {
    rules.sort_by_key(Rule::rank);
    rules.into_boxed_slice()
}

/// The rules that a company or user adds to one flag.
#[derive(Debug)]
pub(crate) struct FlagRules {
    pub flag_id: Name,
    pub rules: Box<[Rule]>,
}

impl Named for FlagRules {
    fn name(&self) -> &Name {
        &self.flag_id
    }
}

impl Table<FlagRules> {
    pub fn of_flag(&self, id: &Key) -> &[Rule] {
        self.named(id).map_or(&[], |entry| &entry.rules)
    }
}

/// The rules of a flag, its company and its user as one sequence. Each source is ordered already; of rules of
/// equal rank the earlier source goes first.
pub(super) struct Pool<'a> {
    sources: [&'a [Rule]; 3],
}

impl<'a> Pool<'a> {
    pub fn new(flag: &'a [Rule], company: &'a [Rule], user: &'a [Rule]) -> Self {
        Self {
            sources: [flag, company, user],
        }
    }
}

impl<'a> Iterator for Pool<'a> {
    type Item = &'a Rule;

    #[inline]
    fn next(&mut self) -> Option<&'a Rule> {
        let [flag, company, user] = &mut self.sources;
        let source = [company, user].into_iter().fold(flag, |best, source| {
            match (best.first(), source.first()) {
                (Some(first), Some(other)) if first.rank() <= other.rank() => best,
                (_, None) => best,
                _ => source,
            }
        });
        let (first, rest) = source.split_first()?;
        *source = rest;
        Some(first)
    }
}
