//! A lease-backed check that waits: what it needs, and how it goes on once that is there. It must never
//! go on twice.

use parking_lot::Mutex;
use pyo3::{exceptions::PyRuntimeError, prelude::*};
use schematic_core::{
    decider::{Need, Pending, Progress, Reply},
    leases::Refusal,
};

use super::Core;
use crate::{
    arguments,
    results::{CheckResult, Reservation},
    wake::uninterrupted,
};

/// A lease-backed check that must wait for something before it can go on.
#[pyclass(frozen, module = "schematic_native._native")]
pub(crate) struct PendingCheck {
    core: Py<Core>,
    pending: Mutex<Option<Box<Pending>>>,
    need: Need,
    slot: Option<(String, String)>,
    required_credits: f64,
}

/// What a check came to, as Python takes it: a `CheckResult`, or a `PendingCheck` if it waits.
pub(crate) fn outcome(py: Python<'_>, core: &Py<Core>, progress: Progress) -> PyResult<Py<PyAny>> {
    match progress {
        Progress::Done(answer) => Ok(Py::new(py, CheckResult::from(answer))?.into_any()),
        Progress::Pending(pending) => {
            let slot = pending.slot();
            let waiting = PendingCheck {
                core: core.clone_ref(py),
                need: pending.need().clone(),
                slot: slot.map(|slot| (slot.company_id.to_owned(), slot.credit_type_id.to_owned())),
                required_credits: pending.required_credits(),
                pending: Mutex::new(Some(pending)),
            };
            Ok(Py::new(py, waiting)?.into_any())
        }
    }
}

impl PendingCheck {
    fn take(&self, reply: &Reply) -> PyResult<Box<Pending>> {
        let mut pending = self.pending.lock();
        let waiting = pending.as_ref().ok_or_else(|| {
            PyRuntimeError::new_err("this check was resumed already: go on with what that returned")
        })?;
        if !waiting.takes(reply) {
            let need = self.need();
            return Err(PyRuntimeError::new_err(format!(
                "this is no reply to a check that needs {need:?}"
            )));
        }
        pending
            .take()
            .ok_or_else(|| PyRuntimeError::new_err("this check was resumed already"))
    }

    fn go_on(&self, py: Python<'_>, reply: Reply) -> PyResult<Py<PyAny>> {
        let core = self.core.get();
        let now = core.both(py)?;
        let pending = self.take(&reply)?;
        let progress = uninterrupted(core.client().resume(pending, reply, now))?;
        outcome(py, &self.core, progress)
    }
}

#[pymethods]
impl PendingCheck {
    /// Whether the check is decided, which a `CheckResult` tells by being there.
    #[allow(clippy::unused_self, reason = "the protocol")]
    fn __bool__(&self) -> bool {
        false
    }

    #[getter]
    fn need(&self) -> &'static str {
        match self.need {
            Need::Resolve { .. } => "resolve",
            Need::Acquire => "acquire",
            Need::Extend => "extend",
            Need::Plain => "plain",
            Need::Reserve { .. } => "reserve",
            Need::Record(_) => "record",
            Need::Cancel(_) => "cancel",
            Need::Refund(_) => "refund",
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

    #[getter]
    fn reservation(&self) -> Option<Reservation> {
        match &self.need {
            Need::Reserve { draft: hold, .. }
            | Need::Record(hold)
            | Need::Cancel(hold)
            | Need::Refund(hold) => Some(Reservation(hold.clone())),
            _ => None,
        }
    }

    #[getter]
    fn time_to_live(&self) -> i64 {
        match self.need {
            Need::Reserve { ttl, .. } => ttl,
            _ => 0,
        }
    }

    /// Goes on after what was needed came or was done (`True`), or did not or was refused.
    fn resume(&self, py: Python<'_>, ok: bool) -> PyResult<Py<PyAny>> {
        self.go_on(py, Reply::Done(ok))
    }

    /// Goes on after a debit in the shared store, which may have recorded the hold, too.
    fn resume_debited(
        &self,
        py: Python<'_>,
        remaining: f64,
        granted: f64,
        lease_id: &str,
        at: f64,
        recorded: bool,
    ) -> PyResult<Py<PyAny>> {
        let reply = Reply::Debited {
            remaining,
            granted,
            lease_id: lease_id.into(),
            at: arguments::instant("at", at)?,
            recorded,
        };
        self.go_on(py, reply)
    }

    /// Goes on after the shared store refused a debit: no live lease is there, or too few credits.
    fn resume_refused(&self, py: Python<'_>, short: bool) -> PyResult<Py<PyAny>> {
        let refusal = if short {
            Refusal::Short
        } else {
            Refusal::NoLease
        };
        self.go_on(py, Reply::Refused(refusal))
    }

    /// Goes on after a hold was not found in the shared store.
    fn resume_gone(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.go_on(py, Reply::Gone)
    }

    /// Goes on when nobody knows what became of the request to the shared store.
    fn resume_lost(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.go_on(py, Reply::Lost)
    }
}
