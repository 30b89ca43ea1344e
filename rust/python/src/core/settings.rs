//! How a core is made: what Python configures, checked, with every default. It must never accept a
//! setting that makes an instant or an amount overflow.

use std::{path::PathBuf, sync::Arc};

use pyo3::{exceptions::PyValueError, prelude::*, types::PyMapping};
use schematic_core::{
    decider::{Decider, DeciderSettings, Engine},
    leases::{Knobs, LeaseKnobs, SlabKnobs},
};

use super::Core;
use crate::{
    arguments::{millis, seconds},
    defaults::{
        LARGEST_LEASE, LEASE_DURATION, LEASE_SIZE, LONGEST_TERM, LOW_WATER_MARK, RESERVATION_TTL,
    },
    fork,
    spool::{journal, open_spool},
    wake::wake_with,
};

#[pymethods]
impl Core {
    #[new]
    #[pyo3(signature = (
        *, api_key, max_companies=100_000, max_users=100_000, max_billing_events=1_000_000,
        max_flag_check_events=10_000, lease_size=LEASE_SIZE, lease_duration=LEASE_DURATION,
        reservation_ttl=RESERVATION_TTL, low_water_mark=LOW_WATER_MARK, overrides=None, clock=None, wake=None, seed=None,
        shared=false, slabs=None, steady=None, spool=None,
    ))]
    #[allow(clippy::too_many_arguments, reason = "each is a setting with a name")]
    fn new(
        py: Python<'_>,
        api_key: String,
        max_companies: usize,
        max_users: usize,
        max_billing_events: usize,
        max_flag_check_events: usize,
        lease_size: f64,
        lease_duration: f64,
        reservation_ttl: f64,
        low_water_mark: f64,
        overrides: Option<&Bound<'_, PyMapping>>,
        clock: Option<Py<PyAny>>,
        wake: Option<Py<PyAny>>,
        seed: Option<u64>,
        shared: bool,
        slabs: Option<(f64, f64, f64)>,
        steady: Option<Py<PyAny>>,
        spool: Option<(PathBuf, u64, Option<f64>)>,
    ) -> PyResult<Self> {
        let spool = spool.map(|spool| open_spool(py, spool, clock.as_ref()));
        let common = lease_knobs(lease_size, lease_duration, reservation_ttl, low_water_mark)?;
        let client = Decider::new(DeciderSettings {
            api_key,
            max_companies,
            max_users,
            max_billing_events,
            max_flag_check_events,
            knobs: all_knobs(common, overrides)?.with_slabs(slabs.map(slab_knobs).transpose()?),
            seed: seed.map_or_else(|| random_seed(py), |seed| Ok([seed, !seed]))?,
            wake: wake_with(wake),
            shared,
            engine: engine(),
            journal: spool.as_ref().map(journal),
        });
        fork::watch();
        let core = Self {
            client: Arc::new(client),
            clock,
            steady,
            forks: fork::forks(),
            spool,
        };
        core.compare_clocks(py)?;
        Ok(core)
    }
}

/// Who answers lease-backed checks in place of the rules engine: nobody.
#[cfg(not(feature = "testing"))]
const fn engine() -> Option<Box<dyn Engine>> {
    None
}

/// Who answers lease-backed checks in place of the rules engine: whom a test has set, if it has.
#[cfg(feature = "testing")]
fn engine() -> Option<Box<dyn Engine>> {
    scripting::NEXT_ENGINE.take()
}

/// Where a test leaves the engine of the core that it makes next.
#[cfg(feature = "testing")]
pub(crate) mod scripting {
    use std::cell::Cell;

    use schematic_core::decider::Engine;

    thread_local! {
        pub(crate) static NEXT_ENGINE: Cell<Option<Box<dyn Engine>>> = const { Cell::new(None) };
    }
}

/// Sixteen bytes of the system's randomness, as two words.
fn random_seed(py: Python<'_>) -> PyResult<[u64; 2]> {
    let random = py.import("os")?.call_method1("urandom", (16,))?;
    let bytes: [u8; 16] = random.extract()?;
    let seed = u128::from_ne_bytes(bytes);
    #[allow(clippy::cast_possible_truncation, reason = "two halves")]
    Ok([seed as u64, (seed >> 64) as u64])
}

fn within(name: &str, value: f64, least: f64, most: f64) -> PyResult<f64> {
    if value >= least && value <= most {
        return Ok(value);
    }
    Err(PyValueError::new_err(format!(
        "{name} must be a number from {least} to {most}, not {value}"
    )))
}

fn lease_knobs(size: f64, duration: f64, ttl: f64, mark: f64) -> PyResult<LeaseKnobs> {
    Ok(LeaseKnobs {
        lease_size: within("lease_size", size, 0.0, LARGEST_LEASE)?,
        lease_duration: millis(within("lease_duration", duration, 0.0, LONGEST_TERM)?),
        reservation_ttl: millis(within("reservation_ttl", ttl, 0.0, LONGEST_TERM)?),
        low_water_mark: within("low_water_mark", mark, 0.0, 1.0)?,
    })
}

fn slab_knobs((smallest, largest, lifetime): (f64, f64, f64)) -> PyResult<SlabKnobs> {
    let smallest = within("smallest slab", smallest, 1.0, LARGEST_LEASE)?;
    Ok(SlabKnobs {
        smallest,
        largest: within("largest slab", largest, smallest, LARGEST_LEASE)?,
        lifetime: millis(within("slab lifetime", lifetime, 0.0, LONGEST_TERM)?),
    })
}

/// The knobs of every credit type: the common ones, and those that override them.
fn all_knobs(common: LeaseKnobs, overrides: Option<&Bound<'_, PyMapping>>) -> PyResult<Knobs> {
    let mut knobs = Knobs::new(common);
    if let Some(overrides) = overrides {
        for item in overrides.items()?.iter() {
            let (credit_type_id, given): (String, Bound<'_, PyAny>) = item.extract()?;
            knobs.set(&credit_type_id, override_knobs(common, &given)?);
        }
    }
    Ok(knobs)
}

fn override_knobs(common: LeaseKnobs, given: &Bound<'_, PyAny>) -> PyResult<LeaseKnobs> {
    let given = given.cast::<PyMapping>()?;
    let mut values = [
        ("lease_size", common.lease_size),
        ("lease_duration", seconds(common.lease_duration)),
        ("reservation_ttl", seconds(common.reservation_ttl)),
        ("low_water_mark", common.low_water_mark),
    ];
    for (name, value) in &mut values {
        if given.contains(*name)? {
            let item = given.get_item(*name)?;
            if !item.is_none() {
                *value = item.extract()?;
            }
        }
    }
    let [(_, size), (_, duration), (_, ttl), (_, mark)] = values;
    lease_knobs(size, duration, ttl, mark)
}
