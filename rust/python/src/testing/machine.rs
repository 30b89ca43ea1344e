//! A machine whose disk is a test's: Python hears of each file that is made and of each sync, and may refuse a file.
//! Files are real ones all the same.

use std::{
    fs::File,
    io,
    ops::Range,
    path::Path,
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};

use pyo3::prelude::*;
use schematic_spool::{Machine, ThisMachine};

use crate::{core::Core, spool::simulating::NEXT_MACHINE};

static BEGINNING: LazyLock<Instant> = LazyLock::new(Instant::now);

#[derive(Debug)]
struct SimulatedMachine(Py<PyAny>);

impl SimulatedMachine {
    fn tell(&self, event: &str, path: &Path, range: Option<&Range<usize>>) -> io::Result<()> {
        let told = Python::attach(|py| {
            let disk = self.0.bind(py);
            match range {
                Some(range) => disk.call_method1(event, (path, range.start, range.end))?,
                None => disk.call_method1(event, (path,))?,
            };
            Ok::<_, PyErr>(())
        });
        told.map_err(io::Error::other)
    }
}

impl Machine for SimulatedMachine {
    fn create(&self, path: &Path, length: usize) -> io::Result<File> {
        self.tell("create", path, None)?;
        ThisMachine.create(path, length)
    }

    fn sync(
        &self,
        path: &Path,
        range: &Range<usize>,
        _: &dyn Fn() -> io::Result<()>,
    ) -> io::Result<()> {
        self.tell("synced", path, Some(range))
    }

    fn sync_names(&self, directory: &Path) -> io::Result<()> {
        self.tell("synced_names", directory, None)
    }

    fn now(&self) -> Instant {
        let seconds: PyResult<f64> =
            Python::attach(|py| self.0.call_method0(py, "now")?.extract(py));
        *BEGINNING + Duration::from_secs_f64(seconds.unwrap_or_default())
    }

    fn new_owner(&self) -> String {
        let name: PyResult<String> =
            Python::attach(|py| self.0.call_method0(py, "new_owner")?.extract(py));
        name.unwrap_or_default()
    }

    fn has_threads(&self) -> bool {
        false
    }
}

/// Lets the next core that is made on this thread have its spool on a disk of the test's.
#[pyfunction]
pub(super) fn simulate_disk(disk: Py<PyAny>) {
    NEXT_MACHINE.set(Some(Arc::new(SimulatedMachine(disk))));
}

/// Does what the thread of a spool does each time that it wakes, where there is none.
#[pyfunction]
pub(super) fn tend_spool(core: &Core) {
    if let Some(spool) = core.spool() {
        spool.tend();
    }
}

/// Ends a spool as the death of its process would: its locks are free, and its files stay as they are.
#[pyfunction]
pub(super) fn abandon_spool(core: &Core) {
    if let Some(spool) = core.spool() {
        spool.abandon();
    }
}
