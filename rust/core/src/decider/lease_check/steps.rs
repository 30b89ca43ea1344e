//! The steps of a check's flow that memory can take: debit, record, evaluate, cancel, refund.
//!
//! The flow says which step is next. What memory cannot do is handed back as a [`Need`].

use std::sync::Arc;

use super::{pending::Need, started::Started};
use crate::{
    Millis, Now,
    decider::{Decider, Judgement, Topic, flag_check::Inputs},
    leases::{CheckFlow, Debit, Outcome, Refusal, Reservation, SlabId, SlotKey, Step, StepResult},
};

/// Where a flow stopped.
pub(super) enum Stop {
    Decided(Outcome),
    Waits(Need),
    Plain,
}

impl Decider {
    /// Takes every step that memory can take.
    pub(super) fn run(&self, started: &mut Started, now: Now) -> Stop {
        loop {
            let Started { inputs, flow, .. } = &mut *started;
            match (flow.step(), flow.hold()) {
                (Step::Probe, _) => {
                    let terms = self.probe(inputs);
                    self.answer(started, StepResult::Probed(terms), now);
                }
                (Step::Reserve, _) => {
                    if let Some(need) = self.reserve(started, now) {
                        return Stop::Waits(need);
                    }
                }
                (Step::Gate { balance }, _) => {
                    let gate = self.gate(inputs, flow, balance, now.wall);
                    self.judged(started, gate, now);
                }
                (Step::Open, _) => {
                    let open = self.open(inputs, flow, now.wall);
                    self.judged(started, open, now);
                }
                (Step::Acquire | Step::Extend, _) if !self.is_spent(inputs, flow, now) => {
                    let is_extend = flow.step() == Step::Extend;
                    return Stop::Waits(if is_extend {
                        Need::Extend
                    } else {
                        Need::Acquire
                    });
                }
                (Step::Acquire, _) => self.answer(started, StepResult::Acquired(false), now),
                (Step::Extend, _) => {
                    // As after a refused extend: the lease was just found to hold too little.
                    self.answer(started, StepResult::Extended, now);
                    self.answer(started, StepResult::Refused(Refusal::Short), now);
                }
                (Step::Plain, _) => return Stop::Plain,
                (Step::Done(outcome), _) => return Stop::Decided(outcome),
                (Step::Record | Step::Cancel | Step::Refund, Some(hold)) if flow.is_shared() => {
                    return Stop::Waits(ask_store(flow.step(), Arc::clone(hold)));
                }
                (step, hold) => {
                    let done = self.end_in_memory(step, hold, flow.slab(), now);
                    self.answer(started, done, now);
                }
            }
        }
    }

    /// Debits the ledger and records the hold; returns what to ask of the shared store if that is for it to do.
    #[inline]
    fn reserve(&self, started: &mut Started, now: Now) -> Option<Need> {
        let Some(slot) = started.flow.slot() else {
            self.answer(started, StepResult::StoreFailed, now);
            return None;
        };
        let mut place = self.ledger.place(slot);
        match place.try_reserve(started.flow.cost(), now) {
            Ok(debit) => {
                self.answer(started, StepResult::Debited(debit), now);
                // The slot stays locked from its debit to the recording of the hold.
                if let (Step::Record, Some(hold)) = (started.flow.step(), started.flow.hold()) {
                    let recorded = place.add(hold, started.flow.slab(), now);
                    self.answer(started, recording(recorded), now);
                }
                None
            }
            Err(_) if self.shared => {
                drop(place);
                self.want_slab(slot, now);
                let need = self.draft(started);
                if need.is_none() {
                    self.answer(started, StepResult::StoreFailed, now);
                }
                need
            }
            Err(refusal) => {
                drop(place);
                self.answer(started, StepResult::Refused(refusal), now);
                None
            }
        }
    }

    /// Records, cancels or refunds in the ledger of this process.
    #[cold]
    fn end_in_memory(
        &self,
        step: Step,
        hold: Option<&Arc<Reservation>>,
        slab: Option<SlabId>,
        now: Now,
    ) -> StepResult {
        match (step, hold) {
            (Step::Record, Some(hold)) => recording(self.ledger.add(hold, slab, now)),
            (Step::Cancel, Some(hold)) => match self.ledger.consume(hold, 0.0) {
                Some(_) => StepResult::Cancelled,
                None => StepResult::Gone,
            },
            (Step::Refund, Some(hold)) => {
                let credits = hold.credits_reserved;
                self.ledger.undo(hold.slot(), credits, &hold.lease_id, slab);
                StepResult::Cancelled
            }
            // A step without a hold to act on counts as a failure of the store.
            _ => StepResult::StoreFailed,
        }
    }

    /// Keeps what the engine said for the answer of the check.
    #[inline]
    fn judged(&self, started: &mut Started, judgement: Judgement, now: Now) {
        let value = started.judgement.insert(judgement).value();
        self.answer(started, StepResult::Evaluated(value), now);
    }

    /// Whether the service has just said that the company has too few credits for this check.
    fn is_spent(&self, inputs: &Inputs, flow: &CheckFlow, now: Now) -> bool {
        flow.slot().is_some_and(|slot| {
            let company = inputs.company.as_ref();
            let balance = company.and_then(|company| company.balance(slot.credit_type_id));
            self.ledger.is_spent(slot, flow.cost(), balance, now.wall)
        })
    }

    /// The hold to ask the shared store for.
    fn draft(&self, started: &mut Started) -> Option<Need> {
        let draft = started.flow.draft(&self.ids)?;
        let usual = self
            .ledger
            .knobs()
            .of(&draft.terms.credit_id)
            .reservation_ttl;
        let ttl = started.ttl.unwrap_or(usual);
        Some(Need::Reserve { draft, ttl })
    }

    /// Asks for a slab to be taken in the background, for later checks.
    fn want_slab(&self, slot: SlotKey<'_>, now: Now) {
        if self.ledger.knobs().slabs().is_some() && self.ledger.note_low(slot, now) {
            (self.wake)(Topic::Extend);
        }
    }

    /// Passes the result of a step to the flow.
    #[inline(always)]
    #[allow(clippy::inline_always, reason = "as the flow's own match is")]
    pub(super) fn answer(&self, started: &mut Started, result: StepResult, now: Now) {
        // Only a debit makes a hold, which needs a time to live.
        let ttl = match &result {
            StepResult::Debited(debit) | StepResult::Held(debit) => self.ttl(started, debit),
            _ => 0,
        };
        started.flow.advance(result, now.wall, ttl, &self.ids);
    }

    /// How long the hold of a debit lives.
    fn ttl(&self, started: &Started, debit: &Debit) -> Millis {
        let credit = started.flow.terms().map_or("", |terms| &terms.credit_id);
        let usual = self.ledger.knobs().of(credit).reservation_ttl;
        match started.ttl {
            // A slab is kept for holds that live as long as usual, and no longer.
            Some(ttl) if debit.slab.is_some() => ttl.min(usual),
            Some(ttl) => ttl,
            None => usual,
        }
    }
}

const fn recording(done: bool) -> StepResult {
    if done {
        StepResult::Recorded
    } else {
        StepResult::StoreFailed
    }
}

/// What to ask of the shared store, which has made the debit.
fn ask_store(step: Step, hold: Arc<Reservation>) -> Need {
    match step {
        Step::Record => Need::Record(hold),
        Step::Refund => Need::Refund(hold),
        _ => Need::Cancel(hold),
    }
}
