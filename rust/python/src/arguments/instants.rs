//! Instants and durations: seconds and datetimes of Python's, milliseconds of the core's. A datetime must
//! never leave the years that Python's can hold.

use chrono::{DateTime, Utc};
use pyo3::{
    exceptions::{PyOverflowError, PyTypeError, PyValueError},
    prelude::*,
    types::{PyDateTime, PyTzInfo},
};
use schematic_core::Millis;

use super::quantity;

/// Epoch seconds as the core's instant; what is no instant is an error.
pub(crate) fn instant(name: &str, seconds: f64) -> PyResult<Millis> {
    if !seconds.is_finite() {
        return Err(PyValueError::new_err(format!(
            "{name} must be a finite number of epoch seconds, not {seconds}"
        )));
    }
    Ok(millis(seconds))
}

/// Seconds as milliseconds.
pub(crate) fn millis(seconds: f64) -> Millis {
    #[allow(
        clippy::cast_possible_truncation,
        reason = "a cast from a double saturates"
    )]
    let millis = (seconds * 1000.0).round() as Millis;
    millis
}

/// Milliseconds as seconds.
pub(crate) const fn seconds(millis: Millis) -> f64 {
    #[allow(
        clippy::cast_precision_loss,
        reason = "instants are far below 2^53 milliseconds"
    )]
    let seconds = millis as f64 / 1000.0;
    seconds
}

/// The first and the last instant that Python's datetime can hold.
const EARLIEST: DateTime<Utc> = within_reach(-62_135_596_800, 0);
const LATEST: DateTime<Utc> = within_reach(253_402_300_799, 999_999_000);

const fn within_reach(seconds: i64, nanos: u32) -> DateTime<Utc> {
    match DateTime::from_timestamp(seconds, nanos) {
        Some(at) => at,
        None => DateTime::UNIX_EPOCH,
    }
}

/// An instant as Python can hold it: one beyond its years is the last it can.
pub(crate) fn shown(at: DateTime<Utc>) -> DateTime<Utc> {
    at.clamp(EARLIEST, LATEST)
}

/// A datetime of any time zone, in UTC.
pub(crate) fn datetime(name: &str, value: &Bound<'_, PyAny>) -> PyResult<DateTime<Utc>> {
    let py = value.py();
    let is_aware =
        value.cast::<PyDateTime>().is_ok() && !value.call_method0("utcoffset")?.is_none();
    if !is_aware {
        return Err(PyTypeError::new_err(format!(
            "{name} must be a datetime with a time zone, not {}",
            value.repr()?
        )));
    }
    match value.call_method1("astimezone", (PyTzInfo::utc(py)?,)) {
        Ok(utc) => utc.extract(),
        // Within an offset of one of the two ends.
        Err(fault) if fault.is_instance_of::<PyOverflowError>(py) => {
            let year: i32 = value.getattr("year")?.extract()?;
            Ok(if year > 1 { LATEST } else { EARLIEST })
        }
        Err(fault) => Err(fault),
    }
}

/// Epoch seconds, as Python gave them.
pub(crate) fn read_instant(name: &str, value: &Bound<'_, PyAny>) -> PyResult<Millis> {
    instant(name, quantity(name, value)?)
}

pub(crate) fn optional_instant(
    name: &str,
    value: Option<&Bound<'_, PyAny>>,
) -> PyResult<Option<Millis>> {
    value.map(|value| read_instant(name, value)).transpose()
}
