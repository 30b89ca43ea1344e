//! Batches of events on their way out.

use pyo3::{prelude::*, types::PyBytes};
use schematic_core::events::Batch;

/// Up to 100 events, serialised once.
#[pyclass(frozen, module = "schematic_native._native")]
pub(crate) struct EventBatch(pub Batch);

#[pymethods]
impl EventBatch {
    #[getter]
    fn body<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &py.detach(|| self.0.body()))
    }

    #[getter]
    fn count(&self) -> usize {
        self.0.len()
    }

    #[getter]
    fn billing(&self) -> usize {
        self.0.billing()
    }

    /// Two halves, to find the event that the service refuses.
    fn split(&self) -> (Self, Self) {
        let (first, second) = self.0.split();
        (Self(first), Self(second))
    }
}
