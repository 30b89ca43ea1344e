//! A lease-backed check whose flow has begun.
//!
//! It lasts until the check is decided, across every wait, and changes nothing outside itself.

use std::sync::Arc;

use crate::{
    Millis,
    decider::{
        CheckRequest, Judgement,
        flag_check::{Inputs, Subject},
    },
    leases::{CheckFlow, Holder},
};

/// The state of a check's flow, kept while the check waits.
#[derive(Debug)]
pub struct Started {
    pub inputs: Inputs,
    pub subject: Subject,
    pub flow: CheckFlow,
    /// How long the hold shall live, if the caller says so.
    pub ttl: Option<Millis>,
    /// The engine's last judgement: a denial stands while the cancellation of the hold is awaited.
    pub judgement: Option<Judgement>,
}

impl Started {
    /// Begins the flow of a check; a check without a company has none.
    #[inline]
    pub fn begin(
        request: &CheckRequest<'_>,
        inputs: Inputs,
        subject: Subject,
    ) -> Result<Self, (Inputs, Subject)> {
        let (Some(_), Some(company)) = (&inputs.company, &subject.company) else {
            return Err((inputs, subject));
        };
        let holder = Holder {
            company: Arc::clone(company),
            user: subject.user.clone(),
        };
        let event = request.event_subtype.map(Arc::from);
        Ok(Self {
            flow: CheckFlow::begin(request.usage, event, request.mode, holder),
            ttl: request.ttl,
            inputs,
            subject,
            judgement: None,
        })
    }
}
