//! The open holds of one client, as their schedule finds them. It must never keep a hold alive.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use pyo3::{
    intern,
    prelude::*,
    types::{PyDict, PyTuple, PyWeakrefReference},
};

use super::hold_lock::HoldLock;

/// The open holds of one client; when they are renewed is for the Python class to say.
#[pyclass(frozen, subclass, module = "schematic_native._native")]
pub(crate) struct OpenHolds {
    lock: Py<HoldLock>,
    /// Weak references by the identity of the hold.
    open: Py<PyDict>,
    /// When the loop looks at them next, by the monotonic clock.
    next_at: Float,
    /// Seconds after which a hold is renewed.
    lead: Float,
}

/// A float that is read and set at once.
struct Float(AtomicU64);

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
    pub fn monotonic(slf: &Bound<'_, Self>) -> PyResult<f64> {
        slf.call_method0(intern!(slf.py(), "monotonic"))?.extract()
    }

    /// Has a hold renewed when it is due.
    pub fn watch(slf: &Bound<'_, Self>, hold: &Bound<'_, PyAny>, due: f64) -> PyResult<()> {
        let (py, this) = (slf.py(), slf.get());
        let reference = PyWeakrefReference::new(hold)?;
        this.open.bind(py).set_item(identity(hold), reference)?;
        // Read after the hold is there: whoever looks meanwhile either sees it or is rung for.
        if due < this.next_at.get() {
            slf.call_method1(intern!(py, "wake_at"), (due,))?;
        }
        Ok(())
    }

    pub fn forget(&self, hold: &Bound<'_, PyAny>) {
        // Whoever ended it meanwhile has done so already.
        drop(self.open.bind(hold.py()).del_item(identity(hold)));
    }
}

/// What `id` tells of an object.
fn identity(object: &Bound<'_, PyAny>) -> usize {
    object.as_ptr().addr()
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
            open: PyDict::new(py).unbind(),
            next_at: Float::new(f64::INFINITY),
            lead: Float::new(f64::INFINITY),
        })
    }

    #[getter(lock)]
    fn py_lock(&self, py: Python<'_>) -> Py<HoldLock> {
        self.lock.clone_ref(py)
    }

    #[getter]
    fn open(&self, py: Python<'_>) -> Py<PyDict> {
        self.open.clone_ref(py)
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
