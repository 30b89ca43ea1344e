//! Quantities: numbers of any kind, read by one rule. A truth value must never count as a number.

use pyo3::{
    exceptions::{PyOverflowError, PyTypeError, PyValueError},
    prelude::*,
    types::{PyBool, PyFloat, PyInt},
};

use super::kind_of;

/// A `float` or an `int`; `None` for others. One beyond the doubles is infinite.
pub(crate) fn plain_number(value: &Bound<'_, PyAny>) -> Option<f64> {
    if let Ok(number) = value.cast_exact::<PyFloat>() {
        return Some(number.value());
    }
    // A bool is no exact int.
    let integer = value.cast_exact::<PyInt>().ok()?;
    // Python makes a float of an int by way of an object; a machine word needs none, and rounds the same.
    #[allow(
        clippy::cast_precision_loss,
        reason = "the nearest double is what is wanted"
    )]
    let small = integer.extract().map(|word: i64| word as f64);
    Some(small.unwrap_or_else(|_| integer.extract().unwrap_or(f64::INFINITY)))
}

/// A quantity as it came: what is no number is an error, but a truth value, like any number that is
/// no quantity, is for the check to refuse.
pub(crate) fn quantity(name: &str, value: &Bound<'_, PyAny>) -> PyResult<f64> {
    // An integer beyond the doubles is as invalid as infinity.
    if let Some(number) = plain_number(value) {
        return Ok(number);
    }
    if value.is_instance_of::<PyBool>() {
        return Ok(f64::NAN);
    }
    other_quantity(name, value)
}

/// Anything else that says it is a number, for example a Decimal. Text never does.
#[cold]
fn other_quantity(name: &str, value: &Bound<'_, PyAny>) -> PyResult<f64> {
    value.extract().or_else(|fault: PyErr| {
        let py = value.py();
        if fault.is_instance_of::<PyOverflowError>(py) {
            Ok(f64::INFINITY)
        } else if fault.is_instance_of::<PyValueError>(py) {
            Ok(f64::NAN)
        } else {
            let kind = kind_of(value);
            Err(PyTypeError::new_err(format!(
                "{name} must be a number, not {kind}"
            )))
        }
    })
}

/// The same for what waits, so that there is one rule.
#[pyfunction]
pub(crate) fn read_quantity(name: &str, value: &Bound<'_, PyAny>) -> PyResult<f64> {
    quantity(name, value)
}

/// Usage for a plain check: whole units, rounded up.
pub(super) fn units(name: &str, value: &Bound<'_, PyAny>) -> PyResult<i64> {
    let quantity = quantity(name, value)?;
    if !quantity.is_finite() {
        return Err(PyValueError::new_err(format!(
            "{name} must be a finite number, not {value}"
        )));
    }
    #[allow(
        clippy::cast_possible_truncation,
        reason = "a cast from a double saturates"
    )]
    let units = quantity.ceil() as i64;
    Ok(units)
}
