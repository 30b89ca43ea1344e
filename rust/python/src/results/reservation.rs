//! Credits held for one check, as Python holds them. A copy must never leave this process unnoted: from
//! then on another process may settle it.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use pyo3::{
    IntoPyObjectExt,
    exceptions::{PyKeyError, PyTypeError, PyValueError},
    prelude::*,
    types::{PyDict, PyMapping, PyTuple},
};
use schematic_core::{
    engine::Terms,
    leases::{Exported, Holder, Keys, Mode, Reservation as Held, ReservationId},
};

use super::{
    field::{Amount, Field, Instant},
    record::{Fields, Record, record},
};
use crate::arguments;

/// Credits held for one check until they are settled, cancelled or swept.
#[pyclass(frozen, module = "schematic_native")]
pub(crate) struct Reservation(pub Arc<Held>);

record! {
    Reservation as this {
        required {
            id: ReservationId = this.0.id.to_string(),
            lease_id: Arc<str> = &this.0.lease_id,
            mode: Mode = this.0.mode.as_str(),
            company_id: Arc<str> = this.0.holder.company_id(),
            credit_type_id: Arc<str> = &this.0.terms.credit_id,
            event_subtype: Arc<str> = &this.0.terms.event_subtype,
            quantity_reserved: Amount = this.0.quantity_reserved,
            credits_reserved: Amount = this.0.credits_reserved,
            consumption_rate: Amount = this.0.terms.rate,
            expires_at: Instant = Instant::show(&this.0.expires_at),
        }
        optional {
            company: Option<Keys> = this.0.company().map(Keys::show),
            user: Option<Keys> = this.0.user().map(Keys::show),
        }
        new Self(Arc::new(Held {
            id,
            lease_id,
            mode,
            holder: Holder::new(&company_id, company, user),
            terms: Arc::new(Terms {
                credit_id: credit_type_id,
                event_subtype,
                rate: consumption_rate,
            }),
            quantity_reserved,
            credits_reserved,
            expires_at,
            exported: Exported::default(),
        }));
        leave leave;
    }
}

impl Reservation {
    /// Notes that a copy leaves this process.
    fn leave(&self) {
        self.0.exported.set();
    }
}

/// The same reservation, shared.
impl Field for Reservation {
    type Given<'a> = &'a Bound<'a, Self>;
    type Kept = Arc<Held>;
    type Shown<'a> = Self;

    fn keep(_name: &'static str, given: &Bound<'_, Self>) -> PyResult<Arc<Held>> {
        Ok(Arc::clone(&given.get().0))
    }

    fn show(kept: &Arc<Held>) -> Self {
        Self(Arc::clone(kept))
    }
}

#[pymethods]
impl Reservation {
    fn to_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        self.leave();
        let dict = self.as_dict(py)?;
        dict.set_item("expires_at", self.expires_at().to_rfc3339())?;
        Ok(dict)
    }

    #[staticmethod]
    fn from_dict(py: Python<'_>, data: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        let fields = fields_of(data)?;
        if let Some(at) = fields.get_item("expires_at")?
            && let Ok(text) = at.extract::<&str>()
        {
            fields.set_item("expires_at", instant_of(text)?)?;
        }
        let made = py.get_type::<Self>().call((), Some(&fields));
        made.map(Bound::unbind).map_err(|fault| {
            if fault.is_instance_of::<PyValueError>(py) {
                return fault;
            }
            PyTypeError::new_err(format!("data is not a reservation's: {fault}"))
        })
    }
}

/// A copy of a mapping that has every field that is required.
fn fields_of<'py>(data: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyDict>> {
    let mapping = data.cast::<PyMapping>().map_err(|_| {
        let kind = arguments::kind_of(data);
        PyTypeError::new_err(format!(
            "data must be a mapping such as to_dict gives, not {kind}"
        ))
    })?;
    let fields = PyDict::from_sequence(mapping.items()?.as_any())?;
    let mut missing = Vec::new();
    for &name in Reservation::REQUIRED {
        if !fields.contains(name)? {
            missing.push(name);
        }
    }
    if missing.is_empty() {
        return Ok(fields);
    }
    let missing = missing.join("', '");
    Err(PyKeyError::new_err(format!("data has no '{missing}'")))
}

/// The instant that `to_dict` wrote.
fn instant_of(text: &str) -> PyResult<DateTime<Utc>> {
    match DateTime::parse_from_rfc3339(text) {
        Ok(at) => Ok(arguments::shown(at.to_utc())),
        Err(fault) => Err(PyValueError::new_err(format!(
            "data['expires_at'] must be RFC 3339, not {text:?}: {fault}"
        ))),
    }
}
