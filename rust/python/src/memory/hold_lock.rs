//! The lock of one client's holds, which the thread that has it may take again: a signal handler or a
//! finalizer may use a hold meanwhile. Native code must never call Python while it excludes others.

use std::{
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

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
    /// The thread that has it, or nobody; it is changed while `times` is locked.
    owner: AtomicUsize,
    /// How often its owner has taken it.
    times: Mutex<usize>,
    released: Condvar,
}

const NOBODY: usize = 0;

fn this_thread() -> usize {
    MARK.with(|mark| std::ptr::from_ref(mark).addr())
}

impl HoldLock {
    pub fn new() -> Self {
        Self {
            owner: AtomicUsize::new(NOBODY),
            times: Mutex::default(),
            released: Condvar::new(),
        }
    }

    /// Whether another thread has it.
    ///
    /// Whoever asks has a hold's state locked, and changes it before it unlocks it: a thread that takes this lock
    /// now looks at the state afterwards, and one that has looked at it already is seen here.
    #[inline]
    pub fn is_barred(&self) -> bool {
        let owner = self.owner.load(Relaxed);
        owner != NOBODY && owner != this_thread()
    }

    fn try_take(&self) -> bool {
        let mut times = self.times.lock();
        if self.is_barred() {
            return false;
        }
        self.owner.store(this_thread(), Relaxed);
        *times += 1;
        true
    }

    fn wait(&self) {
        let mut times = self.times.lock();
        if self.is_barred() {
            self.released.wait_for(&mut times, PATIENCE);
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
        let mut times = self.times.lock();
        *times = times.saturating_sub(1);
        if *times == 0 {
            self.owner.store(NOBODY, Relaxed);
            self.released.notify_one();
        }
    }
}
