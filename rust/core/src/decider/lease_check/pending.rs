//! A lease-backed check that waits: what it waits for, and how a reply is read.
//!
//! It owns copies of the caller's request and decides nothing: the flow does that, once the reply has come.

use std::sync::Arc;

use super::started::Started;
use crate::{
    Millis,
    decider::{CheckAnswer, CheckRequest},
    leases::{Debit, FailureMode, Keys, Knobs, Refusal, Reservation, SlotKey, StepResult},
};

/// What a check waits for.
#[derive(Clone, Debug, PartialEq)]
pub enum Need {
    /// The company or the user, or both, from the service.
    Resolve {
        /// The company is missing.
        company: bool,
        /// The user is missing.
        user: bool,
    },
    /// A live lease in the slot.
    Acquire,
    /// More credits in the slot's lease.
    Extend,
    /// A plain check that cannot be answered from memory.
    Plain,
    /// A debit in the shared store, of the slot's lease by the credits required, at once with the
    /// recording of the hold if the store can do that.
    Reserve {
        /// The hold, without its lease and its end.
        draft: Arc<Reservation>,
        /// How long after the debit the hold lapses.
        ttl: Millis,
    },
    /// The recording of a hold in the shared store.
    Record(Arc<Reservation>),
    /// A hold's claim in the shared store, with nothing of it consumed.
    Cancel(Arc<Reservation>),
    /// A refund in the shared store of a debit that has no hold, pinned to its lease.
    Refund(Arc<Reservation>),
}

/// How a [`Need`] was met.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// Done (`true`), or failed or refused.
    Done(bool),
    /// To [`Need::Reserve`]: what the lease holds after the debit.
    Debited {
        /// What may still be reserved, in credits.
        remaining: f64,
        /// The lease's grant, in credits.
        granted: f64,
        /// The lease that was charged.
        lease_id: Arc<str>,
        /// When it was debited, by the store's clock.
        at: Millis,
        /// Whether the hold was recorded at once.
        recorded: bool,
    },
    /// To [`Need::Reserve`].
    Refused(Refusal),
    /// To [`Need::Cancel`]: there is no such hold.
    Gone,
    /// To a request to the shared store: its outcome is unknown.
    Lost,
}

/// How far a check got.
#[derive(Debug)]
pub enum Progress {
    /// To its end.
    Done(CheckAnswer),
    /// To something that must be waited for.
    Pending(Box<Pending>),
}

/// A check that waits.
#[derive(Debug)]
pub struct Pending {
    pub(super) need: Need,
    pub(super) flag_key: Box<str>,
    pub(super) company: Option<Keys>,
    pub(super) user: Option<Keys>,
    pub(super) usage: f64,
    pub(super) event_subtype: Option<Box<str>>,
    pub(super) mode: FailureMode,
    pub(super) ttl: Option<Millis>,
    pub(super) started: Option<Started>,
}

impl Pending {
    pub(super) fn new(
        request: &CheckRequest<'_>,
        need: Need,
        started: Option<Started>,
    ) -> Box<Self> {
        Box::new(Self {
            need,
            flag_key: request.flag_key.into(),
            company: request.company.map(Keys::new),
            user: request.user.map(Keys::new),
            usage: request.usage,
            event_subtype: request.event_subtype.map(Into::into),
            mode: request.mode,
            ttl: request.ttl,
            started,
        })
    }

    /// What it waits for.
    #[must_use]
    pub const fn need(&self) -> &Need {
        &self.need
    }

    /// Whether a reply answers what it waits for.
    #[must_use]
    pub const fn takes(&self, reply: &Reply) -> bool {
        match reply {
            Reply::Done(true) => !matches!(self.need, Need::Reserve { .. }),
            Reply::Done(false) => true,
            Reply::Debited { .. } | Reply::Refused(_) => {
                matches!(self.need, Need::Reserve { .. })
            }
            Reply::Gone => matches!(self.need, Need::Cancel(_)),
            Reply::Lost => matches!(
                self.need,
                Need::Reserve { .. } | Need::Record(_) | Need::Cancel(_) | Need::Refund(_)
            ),
        }
    }

    /// The step result that a reply stands for.
    pub(super) fn answer(&self, reply: Reply, knobs: &Knobs) -> Option<StepResult> {
        Some(match (&self.need, reply) {
            (Need::Acquire, Reply::Done(ok)) => StepResult::Acquired(ok),
            (Need::Extend, Reply::Done(_)) => StepResult::Extended,
            (Need::Reserve { .. }, Reply::Refused(refusal)) => StepResult::Refused(refusal),
            (
                Need::Reserve { .. },
                Reply::Debited {
                    remaining,
                    granted,
                    lease_id,
                    at,
                    recorded,
                },
            ) => {
                let credit = self.slot()?.credit_type_id;
                let debit = Debit {
                    remaining,
                    lease_id,
                    low: remaining <= knobs.of(credit).low_at(granted),
                    shared_at: Some(at),
                    slab: None,
                };
                if recorded {
                    StepResult::Held(debit)
                } else {
                    StepResult::Debited(debit)
                }
            }
            (Need::Record(_), Reply::Done(true)) => StepResult::Recorded,
            (Need::Cancel(_) | Need::Refund(_), Reply::Done(true)) => StepResult::Cancelled,
            (Need::Cancel(_), Reply::Gone) => StepResult::Gone,
            (_, Reply::Lost) => StepResult::StoreLost,
            _ => StepResult::StoreFailed,
        })
    }

    /// The slot that the check charges, for [`Need::Acquire`] and [`Need::Extend`].
    #[must_use]
    pub fn slot(&self) -> Option<SlotKey<'_>> {
        self.started.as_ref()?.flow.slot()
    }

    /// Credits that the check holds if it is allowed.
    #[must_use]
    pub fn required_credits(&self) -> f64 {
        let started = self.started.as_ref();
        started.map_or(0.0, |started| started.flow.cost())
    }
}
