//! The steps of a lease-backed check, what each of them came to, and how a check ends.
//!
//! The flow and the code that performs its steps exchange these values; nothing is done here.

use std::sync::Arc;

use crate::{
    engine::Terms,
    leases::{Debit, Failure, FailureMode, Refusal},
};

/// What the flow asks for next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Step {
    /// Evaluate with the real balance and no preflight: [`StepResult::Probed`].
    Probe,
    /// Debit the slot by the cost: [`StepResult::Debited`], [`StepResult::Held`], [`StepResult::Refused`] or
    /// [`StepResult::StoreFailed`].
    Reserve,
    /// Make sure that a live lease is in the slot: [`StepResult::Acquired`].
    Acquire,
    /// Extend the lease by what the cost needs, best effort: [`StepResult::Extended`].
    Extend,
    /// Record the hold: [`StepResult::Recorded`] or [`StepResult::StoreFailed`].
    Record,
    /// Evaluate with this balance as overlay and the cost as preflight: [`StepResult::Evaluated`].
    Gate {
        /// The balance before this check's debit, in credits.
        balance: f64,
    },
    /// Consume none of the hold and give it back: [`StepResult::Cancelled`] or [`StepResult::StoreFailed`].
    Cancel,
    /// Give back a debit whose hold was not recorded, pinned to the lease that was charged:
    /// [`StepResult::Cancelled`] or [`StepResult::StoreFailed`].
    Refund,
    /// Evaluate with an unlimited balance and the caller's usage: [`StepResult::Evaluated`].
    Open,
    /// Nothing is metered here: this is a plain check.
    Plain,
    /// The check is decided.
    Done(Outcome),
}

/// The result of a [`Step`].
#[derive(Clone, Debug, PartialEq)]
pub enum StepResult {
    /// To [`Step::Probe`]: how the feature is metered, if it is.
    Probed(Option<Arc<Terms>>),
    /// To [`Step::Reserve`].
    Debited(Debit),
    /// To [`Step::Reserve`]: debited, and the hold that was drafted is recorded, both at once.
    Held(Debit),
    /// To [`Step::Reserve`].
    Refused(Refusal),
    /// To any store step: it was refused or never reached the store.
    StoreFailed,
    /// To any store step: whether it was carried out, or still will be, is unknown.
    StoreLost,
    /// To [`Step::Acquire`]: whether a live lease is there.
    Acquired(bool),
    /// To [`Step::Extend`].
    Extended,
    /// To [`Step::Record`].
    Recorded,
    /// To [`Step::Gate`] and [`Step::Open`]: the engine's value, or `None` if it failed.
    Evaluated(Option<bool>),
    /// To [`Step::Cancel`] and [`Step::Refund`].
    Cancelled,
    /// To [`Step::Cancel`]: there is no such hold.
    Gone,
}

/// What the reason of a decided check is taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basis {
    /// The gate's evaluation.
    Gate,
    /// The fail-open evaluation; the failure is appended to its reason.
    Open(Failure),
    /// No evaluation: the failure itself is the reason.
    Static(Failure),
}

/// A decided check. The hold of one that the gate allowed is [`CheckFlow::hold`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Whether the caller may go on.
    pub allowed: bool,
    /// Where the reason is from.
    pub basis: Basis,
    /// Whether the lease is due for a background extend.
    pub low: bool,
}

impl Outcome {
    /// The failure, if credits could not be held.
    #[must_use]
    pub const fn failure(&self) -> Option<Failure> {
        match self.basis {
            Basis::Gate => None,
            Basis::Open(failure) | Basis::Static(failure) => Some(failure),
        }
    }

    /// The end of a check that no evaluation decides.
    pub(super) const fn of_failure(mode: FailureMode, failure: Failure) -> Self {
        Self {
            allowed: matches!(mode, FailureMode::Open),
            basis: Basis::Static(failure),
            low: false,
        }
    }
}
