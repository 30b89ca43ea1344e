//! What an evaluation answers.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::entitlement::Entitlement;
use super::period::{MetricPeriod, MonthReset, Subscription, next_reset};
use super::preflight::PreflightError;
use super::rule::RuleName;
use super::spend::Violation;
use crate::Millis;
use crate::text::Text;

/// The answer of an evaluation, borrowed from what was evaluated.
#[derive(Debug)]
pub struct Verdict<'a> {
    /// The answer.
    pub value: bool,
    /// Why.
    pub reason: Reason<'a>,
    /// Why the preflight was refused; the flag's default is then the answer.
    pub error: Option<PreflightError>,
    /// The rule that matched.
    pub rule: Option<&'a Arc<RuleName>>,
    /// What the company is entitled to for the flag's feature, whichever rule matched.
    pub entitlement: Option<&'a Arc<Entitlement>>,
    /// Allocation and usage, where an entitlement rule matched that measures them.
    pub usage: Option<FeatureUsage<'a>>,
    /// The spend policy that decided, if one did.
    pub violation: Option<Violation<'a>>,
}

/// Why a flag has its value. Displays as the text of the result.
#[derive(Debug, Clone, Copy)]
pub enum Reason<'a> {
    /// Nothing about a rule.
    Static(&'static str),
    /// A rule matched.
    Rule(&'a Arc<str>),
    /// A spend policy refused.
    Policy(Violation<'a>),
}

impl fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Static(text) => f.write_str(text),
            Self::Rule(text) => f.write_str(text),
            Self::Policy(violation) => violation.fmt(f),
        }
    }
}

/// Why a flag has its value, kept beyond what was evaluated.
#[derive(Debug, Clone)]
pub enum KeptReason {
    /// A rule matched, and its own text is the reason.
    Rule(Arc<RuleName>),
    /// No rule matched.
    Text(Text),
}

impl KeptReason {
    /// A rule decided, for a reason other than its own text: a spend policy, for example.
    #[must_use]
    pub fn of_rule(rule: &RuleName, reason: &str) -> Self {
        Self::Rule(Arc::new(RuleName {
            id: Arc::clone(&rule.id),
            kind: rule.kind,
            reason: reason.into(),
        }))
    }

    /// The rule that matched.
    #[must_use]
    pub fn rule(&self) -> Option<&Arc<RuleName>> {
        match self {
            Self::Rule(rule) => Some(rule),
            Self::Text(_) => None,
        }
    }
}

impl Deref for KeptReason {
    type Target = str;
    fn deref(&self) -> &str {
        match self {
            Self::Rule(rule) => &rule.reason,
            Self::Text(text) => text,
        }
    }
}

impl Verdict<'_> {
    /// The reason, for keeping.
    #[must_use]
    pub fn kept_reason(&self) -> KeptReason {
        match (self.reason, self.rule) {
            (Reason::Rule(_), Some(rule)) => KeptReason::Rule(Arc::clone(rule)),
            (reason, Some(rule)) => KeptReason::of_rule(rule, &reason.to_string()),
            (Reason::Static(text), None) => KeptReason::Text(Text::Static(text)),
            (reason, None) => KeptReason::Text(Text::from(reason.to_string())),
        }
    }
}

/// How much of a feature is granted and used.
#[derive(Debug, Clone, Copy)]
pub struct FeatureUsage<'a> {
    /// Units granted.
    pub allocation: i64,
    /// Units used, without the preflight.
    pub usage: i64,
    /// The event that counts; `None` for a trait.
    pub event: Option<&'a Arc<str>>,
    /// The period that it counts over; `None` for a trait.
    pub period: Option<MetricPeriod>,
    pub(super) cycle: Cycle,
}

/// What decides when usage is reset; computed on demand, as few callers ask.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Cycle {
    pub period: Option<MetricPeriod>,
    pub reset: Option<MonthReset>,
    pub subscription: Option<Subscription>,
    pub now: Option<Millis>,
}

impl FeatureUsage<'_> {
    /// When usage is reset, if it ever is and the evaluation was given the time.
    #[must_use]
    pub fn reset_at(&self) -> Option<DateTime<Utc>> {
        let Cycle {
            period,
            reset,
            subscription,
            now,
        } = self.cycle;
        let now = DateTime::from_timestamp_millis(now?)?;
        next_reset(period, reset, subscription, now)
    }
}
