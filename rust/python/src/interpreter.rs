//! Keeps the extension to one interpreter of a process: its types and interned names belong to the first
//! that imported it, and must never be reached from another.

use std::sync::atomic::{AtomicI64, Ordering};

use pyo3::exceptions::PyImportError;
use pyo3::prelude::*;

const NOBODY: i64 = -1;

static OWNER: AtomicI64 = AtomicI64::new(NOBODY);

/// Raises `ImportError` in any interpreter but the first that asked.
pub(crate) fn claim(_py: Python<'_>) -> PyResult<()> {
    #[allow(
        unsafe_code,
        reason = "two functions of the stable ABI that only tell which interpreter this is"
    )]
    // SAFETY: the interpreter is attached, which is all that both functions ask for.
    let current =
        unsafe { pyo3::ffi::PyInterpreterState_GetID(pyo3::ffi::PyInterpreterState_Get()) };
    match OWNER.compare_exchange(NOBODY, current, Ordering::SeqCst, Ordering::SeqCst) {
        Err(owner) if owner != current => Err(PyImportError::new_err(
            "schematic_native works in one interpreter of a process, and another has imported it: \
             use processes instead of sub-interpreters (mod_wsgi: WSGIApplicationGroup %{GLOBAL})",
        )),
        _ => Ok(()),
    }
}
