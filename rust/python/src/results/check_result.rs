//! The answer of a lease-backed check, with the reservation that it made. It must never be made without the
//! hold that its reservation stands for.

use std::sync::Arc;

use pyo3::{
    IntoPyObjectExt,
    prelude::*,
    types::{PyDict, PyTuple},
};
use schematic_core::{
    decider::CheckAnswer,
    engine::{Entitlement, FlagName, KeptReason},
    leases::Reservation as Held,
    text::Text,
};

use super::{
    FeatureEntitlement, Reservation,
    field::Field,
    record::{Fields, Record, record},
};

/// The answer of a lease-backed check.
#[derive(Clone)]
#[pyclass(frozen, module = "schematic_native")]
pub(crate) struct CheckResult {
    allowed: bool,
    value: bool,
    reason: KeptReason,
    flag: Arc<FlagName>,
    error: Option<Text>,
    reservation: Option<Arc<Held>>,
    entitlement: Option<Arc<Entitlement>>,
}

record! {
    CheckResult as this {
        required {
            allowed: bool = this.allowed,
            value: bool = this.value,
            reason: Text = &this.reason,
            flag_key: Arc<str> = &this.flag.key,
        }
        optional {
            reservation: Option<Reservation> = <Option<Reservation>>::show(&this.reservation),
            entitlement: Option<FeatureEntitlement> =
                <Option<FeatureEntitlement>>::show(&this.entitlement),
            flag_id: Option<Arc<str>> = this.flag.id.as_deref(),
            error: Option<Text> = this.error.as_deref(),
        }
        new Self {
            allowed,
            value,
            reason: KeptReason::Text(reason),
            flag: Arc::new(FlagName { id: flag_id, key: flag_key }),
            error,
            reservation,
            entitlement,
        };
    }
}

impl CheckResult {
    /// Whether the caller may go on.
    pub fn is_allowed(&self) -> bool {
        self.allowed
    }

    /// What the check holds.
    pub fn held(&self) -> Option<&Arc<Held>> {
        self.reservation.as_ref()
    }
}

impl From<CheckAnswer> for CheckResult {
    fn from(answer: CheckAnswer) -> Self {
        Self {
            allowed: answer.allowed,
            value: answer.value,
            reason: answer.reason,
            flag: answer.flag,
            error: answer.error.map(|failure| Text::Static(failure.as_str())),
            reservation: answer.reservation,
            entitlement: answer.entitlement,
        }
    }
}
