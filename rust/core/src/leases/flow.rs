use std::sync::Arc;

use crate::{
    Millis,
    leases::{Debit, Ids, Keys, Mode, Refusal, Reservation, SlabId, credits_used, valid_quantity},
};

/// The balance that stands for "no credit limit" in a fail-open evaluation: the largest integer
/// that every JSON reader keeps exact.
pub const MAX_SAFE_INTEGER: f64 = 9_007_199_254_740_991.0;

/// What a check does when credits cannot be held for a reason that is not the customer's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FailureMode {
    /// Deny.
    #[default]
    Closed,
    /// Let the rules decide as if credits were unlimited.
    Open,
}

/// Why credits could not be held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The usage is not a finite, non-negative number.
    InvalidUsage,
    /// No lease could be had.
    AcquireFailed,
    /// The lease is short and could not be extended by enough.
    InsufficientBalance,
    /// The store failed.
    StoreError,
    /// The engine failed at the gate.
    EngineError,
}

impl Failure {
    /// The word for it in reasons and errors.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidUsage => "invalid_usage",
            Self::AcquireFailed => "lease_acquire_failed",
            Self::InsufficientBalance => "insufficient_lease_balance",
            Self::StoreError => "lease_store_error",
            Self::EngineError => "engine_error",
        }
    }

    /// The reason of a check that allows without asking the engine.
    #[must_use]
    pub const fn as_fail_open(self) -> &'static str {
        match self {
            Self::InvalidUsage => "invalid_usage_fail_open",
            Self::AcquireFailed => "lease_acquire_failed_fail_open",
            Self::InsufficientBalance => "insufficient_lease_balance_fail_open",
            Self::StoreError => "lease_store_error_fail_open",
            Self::EngineError => "engine_error_fail_open",
        }
    }
}

/// How a feature is metered, as a probe found in the entitlement.
#[derive(Clone, Debug, PartialEq)]
pub struct Terms {
    /// The credit type.
    pub credit_id: Arc<str>,
    /// Credits for one event.
    pub rate: f64,
    /// The event that the entitlement names.
    pub event_subtype: Option<Arc<str>>,
}

/// Who the hold is for.
#[derive(Clone, Debug)]
pub struct Holder {
    /// The company's id.
    pub company_id: Arc<str>,
    /// The company keys of the check.
    pub company: Option<Arc<Keys>>,
    /// The user keys of the check.
    pub user: Option<Arc<Keys>>,
}

/// What the flow asks for next.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Evaluate with the real balance and no preflight: [`Answer::Probed`].
    Probe,
    /// Debit the slot by the cost: [`Answer::Debited`], [`Answer::Refused`] or [`Answer::StoreFailed`].
    Reserve,
    /// Make sure that a live lease is in the slot: [`Answer::Acquired`].
    Acquire,
    /// Extend the lease by what the cost needs, best effort: [`Answer::Extended`].
    Extend,
    /// Record the hold: [`Answer::Recorded`] or [`Answer::StoreFailed`].
    Record(Arc<Reservation>),
    /// Evaluate with this balance as overlay and the cost as preflight: [`Answer::Evaluated`].
    Gate {
        /// The balance before this check's debit, in credits.
        balance: f64,
    },
    /// Consume none of the hold and give it back: [`Answer::Cancelled`] or [`Answer::StoreFailed`].
    Cancel(Arc<Reservation>),
    /// Give back a debit whose hold was not recorded, pinned to the lease that was charged:
    /// [`Answer::Cancelled`] or [`Answer::StoreFailed`].
    Refund(Arc<Reservation>),
    /// Evaluate with an unlimited balance and the caller's usage: [`Answer::Evaluated`].
    Open,
    /// Nothing is metered here: this is a plain check.
    Plain,
    /// The check is decided.
    Done(Outcome),
}

/// An answer to a [`Step`].
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// To [`Step::Probe`]: how the feature is metered, if it is.
    Probed(Option<Terms>),
    /// To [`Step::Reserve`].
    Debited(Debit),
    /// To [`Step::Reserve`].
    Refused(Refusal),
    /// To any store step: it was refused or never reached the store.
    StoreFailed,
    /// To any store step: nobody knows whether it was, or yet will be, carried out.
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

/// Where a decided check has its reason from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basis {
    /// The gate's evaluation.
    Gate,
    /// The fail-open evaluation; the failure is appended to its reason.
    Open(Failure),
    /// No evaluation: the failure itself is the reason.
    Static(Failure),
}

/// A decided check.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Whether the caller may go on.
    pub allowed: bool,
    /// Where the reason is from.
    pub basis: Basis,
    /// The credits held for an allowed check.
    pub reservation: Option<Arc<Reservation>>,
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
}

/// One lease-backed check: it owns the order debit, record, gate, keep or cancel.
///
/// It waits for nothing and touches no store. Whoever runs it performs the step it asks for and
/// tells it the answer; an answer that does not fit the step leaves the flow where it is.
#[derive(Debug)]
pub struct CheckFlow {
    usage: f64,
    event_subtype: Option<Arc<str>>,
    mode: FailureMode,
    holder: Holder,
    terms: Option<Terms>,
    cost: f64,
    debit: Option<Debit>,
    held: Option<Arc<Reservation>>,
    acquired: bool,
    extended: bool,
    failure: Option<Failure>,
    step: Step,
}

impl CheckFlow {
    /// Begins a check of `usage` events.
    #[must_use]
    pub fn begin(
        usage: f64,
        event_subtype: Option<Arc<str>>,
        mode: FailureMode,
        holder: Holder,
    ) -> Self {
        let step = if !valid_quantity(usage) {
            Step::Done(static_outcome(mode, Failure::InvalidUsage))
        } else if usage == 0.0 {
            Step::Plain
        } else {
            Step::Probe
        };
        Self {
            usage,
            event_subtype,
            mode,
            holder,
            terms: None,
            cost: 0.0,
            debit: None,
            held: None,
            acquired: false,
            extended: false,
            failure: None,
            step,
        }
    }

    /// The step it waits for.
    #[must_use]
    pub const fn step(&self) -> &Step {
        &self.step
    }

    /// The credits that the check holds if it is allowed.
    #[must_use]
    pub const fn cost(&self) -> f64 {
        self.cost
    }

    /// The events asked for.
    #[must_use]
    pub const fn usage(&self) -> f64 {
        self.usage
    }

    /// How the feature is metered, once a probe has told.
    #[must_use]
    pub const fn terms(&self) -> Option<&Terms> {
        self.terms.as_ref()
    }

    /// The event that a settle will bill: the caller's, or else the entitlement's.
    #[must_use]
    pub fn event_subtype(&self) -> Option<&Arc<str>> {
        let named = || self.terms.as_ref()?.event_subtype.as_ref();
        self.event_subtype.as_ref().or_else(named)
    }

    /// Whether the debit was made in a store that other processes share.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.debit.as_ref().is_some_and(|debit| debit.shared)
    }

    /// The slab that the debit was carved from.
    #[must_use]
    pub fn slab(&self) -> Option<SlabId> {
        self.debit.as_ref()?.slab
    }

    /// Who the hold is for.
    #[must_use]
    pub const fn holder(&self) -> &Holder {
        &self.holder
    }

    /// Takes the answer to the step and moves to the next.
    pub fn advance(&mut self, answer: Answer, now: Millis, ttl: Millis, ids: &Ids) {
        let step = std::mem::replace(&mut self.step, Step::Plain);
        self.step = match (step, answer) {
            (Step::Probe, Answer::Probed(terms)) => self.price(terms),
            (Step::Reserve, Answer::Debited(debit)) => self.hold(debit, now, ttl, ids),
            (Step::Reserve, Answer::Refused(refusal)) => self.refused(refusal),
            (Step::Acquire, Answer::Acquired(true)) | (Step::Extend, Answer::Extended) => {
                Step::Reserve
            }
            (Step::Acquire, Answer::Acquired(false)) => self.fail(Failure::AcquireFailed),
            (Step::Record(hold), Answer::Recorded) => self.gate(hold),
            (Step::Record(hold), Answer::StoreFailed) => Step::Refund(hold),
            // If the hold is there, its claim gives it back. If it is not, it may yet be recorded and
            // swept; a refund of the debit besides would give it back twice, so that is left to
            // lapse with the lease.
            (Step::Record(hold), Answer::StoreLost) => {
                self.failure = Some(Failure::StoreError);
                Step::Cancel(hold)
            }
            (Step::Reserve, Answer::StoreFailed | Answer::StoreLost)
            | (Step::Refund(_), Answer::Cancelled | Answer::StoreFailed | Answer::StoreLost) => {
                self.fail(Failure::StoreError)
            }
            (Step::Gate { .. }, Answer::Evaluated(value)) => self.judge(value),
            // A cancel that fails leaks the hold until its time to live; the verdict stands.
            (
                Step::Cancel(_),
                Answer::Cancelled | Answer::Gone | Answer::StoreFailed | Answer::StoreLost,
            ) => self.denied(),
            (Step::Open, Answer::Evaluated(value)) => self.opened(value),
            (step, _) => step,
        };
    }

    fn price(&mut self, terms: Option<Terms>) -> Step {
        let Some(terms) = terms.filter(|terms| terms.rate > 0.0) else {
            return Step::Plain;
        };
        self.cost = credits_used(self.usage, terms.rate);
        self.terms = Some(terms);
        if self.event_subtype().is_none_or(|event| event.is_empty()) {
            return Step::Plain;
        }
        Step::Reserve
    }

    fn refused(&mut self, refusal: Refusal) -> Step {
        match refusal {
            Refusal::NoLease if !self.acquired && !self.extended => {
                self.acquired = true;
                Step::Acquire
            }
            Refusal::NoLease | Refusal::Short if !self.extended => {
                self.extended = true;
                Step::Extend
            }
            _ => self.fail(Failure::InsufficientBalance),
        }
    }

    fn hold(&mut self, debit: Debit, now: Millis, ttl: Millis, ids: &Ids) -> Step {
        let (Some(terms), Some(event)) = (&self.terms, self.event_subtype()) else {
            return self.fail(Failure::EngineError);
        };
        let reservation = Reservation {
            id: ids.next(),
            lease_id: Arc::clone(&debit.lease_id),
            mode: Mode::Client,
            company_id: Arc::clone(&self.holder.company_id),
            credit_type_id: Arc::clone(&terms.credit_id),
            event_subtype: Arc::clone(event),
            quantity_reserved: self.usage,
            credits_reserved: self.cost,
            consumption_rate: terms.rate,
            expires_at: now.saturating_add(ttl),
            company: self.holder.company.clone(),
            user: self.holder.user.clone(),
        };
        self.debit = Some(debit);
        Step::Record(Arc::new(reservation))
    }

    fn gate(&mut self, hold: Arc<Reservation>) -> Step {
        let after = self.debit.as_ref().map_or(0.0, |debit| debit.remaining);
        self.held = Some(hold);
        Step::Gate {
            balance: after + self.cost,
        }
    }

    fn judge(&mut self, value: Option<bool>) -> Step {
        let Some(hold) = self.held.take() else {
            return self.fail(Failure::EngineError);
        };
        match value {
            Some(true) => Step::Done(Outcome {
                allowed: true,
                basis: Basis::Gate,
                reservation: Some(hold),
                low: self.debit.as_ref().is_some_and(|debit| debit.low),
            }),
            Some(false) => Step::Cancel(hold),
            None => {
                self.failure = Some(Failure::EngineError);
                Step::Cancel(hold)
            }
        }
    }

    fn denied(&mut self) -> Step {
        Step::Done(match self.failure {
            Some(failure @ Failure::EngineError) => static_outcome(self.mode, failure),
            Some(failure) => return self.fail(failure),
            None => Outcome {
                allowed: false,
                basis: Basis::Gate,
                reservation: None,
                low: false,
            },
        })
    }

    fn fail(&mut self, failure: Failure) -> Step {
        self.failure = Some(failure);
        match self.mode {
            FailureMode::Closed => Step::Done(static_outcome(self.mode, failure)),
            FailureMode::Open => Step::Open,
        }
    }

    fn opened(&self, value: Option<bool>) -> Step {
        let failure = self.failure.unwrap_or(Failure::EngineError);
        Step::Done(value.map_or_else(
            || static_outcome(self.mode, failure),
            |allowed| Outcome {
                allowed,
                basis: Basis::Open(failure),
                reservation: None,
                low: false,
            },
        ))
    }
}

const fn static_outcome(mode: FailureMode, failure: Failure) -> Outcome {
    Outcome {
        allowed: matches!(mode, FailureMode::Open),
        basis: Basis::Static(failure),
        reservation: None,
        low: false,
    }
}
