//! Plain and lease-backed checks: reads their arguments and hands back what they came to. It must never
//! answer from more than memory; a check that needs more becomes a [`super::PendingCheck`].

use pyo3::{prelude::*, types::PyString};
use schematic_core::{
    Now,
    decider::{CheckRequest, Decider, FlagRequest, Missing, Progress},
};

use super::{Core, outcome};
use crate::{
    arguments::{self, BorrowedPreflight, millis, with_parties},
    clock,
    results::{CheckFlagResult, CheckResult},
    wake::uninterrupted,
};

/// The arguments of a lease-backed check, as Python gave them.
pub(crate) struct CheckArguments<'a, 'py> {
    pub flag_key: &'a Bound<'py, PyAny>,
    pub company: Option<&'a Bound<'py, PyAny>>,
    pub user: Option<&'a Bound<'py, PyAny>>,
    pub usage: &'a Bound<'py, PyAny>,
    pub event_subtype: Option<&'a Bound<'py, PyAny>>,
    pub on_acquire_failure: Option<&'a Bound<'py, PyAny>>,
    /// Seconds that the hold may live, if not as configured.
    pub ttl: Option<f64>,
}

impl Core {
    /// The value of a flag that memory knows everything about; `None` otherwise.
    pub fn flag_value(
        &self,
        py: Python<'_>,
        flag_key: &Bound<'_, PyAny>,
        company: Option<&Bound<'_, PyAny>>,
        user: Option<&Bound<'_, PyAny>>,
        record: bool,
    ) -> PyResult<Option<bool>> {
        with_parties(company, user, |company, user| {
            let request = FlagRequest {
                flag_key: arguments::text("flag_key", flag_key)?,
                company,
                user,
                partial: false,
                record,
            };
            // A clock of Python's may fail, so it is read in any case.
            let given = self.clock.is_some().then(|| self.now(py)).transpose()?;
            let clock = || given.unwrap_or_else(clock::wall);
            uninterrupted(self.client.flag_value(&request, clock).ok())
        })
    }

    /// Begins a lease-backed check and takes it as far as memory allows.
    pub fn begin(&self, py: Python<'_>, arguments: &CheckArguments<'_, '_>) -> PyResult<Progress> {
        self.read_check(py, arguments, Decider::check)
    }

    /// Reads the arguments of a lease-backed check and decides it with `decide`.
    fn read_check<T>(
        &self,
        py: Python<'_>,
        given: &CheckArguments<'_, '_>,
        decide: impl FnOnce(&Decider, &CheckRequest<'_>, Now) -> T,
    ) -> PyResult<T> {
        with_parties(given.company, given.user, |company, user| {
            let request = CheckRequest {
                flag_key: arguments::text("flag_key", given.flag_key)?,
                company,
                user,
                usage: arguments::quantity("usage", given.usage)?,
                // An empty name is none, as in the published SDK: the entitlement's event is billed.
                event_subtype: arguments::optional_text("event_subtype", given.event_subtype)?
                    .filter(|event| !event.is_empty()),
                mode: arguments::failure_mode(given.on_acquire_failure)?,
                ttl: given.ttl.map(millis),
            };
            uninterrupted(decide(&self.client, &request, self.both(py)?))
        })
    }
}

#[pymethods]
impl Core {
    #[pyo3(signature = (
        flag_key, company=None, user=None, *, usage=None, event_usage=None, event_quantities=None,
        credit_cost=None, partial=false, record=true,
    ))]
    #[allow(clippy::too_many_arguments, reason = "the options of a check")]
    fn check_flag(
        &self,
        py: Python<'_>,
        flag_key: &Bound<'_, PyAny>,
        company: Option<&Bound<'_, PyAny>>,
        user: Option<&Bound<'_, PyAny>>,
        usage: Option<&Bound<'_, PyAny>>,
        event_usage: Option<(String, Bound<'_, PyAny>)>,
        event_quantities: Option<(String, Bound<'_, PyAny>, Option<f64>)>,
        credit_cost: Option<&Bound<'_, PyAny>>,
        partial: bool,
        record: bool,
    ) -> PyResult<Py<PyAny>> {
        if self.is_forked() {
            return Ok(name(py, "forked"));
        }
        let preflight = BorrowedPreflight::of(usage, event_usage, event_quantities, credit_cost)?;
        let answer = with_parties(company, user, |company, user| {
            let request = FlagRequest {
                flag_key: arguments::text("flag_key", flag_key)?,
                company,
                user,
                partial,
                record,
            };
            let now = self.now(py)?;
            preflight.ask(|preflight| self.client.check_flag(&request, preflight, now))
        })?;
        match uninterrupted(answer)? {
            Ok(answer) => Ok(Py::new(py, CheckFlagResult::from(answer))?.into_any()),
            Err(missing) => Ok(name(py, what_is_missing(missing))),
        }
    }

    fn record_flag_check(
        &self,
        result: &Bound<'_, CheckFlagResult>,
        company: Option<&Bound<'_, PyAny>>,
        user: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let company = arguments::keys("company", company)?;
        let user = arguments::keys("user", user)?;
        self.client
            .record_event(|| result.get().event(company, user));
        uninterrupted(())
    }

    #[pyo3(signature = (
        flag_key, company, user, usage, event_subtype=None, on_acquire_failure=None, ttl=None,
    ))]
    #[allow(clippy::too_many_arguments, reason = "the arguments of a check")]
    fn check(
        slf: &Bound<'_, Self>,
        flag_key: &Bound<'_, PyAny>,
        company: Option<&Bound<'_, PyAny>>,
        user: Option<&Bound<'_, PyAny>>,
        usage: &Bound<'_, PyAny>,
        event_subtype: Option<&Bound<'_, PyAny>>,
        on_acquire_failure: Option<&Bound<'_, PyAny>>,
        ttl: Option<f64>,
    ) -> PyResult<Py<PyAny>> {
        let (py, core) = (slf.py(), slf.get());
        if core.is_forked() {
            return Ok(py.None());
        }
        let given = CheckArguments {
            flag_key,
            company,
            user,
            usage,
            event_subtype,
            on_acquire_failure,
            ttl,
        };
        outcome(py, slf.as_unbound(), core.begin(py, &given)?)
    }

    #[pyo3(signature = (flag_key, company, user, usage, event_subtype, on_acquire_failure, *, record))]
    #[allow(clippy::too_many_arguments, reason = "the arguments of a check")]
    fn check_unheld(
        &self,
        py: Python<'_>,
        flag_key: &Bound<'_, PyAny>,
        company: Option<&Bound<'_, PyAny>>,
        user: Option<&Bound<'_, PyAny>>,
        usage: &Bound<'_, PyAny>,
        event_subtype: Option<&Bound<'_, PyAny>>,
        on_acquire_failure: Option<&Bound<'_, PyAny>>,
        record: bool,
    ) -> PyResult<Option<CheckResult>> {
        let given = CheckArguments {
            flag_key,
            company,
            user,
            usage,
            event_subtype,
            on_acquire_failure,
            ttl: None,
        };
        let answer = self.read_check(py, &given, |client, request, now| {
            client.check_unheld(request, record, now)
        })?;
        Ok(answer.map(CheckResult::from))
    }
}

/// One of the few texts that stand for an answer.
fn name(py: Python<'_>, text: &str) -> Py<PyAny> {
    PyString::intern(py, text).into_any().unbind()
}

const fn what_is_missing(missing: Missing) -> &'static str {
    match missing {
        Missing::Flag => "flag",
        Missing::Company => "company",
        Missing::User => "user",
        Missing::Both => "company+user",
        Missing::Conflict => "conflict",
    }
}
