//! Trait values and the comparisons of conditions.

use chrono::{DateTime, Utc};
use serde::Deserialize;

use super::date::parse_date;
use crate::name::Name;

/// How a condition compares. An operator that this engine does not know is [`Operator::Unknown`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Operator {
    Eq,
    Ne,
    Gt,
    Lt,
    Gte,
    Lte,
    IsEmpty,
    NotEmpty,
    #[serde(other)]
    Unknown,
}

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

    fn comparable(self) -> Comparable {
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
        // Nobody compares the text of a number.
        Some(Self::untold(Scalar::Int(integer)))
    }

    const fn untold(scalar: Scalar) -> Self {
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

/// Compares as the left side's type has it; a right side of another type is read again as that one.
#[inline]
pub(crate) fn compare(operator: Operator, left: &Value, right: &Value) -> bool {
    match (left.scalar, right.scalar) {
        (Scalar::Text, _) => compare_texts(operator, &left.text, &right.text),
        (Scalar::Int(left), Scalar::Int(right)) => compare_numbers(operator, left, right),
        _ => compare_others(operator, left, right),
    }
}

/// Compares values other than two texts or two whole numbers.
#[inline(never)]
fn compare_others(operator: Operator, left: &Value, right: &Value) -> bool {
    match (left.scalar, right.scalar) {
        (Scalar::Bool(left), Scalar::Bool(right)) => compare_bools(operator, left, right),
        (Scalar::Date(left), Scalar::Date(right)) => compare_dates(operator, left, right),
        (Scalar::Unknown, _) => false,
        (Scalar::Int(_) | Scalar::Float(_), Scalar::Int(_) | Scalar::Float(_)) => {
            compare_numbers(operator, as_float(left.scalar), as_float(right.scalar))
        }
        _ => compare_converted(operator, left, right),
    }
}

#[cold]
fn compare_converted(operator: Operator, left: &Value, right: &Value) -> bool {
    let scalar = Scalar::read(left.scalar.comparable(), right.text.as_str());
    compare(operator, left, &Value::untold(scalar))
}

/// An integer's text and the integer itself round to the same double, so the text need not be read again.
#[allow(
    clippy::cast_precision_loss,
    reason = "the engine compares in doubles where one side is no integer"
)]
fn as_float(scalar: Scalar) -> f64 {
    match scalar {
        Scalar::Int(integer) => integer as f64,
        Scalar::Float(float) => float,
        _ => 0.0,
    }
}

pub(crate) fn compare_numbers<N: PartialOrd + Default + Copy>(
    operator: Operator,
    left: N,
    right: N,
) -> bool {
    match operator {
        Operator::Eq => left == right,
        Operator::Ne => left != right,
        Operator::Gt => left > right,
        Operator::Lt => left < right,
        Operator::Gte => left >= right,
        Operator::Lte => left <= right,
        Operator::IsEmpty => left == N::default(),
        Operator::NotEmpty => left > N::default(),
        Operator::Unknown => false,
    }
}

#[inline]
fn compare_texts(operator: Operator, left: &Name, right: &Name) -> bool {
    match operator {
        Operator::Eq => left == right,
        Operator::Ne => left != right,
        _ => order_texts(operator, left, right),
    }
}

#[inline(never)]
fn order_texts(operator: Operator, left: &Name, right: &Name) -> bool {
    match operator {
        Operator::Gt => left.as_bytes() > right.as_bytes(),
        Operator::Lt => left.as_bytes() < right.as_bytes(),
        Operator::Gte => left.as_bytes() >= right.as_bytes(),
        Operator::Lte => left.as_bytes() <= right.as_bytes(),
        Operator::IsEmpty => left.is_empty(),
        Operator::NotEmpty => !left.is_empty(),
        Operator::Eq | Operator::Ne | Operator::Unknown => false,
    }
}

/// A bool is never empty, and has no order.
fn compare_bools(operator: Operator, left: bool, right: bool) -> bool {
    match operator {
        Operator::Eq => left == right,
        Operator::Ne => left != right,
        Operator::NotEmpty => true,
        _ => false,
    }
}

/// A missing date sorts before every instant: exactly the order of `Option`.
fn compare_dates(
    operator: Operator,
    left: Option<DateTime<Utc>>,
    right: Option<DateTime<Utc>>,
) -> bool {
    match operator {
        Operator::Eq => left == right,
        Operator::Ne => left != right,
        Operator::Gt => left > right,
        Operator::Lt => left < right,
        Operator::Gte => left >= right,
        Operator::Lte => left <= right,
        Operator::IsEmpty => left.is_none(),
        Operator::NotEmpty => left.is_some(),
        Operator::Unknown => false,
    }
}
