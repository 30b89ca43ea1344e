//! What a hold was made of: its client, and the arguments of its checks. They never change.

use pyo3::{exceptions::PyRuntimeError, intern, prelude::*, types::PyTuple};
use schematic_core::decider::Progress;

use super::{
    Argument, Memory,
    call::{CheckCall, Keywords},
    hold_state::whole,
    open_holds::OpenHolds,
};
use crate::{core::Core, python_call::call_method};

/// What a hold was made of.
pub(super) struct Terms {
    pub client: Py<Memory>,
    pub holds: Py<OpenHolds>,
    /// The usage as a whole number, if it is one.
    pub units: Option<i64>,
    given: Given,
}

/// The arguments of a hold's checks, as they were given.
pub(super) struct Given {
    pub flag_key: Py<PyAny>,
    pub company: Value,
    pub user: Value,
    pub options: Value,
    pub usage: Py<PyAny>,
    pub event_subtype: Value,
    pub on_acquire_failure: Value,
    pub default_value: Value,
    pub timeout: Value,
}

type Value = Option<Py<PyAny>>;

impl Terms {
    /// Terms with the holds that the client has open.
    pub fn of(client: &Bound<'_, Memory>, given: Given) -> PyResult<Self> {
        let py = client.py();
        if client.get().is_forked() {
            // Nobody told Python of the fork: what is open so far is the parent's.
            call_method(client, intern!(py, "_restart_if_forked"), ())?;
        }
        let without = || PyRuntimeError::new_err("this client makes no holds");
        Ok(Self {
            client: client.clone().unbind(),
            holds: client.get().holds().ok_or_else(without)?.clone_ref(py),
            units: whole(given.usage.bind(py)),
            given,
        })
    }

    /// Whether the hold belongs to this process, and not to one that it forked from.
    pub fn are_ours(&self) -> bool {
        let memory = self.client.get();
        let is_current = |holds: &Py<OpenHolds>| holds.is(&self.holds);
        !memory.is_forked() && memory.holds().is_some_and(is_current)
    }

    /// Begins the first check; `None` if nothing was begun.
    pub fn check<'a>(
        &'a self,
        py: Python<'_>,
        ttl: Option<f64>,
    ) -> PyResult<Option<(&'a Py<Core>, Progress)>> {
        let given = &self.given;
        let call = CheckCall {
            flag_key: given.flag_key.bind(py),
            company: argument(&given.company, py),
            user: argument(&given.user, py),
            options: argument(&given.options, py),
            keywords: Keywords {
                usage: Some(given.usage.bind(py)),
                event_subtype: argument(&given.event_subtype, py),
                on_acquire_failure: argument(&given.on_acquire_failure, py),
                default_value: argument(&given.default_value, py),
                timeout: argument(&given.timeout, py),
            },
        };
        self.client.get().begin(py, &call, ttl)
    }

    pub fn usage(&self) -> &Py<PyAny> {
        &self.given.usage
    }

    /// The arguments in the order of the public method.
    pub fn arguments<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let given = &self.given;
        let arguments = (
            &given.flag_key,
            &given.company,
            &given.user,
            &given.options,
            &given.usage,
            &given.event_subtype,
            &given.on_acquire_failure,
            &given.default_value,
            &given.timeout,
        );
        arguments.into_pyobject(py)
    }

    /// What a garbage collector has to know.
    pub fn objects(&self) -> impl Iterator<Item = &Py<PyAny>> {
        let given = &self.given;
        let optional = [
            &given.company,
            &given.user,
            &given.options,
            &given.event_subtype,
            &given.on_acquire_failure,
            &given.default_value,
            &given.timeout,
        ];
        let always = [self.client.as_any(), self.holds.as_any()];
        let given = [&given.flag_key, &given.usage];
        let optional = optional.into_iter().filter_map(Option::as_ref);
        always.into_iter().chain(given).chain(optional)
    }
}

fn argument<'a, 'py>(value: &'a Value, py: Python<'py>) -> Argument<'a, 'py> {
    value.as_ref().map(|value| value.bind(py))
}

/// What a caller may have left out, to keep.
pub(super) fn kept(value: Argument<'_, '_>) -> Value {
    value.map(|value| value.clone().unbind())
}

impl TryFrom<&Bound<'_, PyTuple>> for Given {
    type Error = PyErr;

    /// Takes arguments in the order of the public method.
    fn try_from(arguments: &Bound<'_, PyTuple>) -> PyResult<Self> {
        let (
            flag_key,
            company,
            user,
            options,
            usage,
            event_subtype,
            on_acquire_failure,
            default_value,
            timeout,
        ) = arguments.extract()?;
        Ok(Self {
            flag_key,
            company,
            user,
            options,
            usage,
            event_subtype,
            on_acquire_failure,
            default_value,
            timeout,
        })
    }
}
