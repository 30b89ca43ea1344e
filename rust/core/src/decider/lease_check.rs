use std::sync::{Arc, atomic::Ordering::Relaxed};

use crate::{
    Millis, Now,
    decider::{
        CheckAnswer, Decider, FlagRequest, Judgement, Missing, Topic,
        flag_check::{Inputs, Subject},
    },
    engine::{FlagName, KeptReason, Preflight, Terms},
    events::FlagCheck,
    leases::{
        Basis, CheckFlow, Debit, Failure, FailureMode, Holder, Keys, Knobs, MAX_SAFE_INTEGER,
        Outcome, Party, Place, Refusal, Reservation, SlabId, SlotKey, Step, StepResult,
        valid_quantity, whole_units,
    },
    text::Text,
};

/// What a lease-backed check asks.
#[derive(Clone, Copy, Debug)]
pub struct CheckRequest<'a> {
    /// The flag's key.
    pub flag_key: &'a str,
    /// Company keys.
    pub company: Option<&'a [(&'a str, &'a str)]>,
    /// User keys.
    pub user: Option<&'a [(&'a str, &'a str)]>,
    /// Events that the caller is about to use.
    pub usage: f64,
    /// The event that a settle shall bill; the entitlement's if unset.
    pub event_subtype: Option<&'a str>,
    /// What to do when credits cannot be held.
    pub mode: FailureMode,
    /// How long the hold may live; as the credit type's knobs say if unset.
    pub ttl: Option<Millis>,
}

impl<'a> CheckRequest<'a> {
    /// The entities that it asks for.
    const fn plain(&self) -> FlagRequest<'a> {
        FlagRequest {
            flag_key: self.flag_key,
            company: self.company,
            user: self.user,
            partial: false,
            record: true,
        }
    }
}

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

/// What became of a [`Need`].
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// It came or was done (`true`), or it did not come or was refused.
    Done(bool),
    /// To [`Need::Reserve`]: what the lease holds after the debit.
    Debited {
        /// What may still be reserved, in credits.
        remaining: f64,
        /// The lease's grant, in credits.
        granted: f64,
        /// The lease that was charged.
        lease_id: Arc<str>,
        /// When, by the store's clock.
        at: Millis,
        /// Whether the hold was recorded at once.
        recorded: bool,
    },
    /// To [`Need::Reserve`].
    Refused(Refusal),
    /// To [`Need::Cancel`]: there is no such hold.
    Gone,
    /// To what is asked of the shared store: nobody knows what became of it.
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
    need: Need,
    flag_key: Box<str>,
    company: Option<Keys>,
    user: Option<Keys>,
    usage: f64,
    event_subtype: Option<Box<str>>,
    mode: FailureMode,
    ttl: Option<Millis>,
    started: Option<Started>,
}

/// How far the flow of a check that waits has come.
#[derive(Debug)]
struct Started {
    inputs: Inputs,
    subject: Subject,
    flow: CheckFlow,
    /// What the engine last said: a denial stands, though the hold's cancellation is waited for.
    judgement: Option<Judgement>,
}

impl Started {
    /// Begins the flow of a check; a check without a company has none.
    fn begin(
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
            inputs,
            subject,
            flow: CheckFlow::begin(request.usage, event, request.mode, holder)
                .living_for(request.ttl),
            judgement: None,
        })
    }
}

impl Pending {
    fn new(request: &CheckRequest<'_>, need: Need, started: Option<Started>) -> Box<Self> {
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

    /// Whether a reply is one to what it waits for.
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

    /// The flow's answer that a reply to a lease or to the shared store comes to.
    fn answer(&self, reply: Reply, knobs: &Knobs) -> Option<StepResult> {
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

/// Where a flow stopped.
enum Stop {
    Decided(Outcome),
    Waits(Need),
    Plain,
}

impl Decider {
    /// Begins a lease-backed check and takes it as far as memory allows.
    pub fn check(&self, request: &CheckRequest<'_>, now: impl Into<Now>) -> Progress {
        self.checks.fetch_add(1, Relaxed);
        self.begin(request, false, now.into())
    }

    /// Decides a check for which credits cannot be asked for any more, as one whose lease could not be acquired: by
    /// its failure mode, under which targeting and overrides still decide.
    ///
    /// `record` queues the record of the check. `None` if memory lacks what an evaluation needs.
    pub fn check_unheld(
        &self,
        request: &CheckRequest<'_>,
        record: bool,
        now: impl Into<Now>,
    ) -> Option<CheckAnswer> {
        let now = now.into();
        let plain = FlagRequest {
            record,
            ..request.plain()
        };
        let (inputs, subject) = self.inputs(&plain).ok()?;
        let mut started = match Started::begin(request, inputs, subject) {
            Ok(started) => started,
            Err((inputs, subject)) => return Some(self.plain(request, &inputs, subject, now.wall)),
        };
        let probed = StepResult::Probed(self.probe(&started.inputs));
        self.answer(&mut started.flow, probed, now);
        for answer in [
            StepResult::Refused(Refusal::NoLease),
            StepResult::Acquired(false),
        ] {
            if matches!(started.flow.step(), Step::Reserve | Step::Acquire) {
                self.answer(&mut started.flow, answer, now);
            }
        }
        match self.run(&mut started, now) {
            Stop::Decided(outcome) => Some(self.finish(started, outcome, now)),
            Stop::Plain => Some(self.plain(request, &started.inputs, started.subject, now.wall)),
            Stop::Waits(_) => None,
        }
    }

    /// Goes on with a check after what it waited for came, or did not.
    ///
    /// A reply that is none to what the check waits for counts as a failure of the store.
    pub fn resume(&self, pending: Box<Pending>, reply: Reply, now: impl Into<Now>) -> Progress {
        let now = now.into();
        let came = reply == Reply::Done(true);
        let answer = pending.answer(reply, self.ledger.knobs());
        let Pending {
            need,
            flag_key,
            company,
            user,
            usage,
            event_subtype,
            mode,
            ttl,
            started,
        } = *pending;
        let company: Option<Vec<_>> = company.as_ref().map(|keys| keys.iter().collect());
        let user: Option<Vec<_>> = user.as_ref().map(|keys| keys.iter().collect());
        let request = CheckRequest {
            flag_key: &flag_key,
            company: company.as_deref(),
            user: user.as_deref(),
            usage,
            event_subtype: event_subtype.as_deref(),
            mode,
            ttl,
        };
        if matches!(need, Need::Resolve { .. }) {
            return self.begin(&request, !came, now);
        }
        match (started, answer) {
            (Some(mut started), Some(answer)) => {
                self.answer(&mut started.flow, answer, now);
                self.refresh(&request, &mut started);
                self.drive(&request, started, now)
            }
            _ => Progress::Pending(Pending::new(&request, Need::Plain, None)),
        }
    }

    /// Reads the inputs anew after a wait, unless the keys name another company now, or none.
    fn refresh(&self, request: &CheckRequest<'_>, started: &mut Started) {
        let id = |inputs: &Inputs| Some(Arc::clone(inputs.company.as_ref()?.id()));
        if let Ok((inputs, subject)) = self.inputs(&request.plain())
            && id(&inputs) == id(&started.inputs)
        {
            (started.inputs, started.subject) = (inputs, subject);
        }
    }

    fn begin(&self, request: &CheckRequest<'_>, given_up: bool, now: Now) -> Progress {
        if !valid_quantity(request.usage) {
            return Progress::Done(self.refuse(request));
        }
        let need = |company, user| {
            if given_up {
                Need::Plain
            } else {
                Need::Resolve { company, user }
            }
        };
        let (inputs, subject) = match self.inputs(&request.plain()) {
            Ok(found) => found,
            Err(missing) => {
                let need = match missing {
                    Missing::Flag | Missing::Conflict => Need::Plain,
                    Missing::Company => need(true, false),
                    Missing::User => need(false, true),
                    Missing::Both => need(true, true),
                };
                return Progress::Pending(Pending::new(request, need, None));
            }
        };
        match Started::begin(request, inputs, subject) {
            Ok(started) => self.drive(request, started, now),
            Err((inputs, subject)) => {
                Progress::Done(self.plain(request, &inputs, subject, now.wall))
            }
        }
    }

    fn drive(&self, request: &CheckRequest<'_>, mut started: Started, now: Now) -> Progress {
        match self.run(&mut started, now) {
            Stop::Decided(outcome) => Progress::Done(self.finish(started, outcome, now)),
            Stop::Plain => {
                Progress::Done(self.plain(request, &started.inputs, started.subject, now.wall))
            }
            Stop::Waits(need) => Progress::Pending(Pending::new(request, need, Some(started))),
        }
    }

    /// Answers every step that memory can answer.
    fn run(&self, started: &mut Started, now: Now) -> Stop {
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

    /// How the feature is metered: the entitlement of an evaluation without a preflight, which
    /// does not depend on the rules, so they are not gone through.
    fn probe(&self, inputs: &Inputs) -> Option<Arc<Terms>> {
        match &self.engine {
            None => inputs.company.as_ref()?.terms_of(&inputs.flag).cloned(),
            Some(engine) => {
                let probe = engine.judge(inputs.request(&Preflight::default()));
                Terms::of(probe.entitlement.as_deref().filter(|_| !probe.failed)?)
            }
        }
    }

    fn gate(&self, inputs: &Inputs, flow: &CheckFlow, balance: f64, now: Millis) -> Judgement {
        let credit = flow.terms().map_or("", |terms| &terms.credit_id);
        let preflight = Preflight {
            credit_cost: &[(credit, flow.cost())],
            balance: Some((credit, balance)),
            ..Preflight::default()
        };
        self.judge(inputs, &preflight, now)
    }

    /// The evaluation that decides a fail-open check: unlimited credits, the caller's usage.
    fn open(&self, inputs: &Inputs, flow: &CheckFlow, now: Millis) -> Judgement {
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

    fn answer(&self, flow: &mut CheckFlow, answer: StepResult, now: Now) {
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

    /// Turns a decided flow into the caller's answer and records it.
    fn finish(&self, started: Started, outcome: Outcome, now: Now) -> CheckAnswer {
        let Started {
            inputs,
            subject,
            flow,
            judgement,
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
            // What was not evaluated was decided by no rule and grants no entitlement.
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
    fn plain(
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

    /// A usage that is not a quantity reaches no store and no engine.
    fn refuse(&self, request: &CheckRequest<'_>) -> CheckAnswer {
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
