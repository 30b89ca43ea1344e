//! What a company is entitled to for one feature, as every check of it shares it. It must never be copied
//! to answer a check.

use std::{collections::BTreeMap, sync::Arc};

use pyo3::{
    IntoPyObjectExt,
    prelude::*,
    types::{PyDict, PyTuple},
};
use schematic_core::engine::{Entitlement, MetricPeriod, MonthReset, QuantityRates, ValueType};

use super::{
    field::{Field, Pairs, WrittenInstant},
    record::{Fields, Record, mirror, record},
    warning_tier::WarningTiers,
};

/// What a company is entitled to for one feature.
#[pyclass(frozen, module = "schematic_native")]
pub(crate) struct FeatureEntitlement(Arc<Entitlement>);

mirror! {
    FeatureEntitlement of Entitlement {
        required {
            feature_id: Arc<str>,
            feature_key: Arc<str>,
            value_type: ValueType,
        }
        optional {
            allocation: Option<i64>,
            soft_limit: Option<i64>,
            usage: Option<i64>,
            event_name: Option<Arc<str>>,
            event_subtype: Option<Arc<str>>,
            metric_period: Option<MetricPeriod>,
            month_reset: Option<MonthReset>,
            metric_reset_at: WrittenInstant,
            credit_id: Option<Arc<str>>,
            credit_total: Option<f64>,
            credit_used: Option<f64>,
            credit_remaining: Option<f64>,
            credit_reserved: Option<f64>,
            credit_settled: Option<f64>,
            consumption_rate: Option<f64>,
            quantity_rates: QuantityRates,
            warning_tiers: WarningTiers,
        }
    }
}

/// Shared with the entity that it belongs to.
impl Field for FeatureEntitlement {
    type Given<'a> = &'a Bound<'a, Self>;
    type Kept = Arc<Entitlement>;
    type Shown<'a> = Self;

    fn keep(_name: &'static str, given: &Bound<'_, Self>) -> PyResult<Arc<Entitlement>> {
        Ok(Arc::clone(&given.get().0))
    }

    fn show(kept: &Arc<Entitlement>) -> Self {
        Self(Arc::clone(kept))
    }
}

/// None are shown as `None`.
impl Field for QuantityRates {
    type Given<'a> = Option<BTreeMap<String, f64>>;
    type Kept = Self;
    type Shown<'a> = Option<Pairs<'a, f64>>;

    fn keep(_name: &'static str, given: Option<BTreeMap<String, f64>>) -> PyResult<Self> {
        let rates = given.unwrap_or_default().into_iter();
        Ok(Self(
            rates.map(|(name, rate)| (name.into(), rate)).collect(),
        ))
    }

    fn show(kept: &Self) -> Option<Pairs<'_, f64>> {
        let rates = kept.0.iter().map(|(name, rate)| (&**name, *rate));
        (!kept.0.is_empty()).then(|| Pairs(rates.collect()))
    }
}
