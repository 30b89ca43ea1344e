//! The kinds of fields: how each is read when a result is made in Python, how it is kept, and what is shown
//! of it. A field must never build a Python object before it is read.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use pyo3::{exceptions::PyValueError, prelude::*, types::PyDict};
use schematic_core::{
    Millis,
    engine::{MetricPeriod, MonthReset, ValueType},
    leases::{Keys, Mode, ReservationId},
    text::Text,
};

use crate::arguments;

/// What Python passes for a field that is read here, rather than as a type of Rust's.
type Value<'a> = &'a Bound<'a, PyAny>;

/// A kind of field.
pub(super) trait Field {
    /// What the constructor takes.
    type Given<'a>;
    /// As it is kept.
    type Kept;
    /// What its getter returns.
    type Shown<'a>
    where
        Self: 'a;

    /// Reads a field; an error names it.
    fn keep(name: &'static str, given: Self::Given<'_>) -> PyResult<Self::Kept>;

    fn show(kept: &Self::Kept) -> Self::Shown<'_>;
}

impl<F: Field> Field for Option<F> {
    type Given<'a> = Option<F::Given<'a>>;
    type Kept = Option<F::Kept>;
    type Shown<'a>
        = Option<F::Shown<'a>>
    where
        Self: 'a;

    fn keep(name: &'static str, given: Self::Given<'_>) -> PyResult<Self::Kept> {
        given.map(|given| F::keep(name, given)).transpose()
    }

    fn show(kept: &Self::Kept) -> Self::Shown<'_> {
        kept.as_ref().map(F::show)
    }
}

/// Kinds that are kept and shown as they were given.
macro_rules! plain {
    ($($kind:ty),*) => {$(
        impl Field for $kind {
            type Given<'a> = Self;
            type Kept = Self;
            type Shown<'a> = Self;

            fn keep(_name: &'static str, given: Self) -> PyResult<Self> {
                Ok(given)
            }

            fn show(kept: &Self) -> Self {
                *kept
            }
        }
    )*};
}

plain!(bool, i64, f64);

/// Kinds of text.
macro_rules! texts {
    ($($kind:ty: $from:ty;)*) => {$(
        impl Field for $kind {
            type Given<'a> = Value<'a>;
            type Kept = Self;
            type Shown<'a> = &'a str;

            fn keep(name: &'static str, given: Value<'_>) -> PyResult<Self> {
                Ok(<$from>::from(arguments::text(name, given)?).into())
            }

            fn show(kept: &Self) -> &str {
                kept
            }
        }
    )*};
}

texts! {
    Arc<str>: Arc<str>;
    Text: String;
}

/// Kinds of which there are a few, each with a name: text in Python.
macro_rules! named {
    ($($kind:ident: $($variant:ident)*;)*) => {$(
        impl Field for $kind {
            type Given<'a> = Value<'a>;
            type Kept = Self;
            type Shown<'a> = &'static str;

            fn keep(name: &'static str, given: Value<'_>) -> PyResult<Self> {
                let all = [$($kind::$variant),*];
                let text = arguments::text(name, given)?;
                let found = all.iter().find(|variant| variant.as_str() == text).copied();
                found.ok_or_else(|| not_one_of(name, text, &all.map(Self::as_str)))
            }

            fn show(kept: &Self) -> &'static str {
                kept.as_str()
            }
        }
    )*};
}

named! {
    ValueType: Boolean Credit Numeric Trait Unlimited Unknown;
    MetricPeriod: AllTime CurrentDay CurrentMonth CurrentWeek Unknown;
    MonthReset: FirstOfMonth BillingCycle Unknown;
    Mode: Client Server;
}

fn not_one_of(name: &str, text: &str, known: &[&str]) -> PyErr {
    let known = match known {
        [one, other] => format!("'{one}' or '{other}'"),
        _ => format!("one of '{}'", known.join("', '")),
    };
    PyValueError::new_err(format!("{name} must be {known}, not {text:?}"))
}

/// An instant.
impl Field for DateTime<Utc> {
    type Given<'a> = Value<'a>;
    type Kept = Self;
    type Shown<'a> = Self;

    fn keep(name: &'static str, given: Value<'_>) -> PyResult<Self> {
        arguments::datetime(name, given)
    }

    fn show(kept: &Self) -> Self {
        arguments::shown(*kept)
    }
}

/// An instant that is kept in milliseconds.
pub(super) struct Instant;

impl Field for Instant {
    type Given<'a> = Value<'a>;
    type Kept = Millis;
    type Shown<'a> = DateTime<Utc>;

    fn keep(name: &'static str, given: Value<'_>) -> PyResult<Millis> {
        Ok(arguments::datetime(name, given)?.timestamp_millis())
    }

    fn show(kept: &Millis) -> DateTime<Utc> {
        let at = DateTime::from_timestamp_millis(*kept);
        arguments::shown(at.unwrap_or(DateTime::<Utc>::MAX_UTC))
    }
}

/// An instant that is kept as the server wrote it, if it wrote one; `None` if it cannot be read.
pub(super) struct WrittenInstant;

impl Field for WrittenInstant {
    type Given<'a> = Option<Value<'a>>;
    type Kept = Option<Arc<str>>;
    type Shown<'a> = Option<DateTime<Utc>>;

    fn keep(name: &'static str, given: Option<Value<'_>>) -> PyResult<Option<Arc<str>>> {
        let at = given
            .map(|given| arguments::datetime(name, given))
            .transpose()?;
        Ok(at.map(|at| at.to_rfc3339().into()))
    }

    fn show(kept: &Option<Arc<str>>) -> Option<DateTime<Utc>> {
        let at = DateTime::parse_from_rfc3339(kept.as_deref()?).ok()?;
        Some(arguments::shown(at.to_utc()))
    }
}

/// An amount: a number of any kind, finite and not negative.
pub(super) struct Amount;

impl Field for Amount {
    type Given<'a> = Value<'a>;
    type Kept = f64;
    type Shown<'a> = f64;

    fn keep(name: &'static str, given: Value<'_>) -> PyResult<f64> {
        let amount = arguments::quantity(name, given)?;
        if amount.is_finite() && amount >= 0.0 {
            return Ok(amount);
        }
        Err(PyValueError::new_err(format!(
            "{name} must be finite and not negative, not {amount}"
        )))
    }

    fn show(kept: &f64) -> f64 {
        *kept
    }
}

impl Field for ReservationId {
    type Given<'a> = Value<'a>;
    type Kept = Self;
    type Shown<'a> = String;

    fn keep(name: &'static str, given: Value<'_>) -> PyResult<Self> {
        Ok(Self::parse(arguments::text(name, given)?))
    }

    fn show(kept: &Self) -> String {
        kept.to_string()
    }
}

impl Field for Keys {
    type Given<'a> = Value<'a>;
    type Kept = Self;
    type Shown<'a> = Pairs<'a, &'a str>;

    fn keep(name: &'static str, given: Value<'_>) -> PyResult<Self> {
        Ok(arguments::keys(name, Some(given))?.unwrap_or_default())
    }

    fn show(kept: &Self) -> Pairs<'_, &str> {
        Pairs(kept.iter().collect())
    }
}

/// Names and values that Python reads as a dict, in their order.
pub(super) struct Pairs<'a, V>(pub Vec<(&'a str, V)>);

impl<'py, V: IntoPyObject<'py>> IntoPyObject<'py> for Pairs<'_, V> {
    type Target = PyDict;
    type Output = Bound<'py, PyDict>;
    type Error = PyErr;

    fn into_pyobject(self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let dict = PyDict::new(py);
        for (name, value) in self.0 {
            dict.set_item(name, value)?;
        }
        Ok(dict)
    }
}
