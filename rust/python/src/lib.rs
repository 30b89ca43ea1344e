//! The extension module `schematic_native._native`: conversions and errors only.

mod engine;

use pyo3::prelude::*;

/// The compiled half of `schematic_native`.
#[pymodule(gil_used = false)]
mod _native {
    #[pymodule_export]
    use crate::engine::{EngineError, check_flag_json, check_flags_json};

    #[pymodule_export]
    const ENGINE_VERSION_KEY: &str = schematic_core::engine::VERSION_KEY;

    #[pymodule_export]
    #[allow(non_upper_case_globals, reason = "the Python name")]
    const __version__: &str = env!("CARGO_PKG_VERSION");
}
