//! The order of a lease-backed check: debit, record, gate, keep or cancel.
//!
//! The flow waits for nothing and touches no store, so one order holds for the ledger of this process and for a store
//! that processes share.

use std::sync::Arc;

use crate::{
    Millis,
    engine::Terms,
    leases::{
        Basis, Debit, Exported, Failure, FailureMode, Holder, Ids, Mode, Outcome, Refusal,
        Reservation, ReservationId, SlabId, SlotKey, Step, StepResult, credits_used,
        valid_quantity,
    },
};

/// The balance that stands for "no credit limit" in a fail-open evaluation: the largest integer
/// that every JSON reader keeps exact.
pub const MAX_SAFE_INTEGER: f64 = 9_007_199_254_740_991.0;

/// One lease-backed check: it owns the order debit, record, gate, keep or cancel.
///
/// It waits for nothing and touches no store. Whoever runs it performs the step it asks for and
/// tells it the answer; an answer that does not fit the step leaves the flow where it is.
#[derive(Debug)]
pub struct CheckFlow {
    usage: f64,
    event_subtype: Option<Arc<str>>,
    mode: FailureMode,
    /// Moves into the hold once there is one.
    holder: Option<Holder>,
    /// Moves into the hold once there is one.
    terms: Option<Arc<Terms>>,
    hold: Option<Arc<Reservation>>,
    cost: f64,
    charge: Charge,
    acquired: bool,
    extended: bool,
    failure: Option<Failure>,
    step: Step,
}

/// What the flow remembers of a debit.
#[derive(Clone, Copy, Debug, Default)]
struct Charge {
    /// The balance after it, in credits.
    remaining: f64,
    low: bool,
    shared: bool,
    slab: Option<SlabId>,
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
            Step::Done(Outcome::of_failure(mode, Failure::InvalidUsage))
        } else if usage == 0.0 {
            Step::Plain
        } else {
            Step::Probe
        };
        Self {
            usage,
            event_subtype,
            mode,
            holder: Some(holder),
            terms: None,
            hold: None,
            cost: 0.0,
            charge: Charge::default(),
            acquired: false,
            extended: false,
            failure: None,
            step,
        }
    }

    /// The step it waits for.
    #[must_use]
    pub const fn step(&self) -> Step {
        self.step
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

    /// How the feature is metered, once the probe is done; the event is the caller's, if one was named.
    #[must_use]
    pub fn terms(&self) -> Option<&Terms> {
        match &self.hold {
            Some(hold) => Some(&hold.terms),
            None => self.terms.as_deref(),
        }
    }

    /// The slot that the check charges, once the probe has found the credit type.
    #[must_use]
    pub fn slot(&self) -> Option<SlotKey<'_>> {
        match (&self.hold, &self.holder, &self.terms) {
            (Some(hold), ..) => Some(hold.slot()),
            (None, Some(holder), Some(terms)) => Some(SlotKey {
                company_id: holder.company_id(),
                credit_type_id: &terms.credit_id,
            }),
            _ => None,
        }
    }

    /// The credits that were debited and not given back, or a draft of that hold; of a decided check, what it holds.
    #[must_use]
    pub const fn hold(&self) -> Option<&Arc<Reservation>> {
        self.hold.as_ref()
    }

    /// Takes the hold out.
    #[must_use]
    pub fn into_hold(self) -> Option<Arc<Reservation>> {
        self.hold
    }

    /// The hold that a debit will make, without its lease and its end, for a store that debits and
    /// records at once. `None` before a probe.
    pub fn draft(&mut self, ids: &Ids) -> Option<Arc<Reservation>> {
        if self.hold.is_none() {
            let (holder, terms) = (self.holder.take()?, self.terms.take()?);
            self.hold = Some(Arc::new(Reservation {
                id: ids.next(),
                lease_id: Arc::default(),
                mode: Mode::Client,
                holder,
                terms,
                quantity_reserved: self.usage,
                credits_reserved: self.cost,
                expires_at: 0,
                exported: Exported::default(),
            }));
        }
        self.hold.clone()
    }

    /// Whether the debit was made, or may have been, in a store that other processes share.
    #[must_use]
    pub const fn is_shared(&self) -> bool {
        self.charge.shared
    }

    /// The slab that the debit was carved from.
    #[must_use]
    pub const fn slab(&self) -> Option<SlabId> {
        self.charge.slab
    }

    /// Takes the result of the step and moves on to the next. A debit needs the time to live of the hold that it makes.
    ///
    /// Inlined, so that the compiler resolves the match where both the step and the kind of result are known.
    #[inline(always)]
    #[allow(clippy::inline_always, reason = "measured: 200 instructions a check")]
    pub fn advance(&mut self, answer: StepResult, now: Millis, ttl: Millis, ids: &Ids) {
        self.step = match (self.step, answer) {
            (Step::Probe, StepResult::Probed(terms)) => self.price(terms),
            (Step::Reserve, StepResult::Debited(debit)) => self.debited(debit, now, ttl, ids),
            (Step::Reserve, StepResult::Held(debit)) => match self.debited(debit, now, ttl, ids) {
                Step::Record => self.gate(),
                step => step,
            },
            (Step::Reserve, StepResult::Refused(refusal)) => self.refused(refusal),
            (Step::Acquire, StepResult::Acquired(true)) | (Step::Extend, StepResult::Extended) => {
                Step::Reserve
            }
            (Step::Acquire, StepResult::Acquired(false)) => self.fail(Failure::AcquireFailed),
            (Step::Record, StepResult::Recorded) => self.gate(),
            (Step::Record, StepResult::StoreFailed) => Step::Refund,
            // If the hold is there, its claim gives it back. If it is not, it may yet be recorded and
            // swept; a refund of the debit besides would give it back twice, so that is left to
            // lapse with the lease.
            (Step::Record, StepResult::StoreLost) => self.doubt(),
            // The same holds for a draft, which may have been debited and recorded at once.
            (Step::Reserve, StepResult::StoreLost) if self.hold.is_some() => {
                self.charge.shared = true;
                self.doubt()
            }
            (Step::Reserve, StepResult::StoreFailed | StepResult::StoreLost)
            | (
                Step::Refund,
                StepResult::Cancelled | StepResult::StoreFailed | StepResult::StoreLost,
            ) => self.fail(Failure::StoreError),
            (Step::Gate { .. }, StepResult::Evaluated(value)) => self.judge(value),
            // A cancel that fails leaks the hold until its time to live; the verdict stands.
            (
                Step::Cancel,
                StepResult::Cancelled
                | StepResult::Gone
                | StepResult::StoreFailed
                | StepResult::StoreLost,
            ) => self.denied(),
            (Step::Open, StepResult::Evaluated(value)) => self.opened(value),
            (step, _) => step,
        };
    }

    fn price(&mut self, terms: Option<Arc<Terms>>) -> Step {
        let Some(mut terms) = terms.filter(|terms| terms.rate > 0.0) else {
            return Step::Plain;
        };
        if let Some(event_subtype) = self.event_subtype.take() {
            terms = Arc::new(Terms {
                event_subtype,
                credit_id: Arc::clone(&terms.credit_id),
                rate: terms.rate,
            });
        }
        if terms.event_subtype.is_empty() {
            return Step::Plain;
        }
        self.cost = credits_used(self.usage, terms.rate);
        self.terms = Some(terms);
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

    fn debited(&mut self, debit: Debit, now: Millis, ttl: Millis, ids: &Ids) -> Step {
        let drafted = if self.hold.is_some() {
            self.undraft()
        } else {
            None
        };
        let (Some(holder), Some(terms)) = (self.holder.take(), self.terms.take()) else {
            return self.fail(Failure::EngineError);
        };
        self.charge = Charge {
            remaining: debit.remaining,
            low: debit.low,
            shared: debit.shared_at.is_some(),
            slab: debit.slab,
        };
        self.hold = Some(Arc::new(Reservation {
            id: match (debit.slab, drafted) {
                (Some(slab), _) => slab.next_hold(ids),
                (None, Some(id)) => id,
                (None, None) => ids.next(),
            },
            lease_id: debit.lease_id,
            mode: Mode::Client,
            holder,
            terms,
            quantity_reserved: self.usage,
            credits_reserved: self.cost,
            // Shared holds lapse by the clock of the shared store.
            expires_at: debit.shared_at.unwrap_or(now).saturating_add(ttl),
            exported: Exported::default(),
        }));
        Step::Record
    }

    /// Takes a draft apart, for the debit to make a hold of it.
    #[cold]
    fn undraft(&mut self) -> Option<ReservationId> {
        let draft = self.hold.take()?;
        self.holder = Some(draft.holder.clone());
        self.terms = Some(Arc::clone(&draft.terms));
        Some(draft.id.clone())
    }

    /// Goes on with a hold that is recorded.
    fn gate(&self) -> Step {
        Step::Gate {
            balance: self.charge.remaining + self.cost,
        }
    }

    /// Cancels a hold that may or may not have been recorded.
    fn doubt(&mut self) -> Step {
        self.failure = Some(Failure::StoreError);
        Step::Cancel
    }

    fn judge(&mut self, value: Option<bool>) -> Step {
        match value {
            Some(true) => Step::Done(Outcome {
                allowed: true,
                basis: Basis::Gate,
                low: self.charge.low,
            }),
            Some(false) => Step::Cancel,
            None => {
                self.failure = Some(Failure::EngineError);
                Step::Cancel
            }
        }
    }

    fn denied(&mut self) -> Step {
        let outcome = match self.failure {
            Some(failure @ Failure::EngineError) => Outcome::of_failure(self.mode, failure),
            Some(failure) => return self.fail(failure),
            None => Outcome {
                allowed: false,
                basis: Basis::Gate,
                low: false,
            },
        };
        self.hold = None;
        Step::Done(outcome)
    }

    fn fail(&mut self, failure: Failure) -> Step {
        self.failure = Some(failure);
        // The hold ends here, but its holder and terms are still needed.
        if let Some(hold) = self.hold.take() {
            self.holder = Some(hold.holder.clone());
            self.terms = Some(Arc::clone(&hold.terms));
        }
        match self.mode {
            FailureMode::Closed => Step::Done(Outcome::of_failure(self.mode, failure)),
            FailureMode::Open => Step::Open,
        }
    }

    fn opened(&self, value: Option<bool>) -> Step {
        let failure = self.failure.unwrap_or(Failure::EngineError);
        Step::Done(value.map_or_else(
            || Outcome::of_failure(self.mode, failure),
            |allowed| Outcome {
                allowed,
                basis: Basis::Open(failure),
                low: false,
            },
        ))
    }
}
