//! A flow, and everything that it asked for.

use schematic_core::{
    Millis,
    engine::Terms,
    leases::{
        Basis, CheckFlow, Debit, Failure, FailureMode, Holder, Ids, Keys, Outcome, Reservation,
        SlotKey, Step, StepResult,
    },
};
use std::sync::Arc;

pub const NOW: Millis = 1_750_000_000_000;
pub const TTL: Millis = 45_000;
pub const SEED: [u64; 2] = [3, 5];
pub const SLOT: SlotKey<'_> = SlotKey {
    company_id: "comp_heron",
    credit_type_id: "cred_render",
};

/// A flow, and everything that it asked for.
pub struct Trace {
    pub flow: CheckFlow,
    pub ids: Ids,
    pub steps: Vec<Step>,
    /// The hold that was to be recorded.
    pub hold: Option<Arc<Reservation>>,
    /// Whether each hold is drafted before its debit is asked for.
    pub drafts: bool,
}

pub fn holder() -> Holder {
    let keys = |name, value| Some(Keys::new(&[(name, value)]));
    let (company, user) = (keys("slug", "heron"), keys("email", "a@heron.example"));
    Holder::new(SLOT.company_id, company, user)
}

pub fn begin(mode: FailureMode) -> Trace {
    let flow = CheckFlow::begin(7.5, None, mode, holder());
    Trace {
        steps: vec![flow.step()],
        ids: Ids::new(SEED),
        hold: None,
        drafts: false,
        flow,
    }
}

impl Trace {
    pub fn tell(&mut self, answer: StepResult) -> &mut Self {
        self.flow.advance(answer, NOW, TTL, &self.ids);
        self.steps.push(self.flow.step());
        if matches!(self.flow.step(), Step::Record | Step::Gate { .. }) {
            self.hold = self.flow.hold().cloned();
        }
        if self.drafts && self.flow.step() == Step::Reserve {
            assert!(self.flow.draft(&self.ids).is_some());
        }
        self
    }

    pub fn after(mode: FailureMode, answers: &[StepResult]) -> Self {
        Self::begun(begin(mode), answers)
    }

    pub fn drafting(mode: FailureMode, answers: &[StepResult]) -> Self {
        let drafts = Trace {
            drafts: true,
            ..begin(mode)
        };
        Self::begun(drafts, answers)
    }

    pub fn begun(mut trace: Self, answers: &[StepResult]) -> Self {
        for answer in answers {
            trace.tell(answer.clone());
        }
        trace
    }

    pub fn outcome(&self) -> Outcome {
        match self.flow.step() {
            Step::Done(outcome) => outcome,
            step => panic!("the flow waits for {step:?}"),
        }
    }

    pub fn count(&self, is_it: impl Fn(&Step) -> bool) -> usize {
        self.steps.iter().filter(|step| is_it(step)).count()
    }

    pub fn hold(&self) -> Arc<Reservation> {
        self.hold.clone().expect("a hold was to be recorded")
    }
}

/// Eight whole events at a rate of four: a cost of 32.
pub fn metered() -> StepResult {
    terms(4.0)
}

pub fn terms(rate: f64) -> StepResult {
    StepResult::Probed(Some(Arc::new(Terms {
        credit_id: SLOT.credit_type_id.into(),
        event_subtype: "frames_rendered".into(),
        rate,
    })))
}

pub fn debit() -> Debit {
    Debit {
        remaining: 58.0,
        lease_id: "lease_amber".into(),
        low: true,
        shared_at: None,
        slab: None,
    }
}

pub fn debited() -> StepResult {
    StepResult::Debited(debit())
}

pub fn held() -> StepResult {
    StepResult::Held(debit())
}

pub fn denial(failure: Failure) -> Outcome {
    Outcome {
        allowed: false,
        basis: Basis::Static(failure),
        low: false,
    }
}

pub fn blind_allowance(failure: Failure) -> Outcome {
    Outcome {
        allowed: true,
        ..denial(failure)
    }
}
