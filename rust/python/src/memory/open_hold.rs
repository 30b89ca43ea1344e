//! The native half of a hold: it is entered, counts and ends natively as long as memory has all the answers.
//! It must never wait, and never call Python while it looks at its state.

#![allow(
    clippy::doc_markdown,
    reason = "docstrings of public methods are Python's"
)]

use std::{
    mem,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

use parking_lot::Mutex;
use pyo3::{
    PyTraverseError, PyVisit,
    exceptions::PyRuntimeError,
    impl_::pymethods::tp_new_impl,
    intern,
    prelude::*,
    types::{PyTuple, PyType},
};
use schematic_core::decider::Progress;

use super::{
    Argument, Memory,
    hold_state::{Answer, Ending, Number, Pieces, State, as_float, whole},
    hold_terms::Terms,
    open_holds::{OpenHolds, Place},
};
use crate::{core::outcome, python_call::call_method, results::CheckResult};

/// The native half of a hold. Where it cannot tell, its Python half goes on.
#[pyclass(frozen, subclass, weakref, module = "schematic_native._native")]
pub(crate) struct OpenHold {
    terms: Terms,
    state: Mutex<State>,
    has_ended: AtomicBool,
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
    /// Makes a hold of a class that derives from this one.
    ///
    /// A call of the class would take as long as what is made here, and could not be handed the terms.
    pub(super) fn make<'py>(
        class: &Bound<'py, PyType>,
        terms: Terms,
    ) -> PyResult<Bound<'py, PyAny>> {
        debug_assert!(class.is_subclass_of::<Self>().is_ok_and(|derives| derives));
        let hold = PyClassInitializer::from(Self {
            terms,
            state: Mutex::new(State::new()),
            has_ended: AtomicBool::new(false),
            place: Place::nowhere(),
        });
        #[allow(
            unsafe_code,
            reason = "only so is an object of a Python class made with native contents"
        )]
        // SAFETY: the package's own classes derive from this one, and what is returned is a new reference or an error.
        unsafe {
            let hold = tp_new_impl::<_, Self>(class.py(), hold, class.as_type_ptr())?;
            Ok(Bound::from_owned_ptr(class.py(), hold))
        }
    }

    /// The answer of the first check, if there is one.
    fn first_result(&self, py: Python<'_>) -> PyResult<Option<Py<CheckResult>>> {
        let result = match &self.state.lock().answer {
            None => return Ok(None),
            Some(Answer::Shown(result)) => return Ok(Some(result.clone_ref(py))),
            Some(Answer::Native(result)) => result.clone(),
        };
        // Made while the state is not locked: it may set off a garbage collection, and so anything.
        let made = Py::new(py, result)?;
        let mut state = self.state.lock();
        if let Some(Answer::Shown(result)) = &state.answer {
            let result = result.clone_ref(py);
            drop(state); // another thread was faster
            return Ok(Some(result));
        }
        state.answer = Some(Answer::Shown(made.clone_ref(py)));
        Ok(Some(made))
    }

    /// Sets a field; what was there goes once the state is not locked any more.
    fn set<T>(&self, field: impl FnOnce(&mut State) -> &mut T, value: T) {
        let old = mem::replace(field(&mut self.state.lock()), value);
        drop(old);
    }

    /// Begins the first check. Whatever goes wrong after it, `is_entering` is to be reset.
    fn begin(slf: &Bound<'_, Self>) -> PyResult<Begun> {
        let (is_first, ttl) = {
            let mut state = slf.get().state.lock();
            (state.enter(), state.ttl)
        };
        if !is_first {
            return Err(PyRuntimeError::new_err("a hold can be entered once"));
        }
        Self::check(slf, ttl).inspect_err(|_| slf.get().state.lock().is_entering = false)
    }

    fn check(slf: &Bound<'_, Self>, ttl: Option<f64>) -> PyResult<Begun> {
        let (py, terms) = (slf.py(), &slf.get().terms);
        terms.adopt(py)?;
        match terms.check(py, ttl)? {
            Some((_, Progress::Done(answer))) => Self::take(slf, CheckResult::from(answer)),
            Some((core, progress)) => outcome(py, core, progress).map(Begun::Left),
            None => Ok(Begun::Left(py.None())),
        }
    }

    /// Begins with an answer that holds credits on ordinary terms.
    fn take(slf: &Bound<'_, Self>, result: CheckResult) -> PyResult<Begun> {
        let (py, this) = (slf.py(), slf.get());
        let holds = this.terms.holds().bind(py);
        let due = holds.get().now(py)? + holds.get().lead();
        let left = match this.terms.units {
            Some(units) => this.state.lock().take(result, units, due),
            None => Some(result),
        };
        if let Some(result) = left {
            return Ok(Begun::Left(Py::new(py, result)?.into_any()));
        }
        OpenHolds::watch(holds, slf, &this.place, due)?;
        Ok(Begun::Taken)
    }

    /// Counts units as used; `false` if there is more to it, and nothing was done.
    fn count(&self, units: &Bound<'_, PyAny>) -> bool {
        let Some(units) = whole(units).filter(|units| *units >= 0) else {
            return false;
        };
        let mut state = self.state.lock();
        !self.terms.holds().get().lock().is_barred() && state.count(units)
    }

    /// Ends as most holds do: with one piece that was used, and that memory can settle.
    fn end(&self) -> PyResult<bool> {
        let terms = &self.terms;
        // What belongs to the process this one forked from goes the long way; its locks may be taken for good.
        if !terms.are_ours() {
            return Ok(false);
        }
        let holds = terms.holds().get();
        let fixed = {
            let mut state = self.state.lock();
            let is_barred = holds.lock().is_barred();
            if is_barred { None } else { state.fix_first() }
        };
        let Some((held, used)) = fixed else {
            return Ok(false);
        };
        let is_settled = terms.client.get().settle_held(&held, as_float(used))?;
        if is_settled {
            self.has_ended.store(true, Relaxed);
            holds.forget(&self.place);
        }
        Ok(is_settled)
    }

    /// What the first check holds, as it is while there are no other pieces.
    fn first_pieces(&self, py: Python<'_>) -> PyResult<Py<PyTuple>> {
        let Some(result) = self.first_result(py)? else {
            return Ok(PyTuple::empty(py).unbind());
        };
        let reservation = result.bind(py).getattr(intern!(py, "reservation"))?;
        let pieces = Some(reservation).filter(|piece| !piece.is_none());
        Ok(PyTuple::new(py, pieces.as_slice())?.unbind())
    }
}

fn not_entered() -> PyErr {
    PyRuntimeError::new_err("the hold has not been entered")
}

impl Drop for OpenHold {
    fn drop(&mut self) {
        if self.terms.are_ours() {
            self.terms.holds().get().forget(&self.place);
        }
    }
}

#[pymethods]
impl OpenHold {
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let mut objects = self.terms.objects();
        objects.try_for_each(|object| visit.call(object))
    }

    fn _watch(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        let (holds, due) = (this.terms.holds().bind(slf.py()), this.state.lock().due);
        OpenHolds::watch(holds, slf, &this.place, due)
    }

    fn _forget(&self) {
        self.terms.holds().get().forget(&self.place);
    }

    /// Settles a hold that nobody has any more and that is open.
    #[pyo3(name = "__del__")]
    fn finalize(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        if !this.has_ended.load(Relaxed) && this.state.lock().answer.is_some() {
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
            call_method(slf, intern!(slf.py(), "_enter_slowly"), (begun,))
                .inspect_err(|_| slf.get().state.lock().is_entering = false)?;
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
        if !slf.get().end()? {
            call_method(slf, intern!(slf.py(), "_exit_slowly"), (exc,))?;
        }
        Ok(())
    }

    fn _ends_at_once(&self) -> PyResult<bool> {
        self.end()
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
        let is_allowed = |answer: &Answer| answer.get().is_allowed();
        let allowed = self.state.lock().answer.as_ref().map(is_allowed);
        allowed.ok_or_else(not_entered)
    }

    /// The answer of the first check.
    #[getter]
    fn result(&self, py: Python<'_>) -> PyResult<Py<CheckResult>> {
        self.first_result(py)?.ok_or_else(not_entered)
    }

    #[getter]
    fn _client(&self, py: Python<'_>) -> Py<Memory> {
        self.terms.client.clone_ref(py)
    }

    #[getter]
    fn _holds(&self, py: Python<'_>) -> Py<OpenHolds> {
        self.terms.holds().clone_ref(py)
    }

    #[getter]
    fn _arguments<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        self.terms.arguments(py)
    }

    #[getter]
    fn _usage(&self, py: Python<'_>) -> Py<PyAny> {
        self.terms.usage().clone_ref(py)
    }

    #[getter(_result)]
    fn py_result(&self, py: Python<'_>) -> PyResult<Option<Py<CheckResult>>> {
        self.first_result(py)
    }

    #[setter(_result)]
    fn set_result(&self, result: Py<CheckResult>) {
        let answer = Some(Answer::Shown(result));
        self.set(|state| &mut state.answer, answer);
    }

    #[getter]
    fn _pieces(&self, py: Python<'_>) -> PyResult<Py<PyTuple>> {
        if let Pieces::These(pieces) = &self.state.lock().pieces {
            return Ok(pieces.clone_ref(py));
        }
        self.first_pieces(py)
    }

    #[setter(_pieces)]
    fn set_pieces(&self, pieces: Py<PyTuple>) {
        self.set(|state| &mut state.pieces, Pieces::These(pieces));
    }

    #[getter]
    fn _ending(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let used = {
            let state = self.state.lock();
            match &state.ending {
                Ending::Open => return Ok(None),
                Ending::These(ending) => return Ok(Some(ending.clone_ref(py))),
                Ending::First => state.used.copy(py),
            }
        };
        let piece = self.first_pieces(py)?.bind(py).get_item(0)?;
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
        self.has_ended.load(Relaxed)
    }

    #[setter(_has_ended)]
    fn set_has_ended(&self, has_ended: bool) {
        self.has_ended.store(has_ended, Relaxed);
    }

    #[setter(_is_entering)]
    fn set_is_entering(&self, is_entering: bool) {
        self.state.lock().is_entering = is_entering;
    }
}
