//! The module `schematic_native._testing`: what only tests need of the extension. It is there only if the
//! extension is built with the cargo feature `testing`, and must never be part of a published wheel.

mod engine;
mod ledger;
mod machine;

use pyo3::prelude::*;

/// Where Python looks for it.
const NAME: &str = "schematic_native._testing";

/// What only tests need of the compiled half of `schematic_native`.
#[pymodule(gil_used = false)]
mod _testing {
    #[pymodule_export]
    use super::engine::scripted_core;
    #[pymodule_export]
    use super::ledger::{add_hold, consume, has_hold, refund, try_reserve};
    #[pymodule_export]
    use super::machine::{abandon_spool, simulate_disk, tend_spool};
}

/// Makes the module importable, though no file bears its name.
pub(crate) fn install(py: Python<'_>) -> PyResult<()> {
    let module = pyo3::wrap_pymodule!(_testing)(py);
    let modules = py.import("sys")?.getattr("modules")?;
    modules.set_item(NAME, module)
}
