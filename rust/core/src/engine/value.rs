//! Trait values, read when they are compiled as what their trait compares as. How they compare is in `operator`.

use chrono::{DateTime, Utc};
use serde::Deserialize;

use super::date::parse_date;
use crate::name::Name;

/// How the values of a trait compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Comparable {
    #[serde(rename = "string")]
    Text,
    Bool,
    Int,
    Date,
    /// A type that only a newer server knows: conditions on such a trait are false.
    #[serde(other)]
    Unknown,
}

/// A trait value read as what its trait compares as.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Scalar {
    Text,
    Bool(bool),
    /// An `int` that is one.
    Int(i64),
    /// The text of an `int` that is not a whole number: a finite number, or 0 if it is not a number.
    Float(f64),
    Date(Option<DateTime<Utc>>),
    Unknown,
}

impl Scalar {
    pub fn read(comparable: Comparable, text: &str) -> Self {
        match comparable {
            Comparable::Text => Self::Text,
            Comparable::Bool => Self::Bool(text == "true" || text == "1"),
            Comparable::Int => match text.parse() {
                Ok(integer) => Self::Int(integer),
                Err(_) => Self::Float(
                    text.parse()
                        .ok()
                        .filter(|f: &f64| f.is_finite())
                        .unwrap_or(0.0),
                ),
            },
            Comparable::Date => Self::Date(parse_date(text)),
            Comparable::Unknown => Self::Unknown,
        }
    }

    pub fn comparable(self) -> Comparable {
        match self {
            Self::Text => Comparable::Text,
            Self::Bool(_) => Comparable::Bool,
            Self::Int(_) | Self::Float(_) => Comparable::Int,
            Self::Date(_) => Comparable::Date,
            Self::Unknown => Comparable::Unknown,
        }
    }
}

/// A trait value: its text, and what was read from it when it was compiled.
#[derive(Debug, Clone)]
pub(crate) struct Value {
    pub text: Name,
    pub scalar: Scalar,
}

impl Value {
    pub fn new(comparable: Comparable, text: &str) -> Self {
        Self {
            text: Name::new(text),
            scalar: Scalar::read(comparable, text),
        }
    }

    /// The value of a trait that an entity does not have: no text.
    pub fn missing(comparable: Comparable) -> &'static Self {
        match comparable {
            Comparable::Text => &NO_TEXT,
            Comparable::Bool => &NO_BOOL,
            Comparable::Int => &NO_INT,
            Comparable::Date => &NO_DATE,
            Comparable::Unknown => &NOT_KNOWN,
        }
    }

    /// An `int` after that much more usage; one that is no whole number counts as 0. `None` for other values.
    pub fn after(&self, usage: i64) -> Option<Self> {
        let integer = match self.scalar {
            Scalar::Int(integer) => integer.wrapping_add(usage),
            Scalar::Float(_) => usage,
            _ => return None,
        };
        // The text of a number is never compared.
        Some(Self::untold(Scalar::Int(integer)))
    }

    pub const fn untold(scalar: Scalar) -> Self {
        Self {
            text: Name::EMPTY,
            scalar,
        }
    }

    /// The value as a whole number, whatever its trait compares as.
    pub fn as_integer(&self) -> Option<i64> {
        match self.scalar {
            Scalar::Int(integer) => Some(integer),
            _ => self.text.as_str().parse().ok(),
        }
    }
}

static NO_TEXT: Value = Value::untold(Scalar::Text);
static NO_BOOL: Value = Value::untold(Scalar::Bool(false));
static NO_INT: Value = Value::untold(Scalar::Float(0.0));
static NO_DATE: Value = Value::untold(Scalar::Date(None));
static NOT_KNOWN: Value = Value::untold(Scalar::Unknown);
