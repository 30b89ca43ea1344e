//! The three evaluations of a lease-backed check: the probe, the gate, and the one that fails open.
//!
//! Each reads the inputs of the check and changes nothing.

use std::sync::Arc;

use crate::{
    Millis,
    decider::{Decider, Judgement, flag_check::Inputs},
    engine::{Preflight, Terms},
    leases::{CheckFlow, MAX_SAFE_INTEGER, whole_units},
};

impl Decider {
    /// How the feature is metered: the entitlement of an evaluation without a preflight, which
    /// does not depend on the rules, so they are not gone through.
    pub(super) fn probe(&self, inputs: &Inputs) -> Option<Arc<Terms>> {
        match &self.engine {
            None => inputs.company.as_ref()?.terms_of(&inputs.flag).cloned(),
            Some(engine) => {
                let probe = engine.judge(inputs.request(&Preflight::default()));
                Terms::of(probe.entitlement.as_deref().filter(|_| !probe.failed)?)
            }
        }
    }

    pub(super) fn gate(
        &self,
        inputs: &Inputs,
        flow: &CheckFlow,
        balance: f64,
        now: Millis,
    ) -> Judgement {
        let credit = flow.terms().map_or("", |terms| &terms.credit_id);
        let preflight = Preflight {
            credit_cost: &[(credit, flow.cost())],
            balance: Some((credit, balance)),
            ..Preflight::default()
        };
        self.judge(inputs, &preflight, now)
    }

    /// The evaluation that decides a fail-open check: unlimited credits, the caller's usage.
    pub(super) fn open(&self, inputs: &Inputs, flow: &CheckFlow, now: Millis) -> Judgement {
        let credit = flow.terms().map_or("", |terms| &terms.credit_id);
        let units = whole_units(flow.usage());
        let preflight = Preflight {
            event_usage: flow.terms().map(|terms| (&*terms.event_subtype, units)),
            balance: Some((credit, MAX_SAFE_INTEGER)),
            ..Preflight::default()
        };
        self.judge(inputs, &preflight, now)
    }

    fn judge(&self, inputs: &Inputs, preflight: &Preflight<'_>, now: Millis) -> Judgement {
        match &self.engine {
            None => Judgement::of(&inputs.evaluate(preflight, Some(now))),
            Some(engine) => engine.judge(inputs.request(preflight)),
        }
    }
}
