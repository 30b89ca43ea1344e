//! What a hold counts, and how far it has come. It must never call Python: it is looked at under a lock.

use std::sync::Arc;

use pyo3::{
    IntoPyObjectExt,
    prelude::*,
    types::{PyInt, PyTuple},
};
use schematic_core::leases::Reservation as Held;

use crate::{defaults::HOLD_LOW, results::CheckResult};

/// Integers below this are exact as floats, and sums of two of them do not overflow.
const EXACT: i64 = 1 << 53;

/// What a hold counts, and how far it has come.
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is an answer of its own, which Python reads and sets by its name"
)]
pub(super) struct State {
    pub answer: Option<Answer>,
    /// Whether the first check is being made.
    pub is_entering: bool,
    pub pieces: Pieces,
    pub used: Number,
    /// What is held, and what was settled already.
    pub held: Number,
    /// Whole units of pieces that were settled.
    pub billed: Number,
    /// Units left below which it grows.
    pub low: f64,
    /// When it is renewed, by the monotonic clock.
    pub due: f64,
    /// Seconds that it lives between renewals, if not as configured.
    pub ttl: Option<f64>,
    /// Whether it is growing, or being renewed.
    pub is_busy: bool,
    /// Whether a settle of memory's own is enough for it.
    pub is_simple: bool,
    /// Whether it may go on after its block.
    pub may_outlive: bool,
    pub ending: Ending,
}

/// The answer of the first check; it becomes a Python object when Python asks for it.
pub(super) enum Answer {
    Native(CheckResult),
    Shown(Py<CheckResult>),
}

/// The reservations that a hold owns.
pub(super) enum Pieces {
    /// What the first check reserved, if anything.
    First,
    These(Py<PyTuple>),
}

/// How the pieces end, fixed when the end begins.
pub(super) enum Ending {
    Open,
    /// The first piece, with what was used.
    First,
    These(Py<PyAny>),
}

/// A number as Python gave it.
pub(super) enum Number {
    Whole(i64),
    Other(Py<PyAny>),
}

impl State {
    pub fn new() -> Self {
        Self {
            answer: None,
            is_entering: false,
            pieces: Pieces::First,
            used: Number::Whole(0),
            held: Number::Whole(0),
            billed: Number::Whole(0),
            low: f64::NEG_INFINITY,
            due: f64::INFINITY,
            ttl: None,
            is_busy: false,
            is_simple: true,
            may_outlive: false,
            ending: Ending::Open,
        }
    }

    /// Notes that the first check begins; `false` if it was begun before.
    pub fn enter(&mut self) -> bool {
        let is_first = !self.is_entering && self.answer.is_none();
        self.is_entering |= is_first;
        is_first
    }

    /// Takes an answer that holds these units on ordinary terms; gives it back if there is more to it.
    pub fn take(&mut self, result: CheckResult, units: i64, due: f64) -> Option<CheckResult> {
        let is_ordinary = self.is_simple && self.ttl.is_none();
        if !is_ordinary || result.held().is_none() {
            return Some(result);
        }
        self.answer = Some(Answer::Native(result));
        self.held = Number::Whole(units);
        self.low = HOLD_LOW * as_float(units);
        self.due = due;
        None
    }

    /// Counts units as used; `false` if there is more to it, and nothing was done.
    pub fn count(&mut self, units: i64) -> bool {
        let (Number::Whole(used), Number::Whole(held)) = (&self.used, &self.held) else {
            return false;
        };
        let (used, left) = (used + units, held - used - units);
        let is_open = self.answer.is_some() && matches!(self.ending, Ending::Open);
        if !is_open || used >= EXACT || !(self.is_busy || as_float(left) >= self.low) {
            return false;
        }
        self.used = Number::Whole(used);
        true
    }

    /// Fixes the end that most holds have: one piece that was used, and that memory can settle. Returns
    /// the piece and what was used; `None` if there is more to it, and nothing was done.
    pub fn fix_first(&mut self) -> Option<(Arc<Held>, i64)> {
        let held = self.answer.as_ref()?.get().held()?;
        let is_plain = self.is_simple
            && !self.may_outlive
            && matches!(self.ending, Ending::Open)
            && matches!(self.pieces, Pieces::First)
            && matches!(self.billed, Number::Whole(0));
        match self.used {
            Number::Whole(used) if used > 0 && is_plain => {
                self.ending = Ending::First;
                Some((Arc::clone(held), used))
            }
            _ => None,
        }
    }
}

impl Answer {
    pub fn get(&self) -> &CheckResult {
        match self {
            Self::Native(result) => result,
            Self::Shown(result) => result.get(),
        }
    }
}

impl Number {
    pub fn of(value: &Bound<'_, PyAny>) -> Self {
        whole(value).map_or_else(|| Self::Other(value.clone().unbind()), Self::Whole)
    }

    pub fn copy(&self, py: Python<'_>) -> Self {
        match self {
            Self::Whole(number) => Self::Whole(*number),
            Self::Other(number) => Self::Other(number.clone_ref(py)),
        }
    }

    pub fn show(self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        match self {
            Self::Whole(number) => number.into_py_any(py),
            Self::Other(number) => Ok(number),
        }
    }
}

/// An exact `int` of an ordinary size.
pub(super) fn whole(value: &Bound<'_, PyAny>) -> Option<i64> {
    let number: i64 = value.cast_exact::<PyInt>().ok()?.extract().ok()?;
    Some(number).filter(|number| -EXACT < *number && *number < EXACT)
}

#[allow(
    clippy::cast_precision_loss,
    reason = "the nearest double is what is wanted"
)]
pub(super) fn as_float(number: i64) -> f64 {
    number as f64
}
