//! What an engine is asked in a lease-backed check, and what it answers.
//!
//! The rules engine answers unless a test puts another one in its place, to script its answers.

use std::sync::Arc;

use crate::{
    decider::flag_check::Inputs,
    engine::{Entitlement, KeptReason, Preflight, Verdict},
};

/// The engine's judgement of a check, independent of the entities it was made from.
#[derive(Clone, Debug)]
pub struct Judgement {
    /// The flag's value.
    pub value: bool,
    /// The engine failed.
    pub failed: bool,
    /// Why, and the rule that matched.
    pub reason: KeptReason,
    /// What the company is entitled to for the feature.
    pub entitlement: Option<Arc<Entitlement>>,
}

impl Judgement {
    pub(super) fn of(verdict: &Verdict<'_>) -> Self {
        Self {
            value: verdict.value,
            failed: verdict.error.is_some(),
            reason: verdict.kept_reason(),
            entitlement: verdict.entitlement.cloned(),
        }
    }

    /// The value, unless the engine failed.
    pub(super) fn value(&self) -> Option<bool> {
        (!self.failed).then_some(self.value)
    }
}

/// What a lease-backed check asks an [`Engine`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EngineRequest<'a> {
    /// The flag.
    pub flag_key: &'a str,
    /// The company's id.
    pub company_id: Option<&'a str>,
    /// A credit's balance in place of the real one.
    pub balance: Option<(&'a str, f64)>,
    /// Credits that the check costs, by credit.
    pub credit_cost: &'a [(&'a str, f64)],
    /// An event and how often it is about to happen.
    pub event_usage: Option<(&'a str, i64)>,
}

/// Answers lease-backed checks in place of the rules engine.
///
/// Tests use it to script the answers that the flow around the engine receives.
pub trait Engine: Send + Sync {
    /// Answers one request.
    fn judge(&self, request: EngineRequest<'_>) -> Judgement;
}

impl Inputs {
    pub fn request<'a>(&'a self, preflight: &Preflight<'a>) -> EngineRequest<'a> {
        EngineRequest {
            flag_key: self.flag.key(),
            company_id: self.company.as_ref().map(|company| &**company.id()),
            balance: preflight.balance,
            credit_cost: preflight.credit_cost,
            event_usage: preflight.event_usage,
        }
    }
}
