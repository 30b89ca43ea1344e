//! Everything one client decides, as Python holds it: a [`Core`], with the methods of each area in a
//! file of its own. It converts arguments and answers; it must never wait, do I/O or decide anything.

mod checks;
mod entities;
mod events;
mod leases;
mod pending;
mod settings;
mod settles;
mod slabs;
mod spool;
mod status;

use std::sync::Arc;

use pyo3::prelude::*;
use schematic_core::{Millis, Now, decider::Decider, leases::SlotKey};
use schematic_spool::Spool;

pub(crate) use checks::CheckArguments;
pub(crate) use entities::Ingested;
pub(crate) use pending::{PendingCheck, outcome};
#[cfg(feature = "testing")]
pub(crate) use settings::scripting;

use crate::{arguments, clock, fork};

/// Everything one client decides.
#[pyclass(frozen, module = "schematic_native._native")]
pub(crate) struct Core {
    client: Arc<Decider>,
    clock: Option<Py<PyAny>>,
    /// A clock that does not step, in place of the system's.
    steady: Option<Py<PyAny>>,
    /// Forks before this core was made.
    forks: u32,
    /// Keeps usage on disk, if that is configured.
    spool: Option<Arc<Spool>>,
}

impl Core {
    pub fn client(&self) -> &Decider {
        &self.client
    }

    /// Whether this process is a fork of the one that made this core, whoever forked it.
    pub fn is_forked(&self) -> bool {
        self.forks != fork::forks()
    }

    /// Now, by the wall clock.
    pub fn now(&self, py: Python<'_>) -> PyResult<Millis> {
        match &self.clock {
            None => Ok(clock::wall()),
            Some(clock) => arguments::instant("clock()", clock.call0(py)?.extract(py)?),
        }
    }

    /// Now, by both clocks; by the wall clock alone if there are no slabs, which alone need the other.
    pub fn both(&self, py: Python<'_>) -> PyResult<Now> {
        let wall = self.now(py)?;
        if self.client.ledger().knobs().slabs().is_none() {
            return Ok(Now::from(wall));
        }
        let steady = match &self.steady {
            None => clock::steady(),
            Some(clock) => steady_of(py, clock)?,
        };
        Ok(Now { wall, steady })
    }

    /// Lets the ledger compare the clocks, if both are the system's or both are given.
    fn compare_clocks(&self, py: Python<'_>) -> PyResult<()> {
        let steady = match (&self.clock, &self.steady) {
            (None, None) => clock::steady(),
            (Some(_), Some(clock)) => steady_of(py, clock)?,
            _ => return Ok(()),
        };
        let wall = self.now(py)?;
        self.client.ledger().compare_clocks(Now { wall, steady });
        Ok(())
    }
}

#[pymethods]
impl Core {
    #[getter]
    fn forked(&self) -> bool {
        self.is_forked()
    }

    #[pyo3(name = "now")]
    fn py_now(&self, py: Python<'_>) -> PyResult<f64> {
        Ok(arguments::seconds(self.now(py)?))
    }
}

fn steady_of(py: Python<'_>, clock: &Py<PyAny>) -> PyResult<Millis> {
    arguments::instant("steady()", clock.call0(py)?.extract(py)?)
}

pub(crate) fn slot<'a>(company_id: &'a str, credit_type_id: &'a str) -> SlotKey<'a> {
    SlotKey {
        company_id,
        credit_type_id,
    }
}
