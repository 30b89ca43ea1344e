//! The answer of a check that is decided, and its record.
//!
//! Every check that ends here is counted and recorded once.

use std::sync::Arc;

use super::started::Started;
use crate::{
    Millis, Now,
    decider::{
        CheckAnswer, CheckRequest, Decider, Topic,
        flag_check::{Inputs, Subject},
    },
    engine::{FlagName, KeptReason, Preflight},
    events::FlagCheck,
    leases::{Basis, Failure, FailureMode, Outcome, Party, whole_units},
    text::Text,
};

impl Decider {
    /// Turns a decided flow into the caller's answer and records it.
    pub(super) fn finish(&self, started: Started, outcome: Outcome, now: Now) -> CheckAnswer {
        let Started {
            inputs,
            subject,
            flow,
            judgement,
            ..
        } = started;
        let (reason, entitlement) = match (outcome.basis, judgement) {
            (Basis::Gate, Some(judgement)) => (judgement.reason, judgement.entitlement),
            (Basis::Open(failure), Some(judgement)) => {
                let reason = format!("{} ({})", &*judgement.reason, failure.as_fail_open());
                let reason = match judgement.reason.rule() {
                    Some(rule) => KeptReason::of_rule(rule, &reason),
                    None => KeptReason::Text(Text::from(reason)),
                };
                (reason, judgement.entitlement)
            }
            // Without an evaluation there is no rule and no entitlement to report.
            _ => (static_reason(outcome), None),
        };
        let failure = outcome.failure();
        self.count_denied(outcome.allowed, failure);
        if subject.record {
            self.record_event(|| FlagCheck {
                error: failure.map(|failure| Text::Static(failure.as_str())),
                ..subject.record(&inputs.flag, outcome.allowed, reason.clone())
            });
        }
        if outcome.low
            && let Some(slot) = flow.slot()
            && self.ledger.note_low(slot, now)
        {
            (self.wake)(Topic::Extend);
        }
        CheckAnswer {
            allowed: outcome.allowed,
            value: outcome.allowed,
            reason,
            flag: Arc::clone(inputs.flag.name()),
            reservation: flow.into_hold(),
            entitlement,
            error: failure,
        }
    }

    /// A check of a feature that is not metered by credits: the usage is still a preflight.
    pub(super) fn plain(
        &self,
        request: &CheckRequest<'_>,
        inputs: &Inputs,
        subject: Subject,
        now: Millis,
    ) -> CheckAnswer {
        let units = whole_units(request.usage);
        let preflight = Preflight {
            usage: request.event_subtype.is_none().then_some(units),
            event_usage: request.event_subtype.map(|event| (event, units)),
            ..Preflight::default()
        };
        let verdict = inputs.evaluate(&preflight, Some(now));
        let reason = verdict.kept_reason();
        self.count_denied(verdict.value, None);
        if subject.record {
            self.record_event(|| FlagCheck {
                preflight: true,
                ..subject.record(&inputs.flag, verdict.value, reason.clone())
            });
        }
        CheckAnswer {
            allowed: verdict.value,
            value: verdict.value,
            reason,
            flag: Arc::clone(inputs.flag.name()),
            reservation: None,
            entitlement: verdict.entitlement.cloned(),
            error: None,
        }
    }

    /// Answers a check whose usage is not a quantity, without asking a store or the engine.
    pub(super) fn refuse(&self, request: &CheckRequest<'_>) -> CheckAnswer {
        let failure = Failure::InvalidUsage;
        let allowed = request.mode == FailureMode::Open;
        self.count_denied(allowed, Some(failure));
        let reason = KeptReason::Text(Text::Static(if allowed {
            failure.as_fail_open()
        } else {
            failure.as_str()
        }));
        let flag = Arc::new(FlagName {
            id: None,
            key: request.flag_key.into(),
        });
        self.record_event(|| FlagCheck {
            flag: Arc::clone(&flag),
            value: allowed,
            reason: reason.clone(),
            company: request.company.map(Party::unknown),
            user: request.user.map(Party::unknown),
            error: Some(Text::Static(failure.as_str())),
            preflight: false,
        });
        CheckAnswer {
            allowed,
            value: allowed,
            reason,
            flag,
            reservation: None,
            entitlement: None,
            error: Some(failure),
        }
    }
}

/// The reason of a check that no evaluation decided.
fn static_reason(outcome: Outcome) -> KeptReason {
    KeptReason::Text(Text::Static(match outcome.failure() {
        Some(failure) if outcome.allowed => failure.as_fail_open(),
        Some(failure) => failure.as_str(),
        None => Failure::EngineError.as_str(),
    }))
}
