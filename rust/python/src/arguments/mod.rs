//! What Python passes in, checked and borrowed. An error names the argument and what would be right; a
//! wrong argument must never get past here.

mod instants;
mod keys;
mod numbers;
mod preflight;

use pyo3::{
    exceptions::{PyTypeError, PyValueError},
    prelude::*,
    types::PyString,
};
use schematic_core::leases::FailureMode;

pub(crate) use instants::{
    datetime, instant, millis, optional_instant, read_instant, seconds, shown,
};
pub(crate) use keys::{BorrowedKeys, keys, with_parties};
pub(crate) use numbers::{plain_number, quantity, read_quantity};
pub(crate) use preflight::BorrowedPreflight;

pub(crate) fn kind_of(value: &Bound<'_, PyAny>) -> String {
    value
        .get_type()
        .name()
        .map_or_else(|_| "another type".to_owned(), |name| name.to_string())
}

/// Text in UTF-8, which cannot hold all that a `str` can: no surrogate without its other half.
#[inline]
fn utf8<'a>(name: &str, text: &'a Bound<'_, PyString>) -> PyResult<&'a str> {
    match text.to_str() {
        Ok(text) => Ok(text),
        Err(_) => Err(not_utf8(name, text)),
    }
}

#[cold]
fn not_utf8(name: &str, text: &Bound<'_, PyString>) -> PyErr {
    PyValueError::new_err(format!(
        "{name} must be text that UTF-8 can hold, not {text:?}"
    ))
}

/// A text argument.
pub(crate) fn text<'a>(name: &str, value: &'a Bound<'_, PyAny>) -> PyResult<&'a str> {
    match value.cast::<PyString>() {
        Ok(text) => utf8(name, text),
        Err(_) => Err(PyTypeError::new_err(format!(
            "{name} must be a str, not {}",
            kind_of(value)
        ))),
    }
}

pub(crate) fn optional_text<'a>(
    name: &str,
    value: Option<&'a Bound<'_, PyAny>>,
) -> PyResult<Option<&'a str>> {
    value.map(|value| text(name, value)).transpose()
}

/// What to do when credits cannot be held.
pub(crate) fn failure_mode(value: Option<&Bound<'_, PyAny>>) -> PyResult<FailureMode> {
    let Some(value) = value else {
        return Ok(FailureMode::Closed);
    };
    match text("on_acquire_failure", value)? {
        "fail-closed" => Ok(FailureMode::Closed),
        "fail-open" => Ok(FailureMode::Open),
        other => Err(PyValueError::new_err(format!(
            "on_acquire_failure must be 'fail-closed' or 'fail-open', not {other:?}"
        ))),
    }
}

/// A JSON object that the caller has serialised.
pub(crate) fn json<'a>(name: &str, value: Option<&'a [u8]>) -> PyResult<Option<&'a str>> {
    let Some(value) = value else {
        return Ok(None);
    };
    std::str::from_utf8(value)
        .map(Some)
        .map_err(|_| PyValueError::new_err(format!("{name} must be JSON in UTF-8")))
}
