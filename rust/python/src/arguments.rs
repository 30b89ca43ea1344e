//! What Python passes in, checked and borrowed. Errors name the argument and what would be right.

use chrono::{DateTime, Utc};
use pyo3::{
    exceptions::{PyOverflowError, PyTypeError, PyValueError},
    intern,
    prelude::*,
    types::{PyBool, PyDateTime, PyDict, PyFloat, PyInt, PyMapping, PyString, PyTzInfo},
};
use schematic_core::{
    Millis,
    engine::Preflight,
    leases::{FailureMode, Keys},
};
use smallvec::SmallVec;

/// Lookup keys of a company or user, borrowed from Python for the length of a call.
pub(crate) struct BorrowedKeys<'py> {
    /// The argument, as errors tell it.
    name: &'static str,
    pairs: SmallVec<[(Bound<'py, PyString>, Bound<'py, PyString>); 2]>,
}

/// The same, as the core takes them.
pub(crate) type KeyPairs<'a> = SmallVec<[(&'a str, &'a str); 2]>;

impl<'py> BorrowedKeys<'py> {
    pub fn of(name: &'static str, keys: Option<&Bound<'py, PyAny>>) -> PyResult<Option<Self>> {
        let Some(keys) = keys else {
            return Ok(None);
        };
        let mut pairs = SmallVec::new();
        if let Ok(dict) = keys.cast_exact::<PyDict>() {
            for (key, value) in dict.iter() {
                pairs.push(pair(name, key, value)?);
            }
        } else if let Ok(mapping) = keys.cast::<PyMapping>() {
            for item in mapping.items()?.iter() {
                let (key, value): (Bound<'_, PyAny>, Bound<'_, PyAny>) = item.extract()?;
                pairs.push(pair(name, key, value)?);
            }
        } else {
            let kind = kind_of(keys);
            return Err(PyTypeError::new_err(format!(
                "{name} must be a dict of lookup keys such as {{'id': 'acme'}}, not {kind}"
            )));
        }
        Ok(Some(Self { name, pairs }))
    }

    pub fn pairs(&self) -> PyResult<KeyPairs<'_>> {
        let mut pairs = KeyPairs::new();
        for (key, value) in &self.pairs {
            pairs.push((utf8(self.name, key)?, utf8(self.name, value)?));
        }
        Ok(pairs)
    }
}

/// Copies lookup keys.
pub(crate) fn keys(name: &'static str, keys: Option<&Bound<'_, PyAny>>) -> PyResult<Option<Keys>> {
    let keys = BorrowedKeys::of(name, keys)?;
    keys.map(|keys| Ok(Keys::new(&keys.pairs()?))).transpose()
}

fn pair<'py>(
    name: &str,
    key: Bound<'py, PyAny>,
    value: Bound<'py, PyAny>,
) -> PyResult<(Bound<'py, PyString>, Bound<'py, PyString>)> {
    let key = key.cast_into::<PyString>().map_err(|fault| {
        let kind = kind_of(&fault.into_inner());
        PyTypeError::new_err(format!("{name} must have str keys, not {kind}"))
    })?;
    let value = match value.cast_into::<PyString>() {
        Ok(value) => value,
        Err(fault) => id_text(name, &key, &fault.into_inner())?,
    };
    Ok((key, value))
}

/// The text of a `uuid.UUID`, as which many programs keep the ids of their companies.
#[cold]
fn id_text<'py>(
    name: &str,
    key: &Bound<'py, PyString>,
    value: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyString>> {
    let uuid = value.py().import(intern!(value.py(), "uuid"))?;
    if value.is_instance(&uuid.getattr(intern!(value.py(), "UUID"))?)? {
        return value.str();
    }
    let kind = kind_of(value);
    Err(PyTypeError::new_err(format!(
        "{name}[{key:?}] must be a str or a UUID, not {kind}"
    )))
}

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
pub(crate) fn units(name: &str, value: &Bound<'_, PyAny>) -> PyResult<i64> {
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

/// Names and amounts, for example credits by credit id.
type Amounts<'py> = Vec<(Bound<'py, PyString>, f64)>;

fn amounts<'py>(name: &str, amounts: &Bound<'py, PyAny>) -> PyResult<Amounts<'py>> {
    let mapping = amounts.cast::<PyMapping>().map_err(|_| {
        let kind = kind_of(amounts);
        PyTypeError::new_err(format!("{name} must be a dict of numbers, not {kind}"))
    })?;
    let mut pairs = Vec::new();
    for item in mapping.items()?.iter() {
        let (key, value): (Bound<'_, PyAny>, Bound<'_, PyAny>) = item.extract()?;
        let key = key.cast_into::<PyString>().map_err(|fault| {
            let kind = kind_of(&fault.into_inner());
            PyTypeError::new_err(format!("{name} must have str keys, not {kind}"))
        })?;
        let amount = quantity(&format!("{name}[{key:?}]"), &value)?;
        pairs.push((key, amount));
    }
    Ok(pairs)
}

fn borrowed<'a>(name: &str, amounts: &'a Amounts<'_>) -> PyResult<SmallVec<[(&'a str, f64); 4]>> {
    amounts
        .iter()
        .map(|(key, amount)| Ok((utf8(name, key)?, *amount)))
        .collect()
}

/// What a plain check asks on top of the entities, borrowed from Python.
#[derive(Default)]
pub(crate) struct BorrowedPreflight<'py> {
    usage: Option<i64>,
    event_usage: Option<(String, i64)>,
    event_quantities: Option<(String, Amounts<'py>, Option<f64>)>,
    credit_cost: Amounts<'py>,
}

impl<'py> BorrowedPreflight<'py> {
    pub fn of(
        usage: Option<&Bound<'py, PyAny>>,
        event_usage: Option<(String, Bound<'py, PyAny>)>,
        event_quantities: Option<(String, Bound<'py, PyAny>, Option<f64>)>,
        credit_cost: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Self> {
        let mut preflight = Self::default();
        if let Some(usage) = usage {
            preflight.usage = Some(units("usage", usage)?);
        }
        if let Some((event, usage)) = event_usage {
            preflight.event_usage = Some((event, units("event_usage", &usage)?));
        }
        if let Some((event, quantities, quantity)) = event_quantities {
            let quantities = amounts("event_quantities", &quantities)?;
            preflight.event_quantities = Some((event, quantities, quantity));
        }
        if let Some(cost) = credit_cost {
            preflight.credit_cost = amounts("credit_cost", cost)?;
        }
        Ok(preflight)
    }

    /// Asks something with it.
    pub fn ask<T>(&self, question: impl FnOnce(&Preflight<'_>) -> T) -> PyResult<T> {
        let quantities = match &self.event_quantities {
            Some((event, quantities, quantity)) => Some((
                event.as_str(),
                borrowed("event_quantities", quantities)?,
                *quantity,
            )),
            None => None,
        };
        let quantities = quantities.as_ref();
        Ok(question(&Preflight {
            usage: self.usage,
            event_usage: self
                .event_usage
                .as_ref()
                .map(|(event, units)| (event.as_str(), *units)),
            event_quantities: quantities.map(|(event, named, _)| (*event, named.as_slice())),
            event_quantity: quantities.and_then(|(_, _, quantity)| *quantity),
            credit_cost: &borrowed("credit_cost", &self.credit_cost)?,
            balance: None,
        }))
    }
}

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

pub(crate) fn optional_datetime(
    name: &str,
    value: Option<&Bound<'_, PyAny>>,
) -> PyResult<Option<DateTime<Utc>>> {
    value.map(|value| datetime(name, value)).transpose()
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
