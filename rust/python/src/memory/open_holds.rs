//! The open holds of one client, as their schedule finds them. It must never keep a hold alive.

use std::sync::{
    OnceLock,
    atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
};

use parking_lot::Mutex;
use pyo3::{
    PyTraverseError, PyVisit, intern,
    prelude::*,
    types::{PyDict, PyTuple, PyWeakrefReference},
};

use super::hold_lock::HoldLock;
use crate::{clock, python_call::call_method};

/// The open holds of one client; when they are renewed is for the Python class to say.
#[pyclass(frozen, subclass, module = "schematic_native._native")]
pub(crate) struct OpenHolds {
    lock: Py<HoldLock>,
    open: Mutex<Places>,
    /// A clock that never goes back, in place of the system's.
    clock: OnceLock<Py<PyAny>>,
    /// When the loop looks at them next, by that clock.
    next_at: Float,
    /// Seconds after which a hold is renewed.
    lead: Float,
}

/// Weak references to holds, each at a place that its hold knows: so both ends of a block are cheap.
#[derive(Default)]
struct Places {
    taken: Vec<Option<Py<PyWeakrefReference>>>,
    free: Vec<usize>,
}

/// Where a hold is among the open ones. It is written while they are locked.
pub(super) struct Place(AtomicUsize);

const NOWHERE: usize = usize::MAX;

/// A float that is read and set at once.
struct Float(AtomicU64);

impl Place {
    pub const fn nowhere() -> Self {
        Self(AtomicUsize::new(NOWHERE))
    }

    fn is_taken(&self) -> bool {
        self.0.load(Relaxed) != NOWHERE
    }
}

impl Places {
    fn add(&mut self, reference: Py<PyWeakrefReference>) -> usize {
        if let Some(place) = self.free.pop() {
            self.taken[place] = Some(reference);
            return place;
        }
        self.taken.push(Some(reference));
        self.taken.len() - 1
    }

    fn remove(&mut self, place: usize) -> Option<Py<PyWeakrefReference>> {
        let reference = self.taken.get_mut(place)?.take()?;
        self.free.push(place);
        Some(reference)
    }
}

impl Float {
    fn new(value: f64) -> Self {
        Self(AtomicU64::new(value.to_bits()))
    }

    fn get(&self) -> f64 {
        f64::from_bits(self.0.load(Relaxed))
    }

    fn set(&self, value: f64) {
        self.0.store(value.to_bits(), Relaxed);
    }
}

impl OpenHolds {
    pub fn lock(&self) -> &HoldLock {
        self.lock.get()
    }

    pub fn lead(&self) -> f64 {
        self.lead.get()
    }

    /// Now, by the client's monotonic clock.
    pub fn now(&self, py: Python<'_>) -> PyResult<f64> {
        match self.clock.get() {
            None => Ok(clock::monotonic()),
            Some(clock) => clock.call0(py)?.extract(py),
        }
    }

    /// Has a hold renewed when it is due.
    pub(super) fn watch(
        slf: &Bound<'_, Self>,
        hold: &Bound<'_, PyAny>,
        place: &Place,
        due: f64,
    ) -> PyResult<()> {
        slf.get().add(hold, place)?;
        // Read after the hold is there: a timer that fires meanwhile either sees it or has reset this.
        if due < slf.get().next_at.get() {
            call_method(slf, intern!(slf.py(), "wake_at"), (due,))?;
        }
        Ok(())
    }

    fn add(&self, hold: &Bound<'_, PyAny>, place: &Place) -> PyResult<()> {
        if place.is_taken() {
            return Ok(());
        }
        // Made before the lock is taken: it may set off a garbage collection, and so anything.
        let reference = PyWeakrefReference::new(hold)?.unbind();
        let mut open = self.open.lock();
        if place.is_taken() {
            drop(open); // another thread was faster
            return Ok(());
        }
        place.0.store(open.add(reference), Relaxed);
        Ok(())
    }

    /// Forgets a hold that has ended, or that nobody has any more.
    pub(super) fn forget(&self, place: &Place) {
        if !place.is_taken() {
            return;
        }
        let mut open = self.open.lock();
        let reference = match place.0.swap(NOWHERE, Relaxed) {
            NOWHERE => None,
            place => open.remove(place),
        };
        drop(open);
        drop(reference);
    }
}

#[pymethods]
impl OpenHolds {
    #[new]
    #[pyo3(signature = (*_arguments, **_keywords))]
    fn new(
        py: Python<'_>,
        _arguments: &Bound<'_, PyTuple>,
        _keywords: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        Ok(Self {
            lock: Py::new(py, HoldLock::new())?,
            open: Mutex::default(),
            clock: OnceLock::new(),
            next_at: Float::new(f64::INFINITY),
            lead: Float::new(f64::INFINITY),
        })
    }

    fn _take_clock(&self, clock: Py<PyAny>) {
        // The first one stays: instants of two clocks cannot be compared.
        let _ = self.clock.set(clock);
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(self.clock.get())
    }

    #[getter(lock)]
    fn py_lock(&self, py: Python<'_>) -> Py<HoldLock> {
        self.lock.clone_ref(py)
    }

    fn monotonic(&self, py: Python<'_>) -> PyResult<f64> {
        self.now(py)
    }

    fn live<'py>(&self, py: Python<'py>) -> Vec<Bound<'py, PyAny>> {
        let copy = |reference: &Py<PyWeakrefReference>| reference.clone_ref(py);
        let references: Vec<_> = {
            let open = self.open.lock();
            open.taken.iter().flatten().map(copy).collect()
        };
        let live = |reference: Py<PyWeakrefReference>| reference.bind(py).upgrade();
        references.into_iter().filter_map(live).collect()
    }

    #[getter]
    fn next_at(&self) -> f64 {
        self.next_at.get()
    }

    #[setter]
    fn set_next_at(&self, at: f64) {
        self.next_at.set(at);
    }

    #[getter(lead)]
    fn py_lead(&self) -> f64 {
        self.lead.get()
    }

    #[setter]
    fn set_lead(&self, lead: f64) {
        self.lead.set(lead);
    }
}
