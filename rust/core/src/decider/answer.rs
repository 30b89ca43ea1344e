//! The answers of checks.
//!
//! An answer shares what it tells with the entities it came from and outlives them.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::{
    engine::{Company, Entitlement, Flag, FlagName, KeptReason, MetricPeriod, User, Verdict},
    leases::{Failure, Reservation},
    text::Text,
};

/// The answer of a plain check, independent of the entities it was made from.
#[derive(Clone, Debug)]
pub struct FlagAnswer {
    /// The flag.
    pub flag: Arc<FlagName>,
    /// Its value here.
    pub value: bool,
    /// Why, and the rule that matched.
    pub reason: KeptReason,
    /// What was wrong with the preflight.
    pub error: Option<Text>,
    /// The company found.
    pub company_id: Option<Arc<str>>,
    /// The user found.
    pub user_id: Option<Arc<str>>,
    /// What the company is entitled to for the feature.
    pub entitlement: Option<Arc<Entitlement>>,
    /// Allocation and usage, where an entitlement rule measures them.
    pub usage: Option<Usage>,
}

/// How much of a feature is granted and used.
#[derive(Clone, Debug)]
pub struct Usage {
    /// Units granted.
    pub allocation: i64,
    /// Units used.
    pub usage: i64,
    /// The event that counts.
    pub event: Option<Arc<str>>,
    /// The period it counts over.
    pub period: Option<MetricPeriod>,
    /// When the count is reset.
    pub reset_at: Option<DateTime<Utc>>,
}

/// The answer of a lease-backed check.
#[derive(Clone, Debug)]
pub struct CheckAnswer {
    /// Whether the caller may go on.
    pub allowed: bool,
    /// The flag's value.
    pub value: bool,
    /// Why.
    pub reason: KeptReason,
    /// The flag; without its id if the check ended before it was looked up.
    pub flag: Arc<FlagName>,
    /// The credits held.
    pub reservation: Option<Arc<Reservation>>,
    /// What the company is entitled to for the feature.
    pub entitlement: Option<Arc<Entitlement>>,
    /// Why credits could not be held.
    pub error: Option<Failure>,
}

impl FlagAnswer {
    /// The answer that a verdict on these entities stands for.
    #[must_use]
    pub fn of(
        flag: &Flag,
        company: Option<&Company>,
        user: Option<&User>,
        verdict: &Verdict<'_>,
    ) -> Self {
        Self {
            flag: Arc::clone(flag.name()),
            value: verdict.value,
            reason: verdict.kept_reason(),
            error: verdict.error.map(|error| Text::from(error.to_string())),
            company_id: company.map(|company| Arc::clone(company.id())),
            user_id: user.map(|user| Arc::clone(user.id())),
            entitlement: verdict.entitlement.cloned(),
            usage: Usage::of(verdict),
        }
    }
}

impl Usage {
    fn of(verdict: &Verdict<'_>) -> Option<Self> {
        verdict.usage.as_ref().map(|usage| Self {
            allocation: usage.allocation,
            usage: usage.usage,
            event: usage.event.cloned(),
            period: usage.period,
            reset_at: usage.reset_at(),
        })
    }
}
