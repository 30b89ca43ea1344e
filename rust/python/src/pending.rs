//! A lease-backed check that waits.

use parking_lot::Mutex;
use pyo3::{exceptions::PyRuntimeError, prelude::*};
use schematic_core::client::{Need, Pending, Progress};

use crate::{core::Core, results::CheckResult};

/// A lease-backed check that must wait for something before it can go on.
#[pyclass(frozen, module = "schematic_native._native")]
pub(crate) struct PendingCheck {
    core: Py<Core>,
    pending: Mutex<Option<Box<Pending>>>,
    need: Need,
    slot: Option<(String, String)>,
    required_credits: f64,
}

/// What a check came to, as Python takes it.
pub(crate) fn answer(py: Python<'_>, core: &Py<Core>, progress: Progress) -> PyResult<Py<PyAny>> {
    match progress {
        Progress::Done(answer) => Ok(Py::new(py, CheckResult::from(answer))?.into_any()),
        Progress::Pending(pending) => {
            let slot = pending.slot();
            let waiting = PendingCheck {
                core: core.clone_ref(py),
                need: pending.need(),
                slot: slot.map(|(company, credit)| (company.to_string(), credit.to_string())),
                required_credits: pending.required_credits(),
                pending: Mutex::new(Some(pending)),
            };
            Ok(Py::new(py, waiting)?.into_any())
        }
    }
}

#[pymethods]
impl PendingCheck {
    #[getter]
    fn need(&self) -> &'static str {
        match self.need {
            Need::Resolve { .. } => "resolve",
            Need::Acquire => "acquire",
            Need::Extend => "extend",
            Need::Plain => "plain",
        }
    }

    #[getter]
    fn missing_company(&self) -> bool {
        matches!(self.need, Need::Resolve { company: true, .. })
    }

    #[getter]
    fn missing_user(&self) -> bool {
        matches!(self.need, Need::Resolve { user: true, .. })
    }

    #[getter]
    fn company_id(&self) -> Option<&str> {
        self.slot.as_ref().map(|(company, _)| company.as_str())
    }

    #[getter]
    fn credit_type_id(&self) -> Option<&str> {
        self.slot.as_ref().map(|(_, credit)| credit.as_str())
    }

    #[getter]
    fn required_credits(&self) -> f64 {
        self.required_credits
    }

    /// Goes on after what was needed came (`True`) or did not.
    fn resume(&self, py: Python<'_>, ok: bool) -> PyResult<Py<PyAny>> {
        let pending = self.pending.lock().take();
        let pending = pending.ok_or_else(|| {
            PyRuntimeError::new_err("this check was resumed already: go on with what that returned")
        })?;
        let core = self.core.get();
        let now = core.now(py)?;
        answer(py, &self.core, core.client().resume(pending, ok, now))
    }
}
