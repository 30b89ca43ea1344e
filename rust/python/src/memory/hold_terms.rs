//! What a hold was made of: its client, and the arguments of its checks. They never change.

use std::sync::OnceLock;

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
    /// The holds that the client had open in the process that made this one.
    made_among: Py<OpenHolds>,
    /// Those of a forked child that enters it.
    entered_among: OnceLock<Py<OpenHolds>>,
    /// The usage as a whole number, if it is one.
    pub units: Option<i64>,
    given: Given,
}

/// The arguments of a hold's checks, as they were given.
pub(super) struct Given {
    flag_key: Py<PyAny>,
    company: Value,
    user: Value,
    options: Value,
    usage: Py<PyAny>,
    event_subtype: Value,
    on_acquire_failure: Value,
    default_value: Value,
    timeout: Value,
}

type Value = Option<Py<PyAny>>;

impl Given {
    pub fn of(call: &CheckCall<'_, '_>, usage: &Bound<'_, PyAny>) -> Self {
        let keywords = &call.keywords;
        Self {
            flag_key: call.flag_key.clone().unbind(),
            company: kept(call.company),
            user: kept(call.user),
            options: kept(call.options),
            usage: usage.clone().unbind(),
            event_subtype: kept(keywords.event_subtype),
            on_acquire_failure: kept(keywords.on_acquire_failure),
            default_value: kept(keywords.default_value),
            timeout: kept(keywords.timeout),
        }
    }
}

impl Terms {
    /// Terms with the holds that the client has open.
    pub fn of(client: &Bound<'_, Memory>, given: Given) -> PyResult<Self> {
        Ok(Self {
            client: client.clone().unbind(),
            made_among: open_holds(client)?,
            entered_among: OnceLock::new(),
            units: whole(given.usage.bind(client.py())),
            given,
        })
    }

    /// The open holds that this one is, or will be, among.
    pub fn holds(&self) -> &Py<OpenHolds> {
        self.entered_among.get().unwrap_or(&self.made_among)
    }

    /// Whether the hold belongs to this process, and not to one that it forked from.
    pub fn are_ours(&self) -> bool {
        let current = self.client.get().last();
        current.is_some_and(|link| {
            let is_among = |holds: &Py<OpenHolds>| holds.is(self.holds());
            !link.core.get().is_forked() && link.holds.as_ref().is_some_and(is_among)
        })
    }

    /// Makes a hold that nobody has entered yet one of this process.
    pub fn adopt(&self, py: Python<'_>) -> PyResult<()> {
        if !self.are_ours() {
            let _ = self.entered_among.set(open_holds(self.client.bind(py))?);
        }
        Ok(())
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
        let always = [self.client.as_any(), self.made_among.as_any()];
        let entered_among = self.entered_among.get().map(Py::as_any);
        let given = [&given.flag_key, &given.usage];
        let optional = optional.into_iter().filter_map(Option::as_ref);
        always
            .into_iter()
            .chain(entered_among)
            .chain(given)
            .chain(optional)
    }
}

/// The holds that a client has open in this process.
fn open_holds(client: &Bound<'_, Memory>) -> PyResult<Py<OpenHolds>> {
    let py = client.py();
    if client.get().is_forked() {
        // Nobody told Python of the fork: what is open so far is the parent's.
        call_method(client, intern!(py, "_restart_if_forked"), ())?;
    }
    let without = || PyRuntimeError::new_err("this client makes no holds");
    let holds = client.get().last().and_then(|link| link.holds.as_ref());
    Ok(holds.ok_or_else(without)?.clone_ref(py))
}

fn argument<'a, 'py>(value: &'a Value, py: Python<'py>) -> Argument<'a, 'py> {
    value.as_ref().map(|value| value.bind(py))
}

/// What a caller may have left out, to keep.
fn kept(value: Argument<'_, '_>) -> Value {
    value.map(|value| value.clone().unbind())
}
