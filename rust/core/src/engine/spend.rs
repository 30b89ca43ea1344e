//! Limits on how many credits a company or user may draw.

use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::table::{Key, Named, Table};
use crate::Millis;
use crate::name::Name;

/// What a spend policy limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PolicyKind {
    /// A single draw.
    PerDraw,
    /// All draws of a window.
    Window,
    /// A kind that only a newer server knows: it limits nothing.
    #[serde(other, rename(serialize = "Unknown"))]
    Unknown,
}

/// Whom a spend policy limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PolicyScope {
    /// The company as a whole.
    Company,
    /// Each user.
    User,
    /// A group of users.
    Group,
    /// A scope that only a newer server knows: it limits the entity it was sent with.
    #[serde(other, rename(serialize = "Unknown"))]
    Unknown,
}

/// The window of a [`PolicyKind::Window`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SpendWindow {
    /// Such as `day`; may be empty.
    pub unit: Arc<str>,
    /// How many units long it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<i64>,
}

/// A limit on draws of one credit. Serialises as in a result.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SpendPolicy {
    /// The policy's id; may be empty.
    pub id: Arc<str>,
    /// The credit that it limits.
    pub credit_id: Arc<str>,
    /// What it limits.
    pub kind: PolicyKind,
    /// Whom it limits.
    pub scope: PolicyScope,
    /// The company that a user's policy is about; `None`: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub company_id: Option<Arc<str>>,
    /// What people call it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<Arc<str>>,
    /// Credits that may be drawn.
    pub limit: f64,
    /// Credits drawn in the current window.
    pub consumed: f64,
    /// The window.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<SpendWindow>,
    /// When the current window ends, as the server wrote it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resets_at: Option<Arc<str>>,
    /// The same, read once, if it is an RFC 3339 date.
    #[serde(skip)]
    pub(crate) resets: Option<DateTime<Utc>>,
}

impl SpendPolicy {
    /// Whether a draw of `cost` credits goes beyond the limit. A cost that is no number does.
    fn refuses(&self, cost: f64, now: Option<Millis>) -> bool {
        let is_over = self
            .resets
            .zip(now.and_then(DateTime::from_timestamp_millis))
            .is_some_and(|(resets, now)| resets <= now);
        let consumed = match self.kind {
            PolicyKind::Window if !is_over => self.consumed,
            _ => 0.0,
        };
        !matches!(
            (consumed + cost).partial_cmp(&self.limit),
            Some(std::cmp::Ordering::Less | std::cmp::Ordering::Equal)
        )
    }

    fn is_for_company(&self, company_id: &str) -> bool {
        self.company_id.as_deref().is_none_or(|id| id == company_id)
    }
}

/// The policies on one credit, in the order in which they were sent.
#[derive(Debug)]
pub(crate) struct CreditPolicies {
    pub credit: Name,
    pub policies: Box<[SpendPolicy]>,
}

impl Named for CreditPolicies {
    fn name(&self) -> &Name {
        &self.credit
    }
}

impl Table<CreditPolicies> {
    /// The first policy for this company that refuses the draw.
    pub fn refusing(
        &self,
        credit: &Key,
        company_id: Option<&str>,
        cost: f64,
        now: Option<Millis>,
    ) -> Option<&SpendPolicy> {
        let entry = self.named(credit)?;
        entry.policies.iter().find(|policy| {
            company_id.is_none_or(|company| policy.is_for_company(company))
                && policy.refuses(cost, now)
        })
    }
}

/// A draw that a spend policy refuses. Displays as the reason of the result.
#[derive(Debug, Clone, Copy)]
pub struct Violation<'a> {
    /// The policy.
    pub policy: &'a SpendPolicy,
    /// Credits that the draw would take.
    pub cost: f64,
}

impl fmt::Display for Violation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whose = match self.policy.scope {
            PolicyScope::Company => "company",
            PolicyScope::User => "user",
            PolicyScope::Group => "group",
            PolicyScope::Unknown => "spend",
        };
        let (cost, limit) = (Credits(self.cost), Credits(self.policy.limit));
        write!(
            f,
            "A draw of {cost} exceeds the {whose} limit of {limit} per "
        )?;
        match &self.policy.window {
            _ if self.policy.kind == PolicyKind::PerDraw => f.write_str("request"),
            None => f.write_str("period"),
            Some(window) if window.unit.is_empty() => f.write_str("period"),
            Some(SpendWindow {
                unit,
                count: None | Some(1),
            }) => f.write_str(unit),
            Some(SpendWindow {
                unit,
                count: Some(count),
            }) => write!(f, "{count} {unit}s"),
        }
    }
}

struct Credits(f64);

impl fmt::Display for Credits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {}",
            self.0,
            if self.0 == 1.0 { "credit" } else { "credits" }
        )
    }
}
