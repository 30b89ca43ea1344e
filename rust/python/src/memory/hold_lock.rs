//! The lock of one client's holds, which the thread that has it may take again: a signal handler or a
//! finalizer may use a hold meanwhile. Native code must never call Python while it excludes others.

use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use pyo3::{prelude::*, types::PyTuple};

/// Whoever waits looks for signals this often.
const PATIENCE: Duration = Duration::from_millis(50);

thread_local! {
    /// Its address names the thread.
    static MARK: u8 = const { 0 };
}

/// The lock of one client's holds.
#[pyclass(frozen, module = "schematic_native._native")]
pub(crate) struct HoldLock {
    taken: Mutex<Taken>,
    released: Condvar,
}

#[derive(Default)]
struct Taken {
    by: usize,
    times: usize,
}

impl Taken {
    /// Whether another thread has it.
    fn is_barred(&self) -> bool {
        self.times > 0 && self.by != this_thread()
    }
}

fn this_thread() -> usize {
    MARK.with(|mark| std::ptr::from_ref(mark).addr())
}

impl HoldLock {
    pub fn new() -> Self {
        Self {
            taken: Mutex::default(),
            released: Condvar::new(),
        }
    }

    /// Does something that calls no Python while nobody else has the lock; `None` if another thread has it.
    #[inline]
    pub fn within<T>(&self, act: impl FnOnce() -> T) -> Option<T> {
        let taken = self.taken.lock();
        (!taken.is_barred()).then(act)
    }

    fn try_take(&self) -> bool {
        let mut taken = self.taken.lock();
        if taken.is_barred() {
            return false;
        }
        taken.by = this_thread();
        taken.times += 1;
        true
    }

    fn wait(&self) {
        let mut taken = self.taken.lock();
        if taken.is_barred() {
            self.released.wait_for(&mut taken, PATIENCE);
        }
    }
}

#[pymethods]
impl HoldLock {
    fn __enter__(&self, py: Python<'_>) -> PyResult<()> {
        while !self.try_take() {
            py.detach(|| self.wait());
            py.check_signals()?;
        }
        Ok(())
    }

    #[pyo3(signature = (*_error))]
    fn __exit__(&self, _error: &Bound<'_, PyTuple>) {
        let mut taken = self.taken.lock();
        taken.times = taken.times.saturating_sub(1);
        if taken.times == 0 {
            self.released.notify_one();
        }
    }
}
