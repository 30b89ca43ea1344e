//! The rules engine on its own: JSON in, JSON out.

use pyo3::create_exception;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};
use schematic_core::Millis;
use schematic_core::wire::{self, WireError};

create_exception!(
    schematic_native.rulesengine,
    EngineError,
    PyValueError,
    "JSON that the rules engine cannot read; the message tells what is wrong, and where."
);

/// Evaluates one flag, from JSON to JSON.
#[pyfunction]
#[pyo3(signature = (envelope, *, now=None))]
pub fn check_flag_json(envelope: &Bound<'_, PyAny>, now: Option<f64>) -> PyResult<String> {
    let now = now.map(epoch_millis).transpose()?;
    read_message("envelope", envelope, |message| {
        wire::check_flag_json(message, now)
    })
}

/// Evaluates many flags, from JSON to JSON.
#[pyfunction]
#[pyo3(signature = (envelope, *, now=None))]
pub fn check_flags_json(envelope: &Bound<'_, PyAny>, now: Option<f64>) -> PyResult<String> {
    let now = now.map(epoch_millis).transpose()?;
    read_message("envelope", envelope, |message| {
        wire::check_flags_json(message, now)
    })
}

/// Hands the bytes of a `str` or `bytes` argument to `read`, without the GIL.
fn read_message<T: Send>(
    name: &str,
    message: &Bound<'_, PyAny>,
    read: impl FnOnce(&[u8]) -> Result<T, WireError> + Send,
) -> PyResult<T> {
    let read = |bytes: &[u8]| message.py().detach(|| read(bytes));
    let outcome = if let Ok(bytes) = message.cast::<PyBytes>() {
        read(bytes.as_bytes())
    } else if let Ok(text) = message.cast::<PyString>() {
        match text.to_cow() {
            Ok(text) => read(text.as_bytes()),
            Err(error) => {
                return Err(EngineError::new_err(format!(
                    "{name} is not Unicode text: {error}"
                )));
            }
        }
    } else {
        let kind = message.get_type().name()?;
        return Err(PyTypeError::new_err(format!(
            "{name} must be a str or bytes, not {kind}"
        )));
    };
    outcome.map_err(|error| EngineError::new_err(error.to_string()))
}

/// Milliseconds from seconds since the epoch; an instant beyond all dates is one, and then no clock is seen.
#[allow(
    clippy::cast_possible_truncation,
    reason = "saturates, which is beyond all dates"
)]
fn epoch_millis(seconds: f64) -> PyResult<Millis> {
    if seconds.is_nan() {
        return Err(PyValueError::new_err("now must be epoch seconds, not NaN"));
    }
    Ok((seconds * 1000.0).round() as Millis)
}
