//! The answer of a plain check: of the engine in memory, of the service, or a default. It must never be
//! made again for each of its fields that is read.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use pyo3::{
    IntoPyObjectExt,
    prelude::*,
    types::{PyDict, PyTuple},
};
#[cfg(feature = "testing")]
use schematic_core::decider::Judgement;
use schematic_core::{
    decider::FlagAnswer,
    engine::{FlagName, KeptReason, RuleName, RuleType},
    events::FlagCheck,
    leases::{Keys, Party},
    text::Text,
};

use super::{
    FeatureEntitlement,
    field::Field,
    record::{Fields, Record, plain_record, record},
};

plain_record! {
    /// The answer of a flag check.
    #[pyclass(frozen, module = "schematic_native")]
    CheckFlagResult {
        required {
            flag: Text,
            value: bool,
            reason: Text,
        }
        optional {
            flag_id: Option<Text>,
            rule_id: Option<Text>,
            rule_type: Option<Text>,
            company_id: Option<Text>,
            user_id: Option<Text>,
            entitlement: Option<FeatureEntitlement>,
            error: Option<Text>,
            feature_allocation: Option<i64>,
            feature_usage: Option<i64>,
            feature_usage_event: Option<Text>,
            feature_usage_period: Option<Text>,
            feature_usage_reset_at: Option<DateTime<Utc>>,
        }
    }
}

impl CheckFlagResult {
    /// The answer as an engine's: one with an error has failed.
    #[cfg(feature = "testing")]
    pub fn judgement(&self) -> Judgement {
        Judgement {
            value: self.value,
            failed: self.error.is_some(),
            reason: KeptReason::Text(self.reason.clone()),
            entitlement: self.entitlement.clone(),
        }
    }

    /// The event that tells the service of this answer, which was asked about a company and a user.
    pub fn event(&self, company: Option<Keys>, user: Option<Keys>) -> FlagCheck {
        FlagCheck {
            flag: self.flag_name(),
            value: self.value,
            reason: self.kept_reason(),
            company: party(self.company_id.as_ref(), company),
            user: party(self.user_id.as_ref(), user),
            error: self.error.clone(),
            preflight: false,
        }
    }

    fn flag_name(&self) -> Arc<FlagName> {
        Arc::new(FlagName {
            id: self.flag_id.as_ref().map(arc),
            key: arc(&self.flag),
        })
    }

    /// The reason with the rule that matched. What kind of rule that was no event tells.
    fn kept_reason(&self) -> KeptReason {
        match &self.rule_id {
            Some(id) => KeptReason::Rule(Arc::new(RuleName {
                id: arc(id),
                kind: RuleType::Unknown,
                reason: arc(&self.reason),
            })),
            None => KeptReason::Text(self.reason.clone()),
        }
    }
}

impl From<FlagAnswer> for CheckFlagResult {
    fn from(answer: FlagAnswer) -> Self {
        let usage = answer.usage.as_ref();
        let rule = answer.reason.rule();
        Self {
            flag: shared(&answer.flag.key),
            flag_id: answer.flag.id.as_ref().map(shared),
            value: answer.value,
            rule_id: rule.map(|rule| shared(&rule.id)),
            rule_type: rule.map(|rule| Text::Static(rule.kind.as_str())),
            reason: match answer.reason {
                KeptReason::Rule(rule) => shared(&rule.reason),
                KeptReason::Text(text) => text,
            },
            company_id: answer.company_id.map(Text::Shared),
            user_id: answer.user_id.map(Text::Shared),
            error: answer.error,
            entitlement: answer.entitlement,
            feature_allocation: usage.map(|usage| usage.allocation),
            feature_usage: usage.map(|usage| usage.usage),
            feature_usage_event: usage.and_then(|usage| usage.event.as_ref().map(shared)),
            feature_usage_period: usage
                .and_then(|usage| usage.period)
                .map(|period| Text::Static(period.as_str())),
            feature_usage_reset_at: usage.and_then(|usage| usage.reset_at),
        }
    }
}

fn shared(text: &Arc<str>) -> Text {
    Text::Shared(Arc::clone(text))
}

fn arc(text: &Text) -> Arc<str> {
    match text {
        Text::Shared(text) => Arc::clone(text),
        text => (**text).into(),
    }
}

/// Whom an answer is about; `None` where nobody was asked for and nobody found.
fn party(id: Option<&Text>, keys: Option<Keys>) -> Option<Arc<Party>> {
    (id.is_some() || keys.is_some()).then(|| {
        Arc::new(Party {
            id: id.map(|id| (**id).into()),
            keys,
        })
    })
}
