use std::sync::{Arc, atomic::Ordering::Relaxed};

use crate::{
    Millis,
    client::{CheckAnswer, Client, FlagRequest, Missing, Topic, answer::text_of, plain::Scene},
    engine::{Preflight, ValueType, Verdict},
    events::FlagCheck,
    leases::{
        Answer, Basis, CheckFlow, Failure, FailureMode, Holder, Keys, MAX_SAFE_INTEGER, Outcome,
        SlotKey, Step, Terms, valid_quantity, whole_units,
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    started: Option<(Scene, CheckFlow)>,
}

impl Pending {
    fn new(
        request: &CheckRequest<'_>,
        need: Need,
        started: Option<(Scene, CheckFlow)>,
    ) -> Box<Self> {
        Box::new(Self {
            need,
            flag_key: request.flag_key.into(),
            company: request.company.map(Keys::new),
            user: request.user.map(Keys::new),
            usage: request.usage,
            event_subtype: request.event_subtype.map(Into::into),
            mode: request.mode,
            started,
        })
    }

    /// What it waits for.
    #[must_use]
    pub const fn need(&self) -> Need {
        self.need
    }

    /// The slot's company and credit type, for [`Need::Acquire`] and [`Need::Extend`].
    #[must_use]
    pub fn slot(&self) -> Option<(&Arc<str>, &Arc<str>)> {
        let (_, flow) = self.started.as_ref()?;
        Some((&flow.holder().company_id, &flow.terms()?.credit_id))
    }

    /// Credits that the check holds if it is allowed.
    #[must_use]
    pub fn required_credits(&self) -> f64 {
        self.started.as_ref().map_or(0.0, |(_, flow)| flow.cost())
    }
}

/// Where a flow stopped.
enum Stop<'s> {
    Decided(Outcome, Option<Verdict<'s>>),
    Waits(Need),
    Plain,
}

impl Client {
    /// Begins a lease-backed check and takes it as far as memory allows.
    pub fn check(&self, request: &CheckRequest<'_>, now: Millis) -> Progress {
        self.checks.fetch_add(1, Relaxed);
        self.begin(request, false, now)
    }

    /// Goes on with a check after what it waited for came, or did not.
    pub fn resume(&self, pending: Box<Pending>, ok: bool, now: Millis) -> Progress {
        let Pending {
            need,
            flag_key,
            company,
            user,
            usage,
            event_subtype,
            mode,
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
        };
        let answer = match need {
            Need::Acquire => Answer::Acquired(ok),
            Need::Extend => Answer::Extended,
            Need::Resolve { .. } => return self.begin(&request, !ok, now),
            Need::Plain => return Progress::Pending(Pending::new(&request, need, started)),
        };
        match started {
            Some((scene, mut flow)) => {
                self.answer(&mut flow, answer, now);
                let scene = self.refresh(&request, scene);
                self.drive(&request, scene, flow, now)
            }
            None => Progress::Pending(Pending::new(&request, Need::Plain, None)),
        }
    }

    /// The scene as it is after a wait; as it was, should the keys name another company now or none.
    fn refresh(&self, request: &CheckRequest<'_>, before: Scene) -> Scene {
        let id = |scene: &Scene| Some(Arc::clone(scene.company.as_ref()?.id()));
        let after = self.scene(&request.plain());
        after
            .ok()
            .filter(|after| id(after) == id(&before))
            .unwrap_or(before)
    }

    fn begin(&self, request: &CheckRequest<'_>, given_up: bool, now: Millis) -> Progress {
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
        let scene = match self.scene(&request.plain()) {
            Ok(scene) => scene,
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
        let Some(company) = &scene.company else {
            return Progress::Done(self.plain(request, &scene, now));
        };
        let holder = Holder {
            company_id: Arc::clone(company.id()),
            company: scene.company_keys.clone(),
            user: scene.user_keys.clone(),
        };
        let event = request.event_subtype.map(Arc::from);
        let flow = CheckFlow::begin(request.usage, event, request.mode, holder);
        self.drive(request, scene, flow, now)
    }

    fn drive(
        &self,
        request: &CheckRequest<'_>,
        scene: Scene,
        mut flow: CheckFlow,
        now: Millis,
    ) -> Progress {
        match self.run(&scene, &mut flow, now) {
            Stop::Decided(outcome, verdict) => {
                Progress::Done(self.finish(&scene, &flow, outcome, verdict, now))
            }
            Stop::Plain => Progress::Done(self.plain(request, &scene, now)),
            Stop::Waits(need) => {
                Progress::Pending(Pending::new(request, need, Some((scene, flow))))
            }
        }
    }

    /// Answers every step that memory can answer.
    fn run<'s>(&self, scene: &'s Scene, flow: &mut CheckFlow, now: Millis) -> Stop<'s> {
        let mut verdict = None;
        loop {
            let answer = match flow.step() {
                Step::Probe => {
                    let probe = scene.evaluate(&Preflight::default(), now);
                    Answer::Probed(terms_of(&probe))
                }
                Step::Reserve => match slot_of(flow) {
                    Some(slot) => match self.ledger.try_reserve(slot, flow.cost(), now) {
                        Ok(debit) => Answer::Debited(debit),
                        Err(refusal) => Answer::Refused(refusal),
                    },
                    None => Answer::StoreFailed,
                },
                Step::Record(hold) if self.ledger.add(hold) => Answer::Recorded,
                Step::Record(_) => Answer::StoreFailed,
                Step::Gate { balance } => {
                    let gate = gate(scene, flow, *balance, now);
                    let value = gate.error.is_none().then_some(gate.value);
                    verdict = Some(gate);
                    Answer::Evaluated(value)
                }
                Step::Open => {
                    let open = open(scene, flow, now);
                    let value = open.error.is_none().then_some(open.value);
                    verdict = Some(open);
                    Answer::Evaluated(value)
                }
                Step::Cancel(hold) => {
                    self.ledger.consume(hold, 0.0);
                    Answer::Cancelled
                }
                Step::Undo(hold) => {
                    // The hold was not recorded, so there is nothing to claim: the debit itself
                    // goes back to the lease that was charged.
                    if let Some(slot) = slot_of(flow) {
                        self.ledger
                            .refund(slot, hold.credits_reserved, Some(&hold.lease_id));
                    }
                    Answer::Cancelled
                }
                Step::Acquire => return Stop::Waits(Need::Acquire),
                Step::Extend => return Stop::Waits(Need::Extend),
                Step::Plain => return Stop::Plain,
                Step::Done(outcome) => return Stop::Decided(outcome.clone(), verdict),
            };
            self.answer(flow, answer, now);
        }
    }

    fn answer(&self, flow: &mut CheckFlow, answer: Answer, now: Millis) {
        let credit = flow.terms().map_or("", |terms| &terms.credit_id);
        let ttl = self.ledger.knobs().of(credit).reservation_ttl;
        flow.advance(answer, now, ttl, &self.ids);
    }

    /// Turns a decided flow into the caller's answer and records it.
    fn finish(
        &self,
        scene: &Scene,
        flow: &CheckFlow,
        outcome: Outcome,
        verdict: Option<Verdict<'_>>,
        now: Millis,
    ) -> CheckAnswer {
        let reason = match (outcome.basis, &verdict) {
            (Basis::Gate, Some(verdict)) => text_of(verdict.reason),
            (Basis::Open(failure), Some(verdict)) => {
                Text::from(format!("{} ({})", verdict.reason, failure.as_fail_open()))
            }
            _ => static_reason(&outcome),
        };
        // What was not evaluated was decided by no rule and grants no entitlement.
        let (rule, entitlement) =
            verdict.map_or((None, None), |verdict| (verdict.rule, verdict.entitlement));
        let failure = outcome.failure();
        self.record_event(|| FlagCheck {
            error: failure.map(|failure| Text::Static(failure.as_str())),
            ..scene.record(rule, outcome.allowed, reason.clone())
        });
        if outcome.low
            && let Some(slot) = slot_of(flow)
            && self.ledger.note_low(slot, now)
        {
            (self.wake)(Topic::Extend);
        }
        CheckAnswer {
            allowed: outcome.allowed,
            value: outcome.allowed,
            reason,
            flag_key: Text::Shared(Arc::clone(scene.flag.key())),
            entitlement: entitlement.cloned(),
            flag: Some(Arc::clone(&scene.flag)),
            reservation: outcome.reservation,
            error: failure,
        }
    }

    /// A check of a feature that is not metered by credits: the usage is still a preflight.
    fn plain(&self, request: &CheckRequest<'_>, scene: &Scene, now: Millis) -> CheckAnswer {
        let units = whole_units(request.usage);
        let preflight = Preflight {
            usage: request.event_subtype.is_none().then_some(units),
            event_usage: request.event_subtype.map(|event| (event, units)),
            ..Preflight::default()
        };
        let verdict = scene.evaluate(&preflight, now);
        let reason = text_of(verdict.reason);
        self.record_event(|| FlagCheck {
            preflight: true,
            ..scene.record(verdict.rule, verdict.value, reason.clone())
        });
        CheckAnswer {
            allowed: verdict.value,
            value: verdict.value,
            reason,
            flag_key: Text::Shared(Arc::clone(scene.flag.key())),
            entitlement: verdict.entitlement.cloned(),
            flag: Some(Arc::clone(&scene.flag)),
            reservation: None,
            error: None,
        }
    }

    /// A usage that is not a quantity reaches no store and no engine.
    fn refuse(&self, request: &CheckRequest<'_>) -> CheckAnswer {
        let failure = Failure::InvalidUsage;
        let allowed = request.mode == FailureMode::Open;
        let reason = Text::Static(if allowed {
            failure.as_fail_open()
        } else {
            failure.as_str()
        });
        let keys = |keys: Option<&[(&str, &str)]>| keys.map(|keys| Arc::new(Keys::new(keys)));
        self.record_event(|| FlagCheck {
            flag_key: Text::from(request.flag_key.to_owned()),
            value: allowed,
            reason: reason.clone(),
            flag_id: None,
            rule_id: None,
            company_id: None,
            user_id: None,
            req_company: keys(request.company),
            req_user: keys(request.user),
            error: Some(Text::Static(failure.as_str())),
            preflight: false,
        });
        CheckAnswer {
            allowed,
            value: allowed,
            reason,
            flag_key: Text::from(request.flag_key.to_owned()),
            flag: None,
            reservation: None,
            entitlement: None,
            error: Some(failure),
        }
    }
}

/// The reason of a check that no evaluation decided.
fn static_reason(outcome: &Outcome) -> Text {
    Text::Static(match outcome.failure() {
        Some(failure) if outcome.allowed => failure.as_fail_open(),
        Some(failure) => failure.as_str(),
        None => Failure::EngineError.as_str(),
    })
}

/// How the feature is metered, if a credit entitlement says so.
fn terms_of(probe: &Verdict<'_>) -> Option<Terms> {
    let entitlement = probe.entitlement.filter(|_| probe.error.is_none())?;
    if entitlement.value_type != ValueType::Credit {
        return None;
    }
    Some(Terms {
        credit_id: Arc::clone(entitlement.credit_id.as_ref()?),
        rate: entitlement.consumption_rate?,
        event_subtype: entitlement.event_subtype.clone(),
    })
}

fn slot_of(flow: &CheckFlow) -> Option<SlotKey<'_>> {
    Some(SlotKey {
        company_id: &flow.holder().company_id,
        credit_type_id: &flow.terms()?.credit_id,
    })
}

fn gate<'s>(scene: &'s Scene, flow: &CheckFlow, balance: f64, now: Millis) -> Verdict<'s> {
    let credit = flow.terms().map_or("", |terms| &terms.credit_id);
    let preflight = Preflight {
        credit_cost: &[(credit, flow.cost())],
        balance: Some((credit, balance)),
        ..Preflight::default()
    };
    scene.evaluate(&preflight, now)
}

fn open<'s>(scene: &'s Scene, flow: &CheckFlow, now: Millis) -> Verdict<'s> {
    let credit = flow.terms().map_or("", |terms| &terms.credit_id);
    let units = whole_units(flow.usage());
    let event = flow.event_subtype();
    let preflight = Preflight {
        event_usage: event.map(|event| (&**event, units)),
        balance: Some((credit, MAX_SAFE_INTEGER)),
        ..Preflight::default()
    };
    scene.evaluate(&preflight, now)
}
