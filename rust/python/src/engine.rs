//! The rules engine on its own: JSON in, JSON out, or compiled once and checked many times.

use std::sync::Arc;

use pyo3::{
    PyTypeInfo, create_exception,
    exceptions::{PyTypeError, PyValueError},
    prelude::*,
    types::{PyBytes, PyString},
};
use schematic_core::{
    decider::FlagAnswer,
    engine::{self, Company, Flag, User},
    wire::{self, WireError},
};

use crate::{
    arguments::{self, BorrowedPreflight, kind_of},
    results::CheckFlagResult,
};

create_exception!(
    schematic_native.rulesengine,
    EngineError,
    PyValueError,
    "JSON that the rules engine cannot read; the message tells what is wrong, and where."
);

/// Evaluates one flag, from JSON to JSON.
#[pyfunction]
#[pyo3(signature = (envelope, *, now=None))]
pub(crate) fn check_flag_json(
    envelope: &Bound<'_, PyAny>,
    now: Option<&Bound<'_, PyAny>>,
) -> PyResult<String> {
    let now = arguments::optional_instant("now", now)?;
    read_message("envelope", envelope, |message| {
        wire::check_flag_json(message, now)
    })
}

/// Evaluates many flags, from JSON to JSON.
#[pyfunction]
#[pyo3(signature = (envelope, *, now=None))]
pub(crate) fn check_flags_json(
    envelope: &Bound<'_, PyAny>,
    now: Option<&Bound<'_, PyAny>>,
) -> PyResult<String> {
    let now = arguments::optional_instant("now", now)?;
    read_message("envelope", envelope, |message| {
        wire::check_flags_json(message, now)
    })
}

/// A company, compiled from its JSON.
#[pyclass(frozen, module = "schematic_native._native")]
pub(crate) struct CompiledCompany(Company);

/// A user, compiled from its JSON.
#[pyclass(frozen, module = "schematic_native._native")]
pub(crate) struct CompiledUser(User);

/// A flag, compiled from its JSON.
#[pyclass(frozen, module = "schematic_native._native")]
pub(crate) struct CompiledFlag(Arc<Flag>);

#[pymethods]
impl CompiledCompany {
    #[new]
    fn new(json: &Bound<'_, PyAny>) -> PyResult<Self> {
        read_message("json", json, wire::parse_company).map(Self)
    }

    fn __repr__(&self) -> String {
        format!("CompiledCompany(id={:?})", self.0.id())
    }
}

#[pymethods]
impl CompiledUser {
    #[new]
    fn new(json: &Bound<'_, PyAny>) -> PyResult<Self> {
        read_message("json", json, wire::parse_user).map(Self)
    }

    fn __repr__(&self) -> String {
        format!("CompiledUser(id={:?})", self.0.id())
    }
}

#[pymethods]
impl CompiledFlag {
    #[new]
    fn new(json: &Bound<'_, PyAny>) -> PyResult<Self> {
        read_message("json", json, wire::parse_flag).map(|flag| Self(Arc::new(flag)))
    }

    #[pyo3(signature = (
        company, user, now, *, usage=None, event_usage=None, event_quantities=None, credit_cost=None,
    ))]
    #[allow(clippy::too_many_arguments, reason = "the options of a check")]
    fn check(
        &self,
        company: Option<&Bound<'_, PyAny>>,
        user: Option<&Bound<'_, PyAny>>,
        now: &Bound<'_, PyAny>,
        usage: Option<&Bound<'_, PyAny>>,
        event_usage: Option<(String, Bound<'_, PyAny>)>,
        event_quantities: Option<(String, Bound<'_, PyAny>, Option<f64>)>,
        credit_cost: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<CheckFlagResult> {
        let company = company.map(|it| handle::<CompiledCompany>("company", it));
        let user = user.map(|it| handle::<CompiledUser>("user", it));
        let (company, user) = (company.transpose()?, user.transpose()?);
        let (company, user) = (company.map(|it| &it.get().0), user.map(|it| &it.get().0));
        let now = arguments::read_instant("now", now)?;
        let preflight = BorrowedPreflight::of(usage, event_usage, event_quantities, credit_cost)?;
        preflight.ask(|preflight| {
            let verdict = engine::evaluate(&self.0, company, user, preflight, Some(now));
            FlagAnswer::of(&self.0, company, user, &verdict).into()
        })
    }

    fn __repr__(&self) -> String {
        format!("CompiledFlag(id={:?}, key={:?})", self.0.id(), self.0.key())
    }
}

/// What `RulesEngine` has compiled.
fn handle<'a, 'py, T: PyTypeInfo>(
    name: &str,
    value: &'a Bound<'py, PyAny>,
) -> PyResult<&'a Bound<'py, T>> {
    value.cast().map_err(|_| {
        let kind = kind_of(value);
        PyTypeError::new_err(format!("{name} must be what load_{name} gives, not {kind}"))
    })
}

/// Hands the bytes of a `str` or `bytes` argument to `read`, while other threads may run.
fn read_message<T: Send>(
    name: &str,
    message: &Bound<'_, PyAny>,
    read: impl FnOnce(&[u8]) -> Result<T, WireError> + Send,
) -> PyResult<T> {
    let bytes = if let Ok(bytes) = message.cast::<PyBytes>() {
        bytes.as_bytes()
    } else if let Ok(text) = message.cast::<PyString>() {
        let text = text.to_str().map_err(|error| {
            EngineError::new_err(format!("{name} is not Unicode text: {error}"))
        })?;
        text.as_bytes()
    } else {
        let kind = kind_of(message);
        return Err(PyTypeError::new_err(format!(
            "{name} must be a str or bytes, not {kind}"
        )));
    };
    let outcome = message.py().detach(|| read(bytes));
    outcome.map_err(|error| EngineError::new_err(error.to_string()))
}
