//! The extension module `schematic_native._native`: what it exports, by name. It must never define
//! anything itself.

mod arguments;
mod build;
mod clock;
mod core;
mod defaults;
mod engine;
mod events;
#[cfg(unix)]
mod exchange;
mod fork;
mod interpreter;
mod leases;
mod memory;
mod python_call;
mod resp;
mod results;
mod spool;
#[cfg(feature = "testing")]
mod testing;
mod wake;

use pyo3::prelude::*;

/// The compiled half of `schematic_native`: decisions only, no I/O.
#[pymodule(gil_used = false)]
mod _native {
    use pyo3::prelude::*;

    #[pymodule_export]
    #[allow(non_upper_case_globals, reason = "the Python name")]
    const __version__: &str = env!("CARGO_PKG_VERSION");

    #[pymodule_export]
    #[allow(non_upper_case_globals, reason = "the Python name")]
    const __build__: Build = super::build::BUILD;

    #[pymodule_export]
    const ENGINE_VERSION_KEY: &str = schematic_core::engine::VERSION_KEY;

    #[pymodule_export]
    const HOLD_LOW: f64 = super::defaults::HOLD_LOW;
    #[pymodule_export]
    const LARGEST_LEASE: f64 = super::defaults::LARGEST_LEASE;
    #[pymodule_export]
    const LEASE_DURATION: f64 = super::defaults::LEASE_DURATION;
    #[pymodule_export]
    const LEASE_SIZE: f64 = super::defaults::LEASE_SIZE;
    #[pymodule_export]
    const LONGEST_TERM: f64 = super::defaults::LONGEST_TERM;
    #[pymodule_export]
    const LOW_WATER_MARK: f64 = super::defaults::LOW_WATER_MARK;
    #[pymodule_export]
    const RESERVATION_TTL: f64 = super::defaults::RESERVATION_TTL;
    #[pymodule_export]
    const UNBILLABLE: f64 = super::defaults::UNBILLABLE;

    #[pymodule_export]
    use super::arguments::read_quantity;
    #[pymodule_export]
    use super::build::Build;
    #[pymodule_export]
    use super::core::{Core, Ingested, PendingCheck};
    #[pymodule_export]
    use super::engine::{
        CompiledCompany, CompiledFlag, CompiledUser, EngineError, check_flag_json, check_flags_json,
    };
    #[pymodule_export]
    use super::events::{EventBatch, HttpAnswer, RequestPace, read_answer};
    #[pymodule_export]
    use super::leases::{AcquirePlan, ExtendPlan, Lease, OwedClaim, SlabPlan};
    #[pymodule_export]
    use super::memory::{Asynchronous, HoldLock, Memory, OpenHold, OpenHolds, Synchronous};
    #[pymodule_export]
    use super::resp::{pack_command, plain_replies};
    #[pymodule_export]
    use super::results::{
        CheckFlagResult, CheckResult, FeatureEntitlement, Reservation, WarningTier,
    };

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        super::interpreter::claim(module.py())?;
        #[cfg(feature = "testing")]
        super::testing::install(module.py())?;
        Ok(())
    }
}
