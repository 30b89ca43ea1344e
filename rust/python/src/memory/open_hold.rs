//! The native half of a hold: it is entered, counts and ends natively as long as memory has all the answers.
//! It must never wait, and never call Python while it looks at its state.

#![allow(
    clippy::doc_markdown,
    reason = "docstrings of public methods are Python's"
)]

use std::{mem, sync::OnceLock};

use parking_lot::Mutex;
use pyo3::{
    PyTraverseError, PyVisit, exceptions::PyRuntimeError, intern, prelude::*, types::PyTuple,
};
use schematic_core::decider::Progress;

use super::{
    Argument, Memory,
    hold_state::{Ending, Number, Pieces, State, as_float, whole},
    hold_terms::{Given, Terms},
    open_holds::{OpenHolds, Place},
};
use crate::{core::outcome, defaults::HOLD_LOW, python_call::call_method, results::CheckResult};

/// The native half of a hold. Where it cannot tell, its Python half goes on.
#[pyclass(frozen, subclass, weakref, module = "schematic_native._native")]
pub(crate) struct OpenHold {
    terms: OnceLock<Terms>,
    state: Mutex<State>,
    place: Place,
}

/// What came of the first check.
enum Begun {
    /// The hold has taken it.
    Taken,
    /// What was begun of it is for Python to go on with: an answer, a check that waits, or None.
    Left(Py<PyAny>),
}

impl OpenHold {
    pub(super) fn set_up(&self, client: &Bound<'_, Memory>, given: Given) -> PyResult<()> {
        let terms = Terms::of(client, given)?;
        let made = || PyRuntimeError::new_err("the hold was made before");
        self.terms.set(terms).map_err(|_| made())
    }

    fn terms(&self) -> PyResult<&Terms> {
        let unmade = || PyRuntimeError::new_err("only a client makes holds");
        self.terms.get().ok_or_else(unmade)
    }

    /// The answer of the first check, if there is one.
    fn first_result(&self, py: Python<'_>) -> Option<Py<CheckResult>> {
        self.state.lock().result.as_ref().map(|it| it.clone_ref(py))
    }

    /// Sets a field; what was there goes once the state is not locked any more.
    fn set<T>(&self, field: impl FnOnce(&mut State) -> &mut T, value: T) {
        let old = mem::replace(field(&mut self.state.lock()), value);
        drop(old);
    }

    fn begin(slf: &Bound<'_, Self>) -> PyResult<Begun> {
        let (py, this) = (slf.py(), slf.get());
        let (has_begun, ttl) = {
            let state = this.state.lock();
            (state.result.is_some(), state.ttl)
        };
        if has_begun {
            return Err(PyRuntimeError::new_err("a hold can be entered once"));
        }
        let terms = this.terms()?;
        match terms.check(py, ttl)? {
            Some((_, Progress::Done(answer))) => {
                Self::take(slf, terms, Py::new(py, CheckResult::from(answer))?)
            }
            Some((core, progress)) => outcome(py, core, progress).map(Begun::Left),
            None => Ok(Begun::Left(py.None())),
        }
    }

    /// Begins with an answer that holds credits on ordinary terms.
    fn take(slf: &Bound<'_, Self>, terms: &Terms, result: Py<CheckResult>) -> PyResult<Begun> {
        let (py, this) = (slf.py(), slf.get());
        let Some(units) = terms.units else {
            return Ok(Begun::Left(result.into_any()));
        };
        let holds = terms.holds.bind(py);
        let due = holds.get().now(py)? + holds.get().lead();
        {
            let mut state = this.state.lock();
            let is_ordinary = state.is_simple && state.ttl.is_none();
            if !is_ordinary || result.get().held().is_none() {
                drop(state);
                return Ok(Begun::Left(result.into_any()));
            }
            state.result = Some(result);
            state.held = Number::Whole(units);
            state.low = HOLD_LOW * as_float(units);
            state.due = due;
        }
        OpenHolds::watch(holds, slf, &this.place, due)?;
        Ok(Begun::Taken)
    }

    /// Counts units as used; `false` if there is more to it, and nothing was done.
    fn count(&self, units: &Bound<'_, PyAny>) -> bool {
        let (Some(units), Some(terms)) = (whole(units), self.terms.get()) else {
            return false;
        };
        let count = || self.state.lock().count(units);
        units >= 0 && terms.holds.get().lock().within(count) == Some(true)
    }

    /// Ends as most holds do: with one piece that was used, and that memory can settle.
    fn end(slf: &Bound<'_, Self>) -> PyResult<bool> {
        let (py, this) = (slf.py(), slf.get());
        // What belongs to the process this one forked from goes the long way; its locks may be taken for good.
        let Some(terms) = this.terms.get().filter(|terms| terms.are_ours()) else {
            return Ok(false);
        };
        let fix = || {
            let mut state = this.state.lock();
            let used = state.fix_first()?;
            Some((used, state.result.as_ref()?.clone_ref(py)))
        };
        let Some((used, result)) = terms.holds.get().lock().within(fix).flatten() else {
            return Ok(false);
        };
        let is_settled = match result.get().held() {
            Some(held) => terms.client.get().settle_held(held, as_float(used))?,
            None => false,
        };
        if is_settled {
            this.state.lock().has_ended = true;
            terms.holds.get().forget(&this.place);
        }
        Ok(is_settled)
    }

    fn first(result: Option<Py<CheckResult>>, py: Python<'_>) -> PyResult<Py<PyTuple>> {
        let reservation = match result {
            Some(result) => result.bind(py).getattr(intern!(py, "reservation"))?,
            None => return Ok(PyTuple::empty(py).unbind()),
        };
        let pieces: &[Bound<'_, PyAny>] = if reservation.is_none() {
            &[]
        } else {
            &[reservation]
        };
        Ok(PyTuple::new(py, pieces)?.unbind())
    }
}

fn not_entered() -> PyErr {
    PyRuntimeError::new_err("the hold has not been entered")
}

impl Drop for OpenHold {
    fn drop(&mut self) {
        if let Some(terms) = self.terms.get().filter(|terms| terms.are_ours()) {
            terms.holds.get().forget(&self.place);
        }
    }
}

#[pymethods]
impl OpenHold {
    #[new]
    fn new() -> Self {
        Self {
            terms: OnceLock::new(),
            state: Mutex::new(State::new()),
            place: Place::nowhere(),
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let objects = self.terms.get().into_iter().flat_map(Terms::objects);
        objects
            .into_iter()
            .try_for_each(|object| visit.call(object))
    }

    fn _set_up(&self, client: &Bound<'_, Memory>, arguments: &Bound<'_, PyTuple>) -> PyResult<()> {
        self.set_up(client, arguments.try_into()?)
    }

    fn _watch(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        let (holds, due) = (this.terms()?.holds.bind(slf.py()), this.state.lock().due);
        OpenHolds::watch(holds, slf, &this.place, due)
    }

    fn _forget(&self) -> PyResult<()> {
        self.terms()?.holds.get().forget(&self.place);
        Ok(())
    }

    /// Settles a hold that nobody has any more and that is open.
    #[pyo3(name = "__del__")]
    fn finalize(slf: &Bound<'_, Self>) -> PyResult<()> {
        let is_open = {
            let state = slf.get().state.lock();
            state.result.is_some() && !state.has_ended
        };
        if is_open {
            call_method(slf, intern!(slf.py(), "_end_dropped"), ())?;
        }
        Ok(())
    }

    fn _begin(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        match Self::begin(slf)? {
            Begun::Taken => Ok(true.into_pyobject(slf.py())?.to_owned().into_any().unbind()),
            Begun::Left(begun) => Ok(begun),
        }
    }

    fn _enter<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, Self>> {
        if let Begun::Left(begun) = Self::begin(slf)? {
            call_method(slf, intern!(slf.py(), "_enter_slowly"), (begun,))?;
        }
        Ok(slf.clone())
    }

    #[pyo3(signature = (exc_type, exc, traceback))]
    fn _exit(
        slf: &Bound<'_, Self>,
        exc_type: Argument<'_, '_>,
        exc: Argument<'_, '_>,
        traceback: Argument<'_, '_>,
    ) -> PyResult<()> {
        let _ = (exc_type, traceback);
        if !Self::end(slf)? {
            call_method(slf, intern!(slf.py(), "_exit_slowly"), (exc,))?;
        }
        Ok(())
    }

    fn _ends_at_once(slf: &Bound<'_, Self>) -> PyResult<bool> {
        Self::end(slf)
    }

    /// Count units as used. This never waits, and never fails for lack of credits.
    ///
    /// Any thread may call it. Usage of an allowed hold is billed even beyond what is held.
    ///
    /// Raises:
    ///     TypeError, ValueError: `units` is not a finite number of 0 or more.
    ///     RuntimeError: the hold has ended, or has not been entered.
    fn r#use(slf: &Bound<'_, Self>, units: &Bound<'_, PyAny>) -> PyResult<()> {
        if !slf.get().count(units) {
            call_method(slf, intern!(slf.py(), "_use"), (units,))?;
        }
        Ok(())
    }

    /// Whether the work may be done.
    #[getter]
    fn allowed(&self) -> PyResult<bool> {
        let is_allowed = |result: &Py<CheckResult>| result.get().is_allowed();
        let allowed = self.state.lock().result.as_ref().map(is_allowed);
        allowed.ok_or_else(not_entered)
    }

    /// The answer of the first check.
    #[getter]
    fn result(&self, py: Python<'_>) -> PyResult<Py<CheckResult>> {
        self.first_result(py).ok_or_else(not_entered)
    }

    #[getter]
    fn _client(&self, py: Python<'_>) -> PyResult<Py<Memory>> {
        Ok(self.terms()?.client.clone_ref(py))
    }

    #[getter]
    fn _holds(&self, py: Python<'_>) -> PyResult<Py<OpenHolds>> {
        Ok(self.terms()?.holds.clone_ref(py))
    }

    #[getter]
    fn _arguments<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        self.terms()?.arguments(py)
    }

    #[getter]
    fn _usage(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Ok(self.terms()?.usage().clone_ref(py))
    }

    #[getter(_result)]
    fn py_result(&self, py: Python<'_>) -> Option<Py<CheckResult>> {
        self.first_result(py)
    }

    #[setter(_result)]
    fn set_result(&self, result: Py<CheckResult>) {
        self.set(|state| &mut state.result, Some(result));
    }

    #[getter]
    fn _pieces(&self, py: Python<'_>) -> PyResult<Py<PyTuple>> {
        let result = {
            let state = self.state.lock();
            if let Pieces::These(pieces) = &state.pieces {
                return Ok(pieces.clone_ref(py));
            }
            state.result.as_ref().map(|it| it.clone_ref(py))
        };
        Self::first(result, py)
    }

    #[setter(_pieces)]
    fn set_pieces(&self, pieces: Py<PyTuple>) {
        self.set(|state| &mut state.pieces, Pieces::These(pieces));
    }

    #[getter]
    fn _ending(slf: &Bound<'_, Self>) -> PyResult<Option<Py<PyAny>>> {
        let py = slf.py();
        let (result, used) = {
            let state = slf.get().state.lock();
            match &state.ending {
                Ending::Open => return Ok(None),
                Ending::These(ending) => return Ok(Some(ending.clone_ref(py))),
                Ending::First => (
                    state.result.as_ref().map(|it| it.clone_ref(py)),
                    state.used.copy(py),
                ),
            }
        };
        let piece = Self::first(result, py)?.bind(py).get_item(0)?;
        let endings = vec![(piece, used.show(py)?)];
        Ok(Some(endings.into_pyobject(py)?.unbind()))
    }

    #[setter(_ending)]
    fn set_ending(&self, ending: Py<PyAny>) {
        self.set(|state| &mut state.ending, Ending::These(ending));
    }

    #[getter]
    fn _used(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let used = self.state.lock().used.copy(py);
        used.show(py)
    }

    #[setter(_used)]
    fn set_used(&self, used: &Bound<'_, PyAny>) {
        self.set(|state| &mut state.used, Number::of(used));
    }

    #[getter]
    fn _held(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let held = self.state.lock().held.copy(py);
        held.show(py)
    }

    #[setter(_held)]
    fn set_held(&self, held: &Bound<'_, PyAny>) {
        self.set(|state| &mut state.held, Number::of(held));
    }

    #[getter]
    fn _billed(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let billed = self.state.lock().billed.copy(py);
        billed.show(py)
    }

    #[setter(_billed)]
    fn set_billed(&self, billed: &Bound<'_, PyAny>) {
        self.set(|state| &mut state.billed, Number::of(billed));
    }

    #[getter]
    fn _low(&self) -> f64 {
        self.state.lock().low
    }

    #[setter(_low)]
    fn set_low(&self, low: f64) {
        self.set(|state| &mut state.low, low);
    }

    #[getter]
    fn _due(&self) -> f64 {
        self.state.lock().due
    }

    #[setter(_due)]
    fn set_due(&self, due: f64) {
        self.set(|state| &mut state.due, due);
    }

    #[getter]
    fn _ttl(&self) -> Option<f64> {
        self.state.lock().ttl
    }

    #[setter(_ttl)]
    fn set_ttl(&self, ttl: f64) {
        self.set(|state| &mut state.ttl, Some(ttl));
    }

    #[getter]
    fn _is_busy(&self) -> bool {
        self.state.lock().is_busy
    }

    #[setter(_is_busy)]
    fn set_is_busy(&self, is_busy: bool) {
        self.set(|state| &mut state.is_busy, is_busy);
    }

    #[getter]
    fn _is_simple(&self) -> bool {
        self.state.lock().is_simple
    }

    #[setter(_is_simple)]
    fn set_is_simple(&self, is_simple: bool) {
        self.set(|state| &mut state.is_simple, is_simple);
    }

    #[getter]
    fn _may_outlive(&self) -> bool {
        self.state.lock().may_outlive
    }

    #[setter(_may_outlive)]
    fn set_may_outlive(&self, may_outlive: bool) {
        self.set(|state| &mut state.may_outlive, may_outlive);
    }

    #[getter]
    fn _has_ended(&self) -> bool {
        self.state.lock().has_ended
    }

    #[setter(_has_ended)]
    fn set_has_ended(&self, has_ended: bool) {
        self.set(|state| &mut state.has_ended, has_ended);
    }
}
