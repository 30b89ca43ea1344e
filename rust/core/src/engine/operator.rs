//! The operators of conditions, and what each says of two values.
//!
//! A new operator needs its variant here and an arm in each comparison. `rust/core/tests/plain_engine`
//! evaluates it the plain way, and `tests/engine/cases.json` has its cases.

use chrono::{DateTime, Utc};
use serde::Deserialize;

use super::value::{Scalar, Value};
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
