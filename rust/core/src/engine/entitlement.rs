//! What a company is entitled to.

use std::sync::Arc;

use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};

use super::period::{MetricPeriod, MonthReset};
use super::table::Named;
use crate::name::Name;

/// How an entitlement is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ValueType {
    /// On or off.
    Boolean,
    /// Paid in credits.
    Credit,
    /// Up to an allocation.
    Numeric,
    /// Up to the value of a trait.
    Trait,
    /// Without a limit.
    Unlimited,
    /// Said to be unknown, or of a newer server.
    #[serde(other)]
    Unknown,
}

impl ValueType {
    /// The name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Boolean => "boolean",
            Self::Credit => "credit",
            Self::Numeric => "numeric",
            Self::Trait => "trait",
            Self::Unlimited => "unlimited",
            Self::Unknown => "unknown",
        }
    }
}

/// Usage at which a company is warned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WarningTier {
    /// The tier's name.
    pub key: Arc<str>,
    /// Units of usage.
    pub value: i64,
}

/// Credits per unit, by name of the quantity.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct QuantityRates(pub Box<[(Arc<str>, f64)]>);

impl QuantityRates {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for QuantityRates {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, rate) in &self.0 {
            map.serialize_entry(name, rate)?;
        }
        map.end()
    }
}

/// What a company is entitled to for one feature, as the server said it. Serialises as in a result.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Entitlement {
    /// The feature's id.
    pub feature_id: Arc<str>,
    /// The feature's key, which is the key of its flag.
    pub feature_key: Arc<str>,
    /// How the entitlement is measured.
    pub value_type: ValueType,
    /// Units of usage granted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allocation: Option<i64>,
    /// Units of usage after which the company pays for more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub soft_limit: Option<i64>,
    /// Units used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<i64>,
    /// The event that counts as usage, by its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_name: Option<Arc<str>>,
    /// The event that counts as usage, by its subtype.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_subtype: Option<Arc<str>>,
    /// The period that usage is counted over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metric_period: Option<MetricPeriod>,
    /// When a monthly period starts anew.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub month_reset: Option<MonthReset>,
    /// When the period starts anew, as the server wrote it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metric_reset_at: Option<Arc<str>>,
    /// The credit that usage is paid in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credit_id: Option<Arc<str>>,
    /// Credits granted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credit_total: Option<f64>,
    /// Credits used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credit_used: Option<f64>,
    /// Credits left.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credit_remaining: Option<f64>,
    /// Credits held by leases.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credit_reserved: Option<f64>,
    /// Credits settled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credit_settled: Option<f64>,
    /// Credits per unit of usage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consumption_rate: Option<f64>,
    /// Credits per unit of each quantity of an event.
    #[serde(skip_serializing_if = "QuantityRates::is_empty")]
    pub quantity_rates: QuantityRates,
    /// Usage at which the company is warned.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub warning_tiers: Box<[WarningTier]>,
}

/// How a feature is metered by credits, shared by every reservation that is made on these terms.
#[derive(Debug, Clone, PartialEq)]
pub struct Terms {
    /// The credit type.
    pub credit_id: Arc<str>,
    /// The event that is billed; empty if none is named.
    pub event_subtype: Arc<str>,
    /// Credits for one event.
    pub rate: f64,
}

impl Terms {
    /// The terms that a credit entitlement states; `None` for others.
    #[must_use]
    pub fn of(entitlement: &Entitlement) -> Option<Arc<Self>> {
        if entitlement.value_type != ValueType::Credit {
            return None;
        }
        Some(Arc::new(Self {
            credit_id: Arc::clone(entitlement.credit_id.as_ref()?),
            event_subtype: entitlement.event_subtype.clone().unwrap_or_default(),
            rate: entitlement.consumption_rate?,
        }))
    }
}

/// An entitlement, filed by its feature's key.
#[derive(Debug, Clone)]
pub(crate) struct Feature {
    pub key: Name,
    pub entitlement: Arc<Entitlement>,
    pub terms: Option<Arc<Terms>>,
}

impl Feature {
    pub fn new(entitlement: Entitlement) -> Self {
        Self {
            key: Name::new(&entitlement.feature_key),
            terms: Terms::of(&entitlement),
            entitlement: Arc::new(entitlement),
        }
    }
}

impl Named for Feature {
    fn name(&self) -> &Name {
        &self.key
    }
}
