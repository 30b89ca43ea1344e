//! A usage warning of an entitlement. It must never be changed once it is made.

use std::sync::Arc;

use pyo3::{
    IntoPyObjectExt,
    prelude::*,
    types::{PyDict, PyTuple},
};
use schematic_core::engine;

use super::{
    field::Field,
    record::{Fields, Record, mirror, record},
};

/// One usage warning of an entitlement.
#[pyclass(frozen, module = "schematic_native")]
pub(crate) struct WarningTier(engine::WarningTier);

mirror! {
    WarningTier of engine::WarningTier {
        required {
            key: Arc<str>,
            value: i64,
        }
        optional {}
    }
}

/// All warnings of an entitlement; none are shown as `None`.
pub(super) struct WarningTiers;

impl Field for WarningTiers {
    type Given<'a> = Option<Vec<Py<WarningTier>>>;
    type Kept = Box<[engine::WarningTier]>;
    type Shown<'a> = Option<Vec<WarningTier>>;

    fn keep(_name: &'static str, given: Option<Vec<Py<WarningTier>>>) -> PyResult<Self::Kept> {
        let tiers = given.unwrap_or_default();
        Ok(tiers.iter().map(|tier| tier.get().0.clone()).collect())
    }

    fn show(kept: &Self::Kept) -> Option<Vec<WarningTier>> {
        (!kept.is_empty()).then(|| kept.iter().cloned().map(WarningTier).collect())
    }
}
