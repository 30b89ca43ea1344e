//! The spool of a client: its start, its end, and what it tells. Events get into it by themselves. Nothing here keeps
//! the interpreter while it waits for the disk.

use pyo3::{prelude::*, types::PyDict};

use super::Core;
use crate::events::EventBatch;

#[pymethods]
impl Core {
    fn start_spool(&self, py: Python<'_>) {
        if let Some(spool) = &self.spool {
            py.detach(|| spool.start());
        }
    }

    fn delivered(&self, batch: &EventBatch) {
        self.client.events().delivered(&batch.0);
    }

    #[allow(
        clippy::needless_pass_by_value,
        reason = "arguments are taken from Python by value"
    )]
    fn close_spool(
        &self,
        py: Python<'_>,
        undelivered: Vec<PyRef<'_, EventBatch>>,
    ) -> Option<usize> {
        let spool = self.spool.as_ref()?;
        let batches = undelivered.iter().map(|batch| &batch.0);
        let lost = self.client.events().keep_rest(batches);
        py.detach(|| spool.close());
        Some(lost)
    }

    fn spool_counts<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        let Some(spool) = &self.spool else {
            return Ok(None);
        };
        let counts = spool.counts();
        let dict = PyDict::new(py);
        dict.set_item("events", counts.open)?;
        dict.set_item("bytes", counts.bytes)?;
        dict.set_item("refused", counts.refused)?;
        dict.set_item("adopted", counts.adopted)?;
        dict.set_item("parked", counts.parked)?;
        dict.set_item("damaged", counts.damaged + counts.torn)?;
        Ok(Some(dict))
    }

    fn spool_report(&self) -> (Option<String>, Vec<String>) {
        let report = self.spool.as_ref().map(|spool| spool.report());
        report.map_or_else(Default::default, |report| (report.fault, report.notices))
    }
}
