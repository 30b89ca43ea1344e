//! The steps of a check's flow that memory can take: debit, record, evaluate, cancel, refund.
//!
//! The flow says which step is next. What memory cannot do is handed back as a [`Need`].

use std::sync::Arc;

use super::{pending::Need, started::Started};
use crate::{
    Now,
    decider::{Decider, Topic, flag_check::Inputs},
    leases::{CheckFlow, Outcome, Place, Refusal, Reservation, SlabId, SlotKey, Step, StepResult},
};

/// Where a flow stopped.
pub(super) enum Stop {
    Decided(Outcome),
    Waits(Need),
    Plain,
}

impl Decider {
    /// Answers every step that memory can answer.
    pub(super) fn run(&self, started: &mut Started, now: Now) -> Stop {
        let Started {
            inputs,
            flow,
            judgement,
            ..
        } = started;
        // The slot stays locked from its debit to the recording of the hold.
        let mut place = None;
        loop {
            let answer = match (flow.step(), flow.hold()) {
                (Step::Probe, _) => StepResult::Probed(self.probe(inputs)),
                (Step::Reserve, _) => match self.reserve(flow, now) {
                    Some((answer, debited)) => {
                        place = debited;
                        answer
                    }
                    None => match self.draft(flow) {
                        Some(need) => return Stop::Waits(need),
                        None => StepResult::StoreFailed,
                    },
                },
                (Step::Record, Some(hold)) if flow.is_shared() => {
                    return Stop::Waits(Need::Record(Arc::clone(hold)));
                }
                (Step::Cancel, Some(hold)) if flow.is_shared() => {
                    return Stop::Waits(Need::Cancel(Arc::clone(hold)));
                }
                (Step::Refund, Some(hold)) if flow.is_shared() => {
                    return Stop::Waits(Need::Refund(Arc::clone(hold)));
                }
                (Step::Record, Some(hold)) => {
                    let recorded = match place.take() {
                        Some(place) => place.add(hold, flow.slab(), now),
                        None => self.ledger.add(hold, flow.slab(), now),
                    };
                    if recorded {
                        StepResult::Recorded
                    } else {
                        StepResult::StoreFailed
                    }
                }
                (Step::Gate { balance }, _) => {
                    let gate = self.gate(inputs, flow, balance, now.wall);
                    StepResult::Evaluated(judgement.insert(gate).value())
                }
                (Step::Open, _) => {
                    let open = self.open(inputs, flow, now.wall);
                    StepResult::Evaluated(judgement.insert(open).value())
                }
                (Step::Cancel, Some(hold)) => match self.ledger.consume(hold, 0.0) {
                    Some(_) => StepResult::Cancelled,
                    None => StepResult::Gone,
                },
                (Step::Refund, Some(hold)) => {
                    self.undo(hold, flow.slab());
                    StepResult::Cancelled
                }
                (Step::Acquire, _) if self.is_spent(inputs, flow, now) => {
                    StepResult::Acquired(false)
                }
                (Step::Extend, _) if self.is_spent(inputs, flow, now) => {
                    // As an extend that was refused: what is left was just found to be too little.
                    self.answer(flow, StepResult::Extended, now);
                    StepResult::Refused(Refusal::Short)
                }
                (Step::Acquire, _) => return Stop::Waits(Need::Acquire),
                (Step::Extend, _) => return Stop::Waits(Need::Extend),
                (Step::Plain, _) => return Stop::Plain,
                (Step::Done(outcome), _) => return Stop::Decided(outcome),
                // Nothing to record, cancel or refund is a fault of the store like any other.
                (Step::Record | Step::Cancel | Step::Refund, _) => StepResult::StoreFailed,
            };
            self.answer(flow, answer, now);
        }
    }

    /// Debits the ledger; `None` if that is for the shared store to do.
    fn reserve(&self, flow: &CheckFlow, now: Now) -> Option<(StepResult, Option<Place<'_>>)> {
        let Some(slot) = flow.slot() else {
            return Some((StepResult::StoreFailed, None));
        };
        let mut place = self.ledger.place(slot);
        match place.try_reserve(flow.cost(), now) {
            Ok(debit) => Some((StepResult::Debited(debit), Some(place))),
            Err(refusal) => {
                drop(place);
                if self.shared {
                    self.want_slab(slot, now);
                    return None;
                }
                Some((StepResult::Refused(refusal), None))
            }
        }
    }

    /// Whether the service has just said that the company has too few credits for this check.
    fn is_spent(&self, inputs: &Inputs, flow: &CheckFlow, now: Now) -> bool {
        flow.slot().is_some_and(|slot| {
            let company = inputs.company.as_ref();
            let balance = company.and_then(|company| company.balance(slot.credit_type_id));
            self.ledger.is_spent(slot, flow.cost(), balance, now.wall)
        })
    }

    /// What the shared store is to hold.
    fn draft(&self, flow: &mut CheckFlow) -> Option<Need> {
        let draft = flow.draft(&self.ids)?;
        let usual = self
            .ledger
            .knobs()
            .of(&draft.terms.credit_id)
            .reservation_ttl;
        let ttl = flow.ttl().unwrap_or(usual);
        Some(Need::Reserve { draft, ttl })
    }

    /// Has a slab taken in the background, for the checks to come.
    fn want_slab(&self, slot: SlotKey<'_>, now: Now) {
        if self.ledger.knobs().slabs().is_some() && self.ledger.note_low(slot, now) {
            (self.wake)(Topic::Extend);
        }
    }

    fn undo(&self, hold: &Reservation, slab: Option<SlabId>) {
        let credits = hold.credits_reserved;
        self.ledger.undo(hold.slot(), credits, &hold.lease_id, slab);
    }

    pub(super) fn answer(&self, flow: &mut CheckFlow, answer: StepResult, now: Now) {
        // Only a debit makes a hold, which needs a time to live.
        let ttl = match (&answer, flow.terms()) {
            (StepResult::Debited(debit) | StepResult::Held(debit), Some(terms)) => {
                let usual = self.ledger.knobs().of(&terms.credit_id).reservation_ttl;
                match flow.ttl() {
                    // A slab is kept for holds that live as long as usual, and no longer.
                    Some(ttl) if debit.slab.is_some() => ttl.min(usual),
                    Some(ttl) => ttl,
                    None => usual,
                }
            }
            _ => 0,
        };
        flow.advance(answer, now.wall, ttl, &self.ids);
    }
}
