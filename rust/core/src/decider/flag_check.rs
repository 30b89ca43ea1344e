//! Plain checks: a flag's value for a company and a user, answered from memory.
//!
//! Nothing is held or spent here. What memory lacks is named, for the caller to fetch.

use std::sync::Arc;

use crate::{
    Millis,
    cache::{Entity, Lookup, Table},
    decider::{Decider, FlagAnswer, FlagRequest, Topic},
    engine::{Company, Flag, KeptReason, Preflight, User, Verdict, evaluate},
    events::FlagCheck,
    leases::Party,
    text::Text,
};

/// Why a check cannot be answered from memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// The flag is not cached.
    Flag,
    /// The company is not cached.
    Company,
    /// The user is not cached.
    User,
    /// Neither is.
    Both,
    /// The keys of the company, or of the user, belong to different entities.
    Conflict,
}

/// What a check is evaluated from.
#[derive(Clone, Debug)]
pub(super) struct Inputs {
    pub flag: Arc<Flag>,
    pub company: Option<Arc<Company>>,
    pub user: Option<Arc<User>>,
}

/// Whom a check is about.
#[derive(Clone, Debug)]
pub(super) struct Subject {
    pub company: Option<Arc<Party>>,
    pub user: Option<Arc<Party>>,
    /// Whether the record of the check is to be queued.
    pub record: bool,
}

impl Subject {
    /// The record of a check with this value. The subject moves into it.
    pub fn record(self, flag: &Flag, value: bool, reason: KeptReason) -> FlagCheck {
        FlagCheck {
            flag: Arc::clone(flag.name()),
            value,
            reason,
            company: self.company,
            user: self.user,
            error: None,
            preflight: false,
        }
    }
}

/// An entity and the keys asked with; `None` for both where the request names none.
type Sought<E> = (Option<Arc<E>>, Option<Arc<Party>>);

impl Decider {
    /// Answers a plain check from memory.
    ///
    /// # Errors
    /// What is missing for an answer.
    pub fn check_flag(
        &self,
        request: &FlagRequest<'_>,
        preflight: &Preflight<'_>,
        now: Millis,
    ) -> Result<FlagAnswer, Missing> {
        let (inputs, subject) = self.inputs(request)?;
        let verdict = inputs.evaluate(preflight, Some(now));
        if request.record {
            self.record(subject, &inputs.flag, &verdict, is_preflighted(preflight));
        }
        Ok(inputs.answer(&verdict))
    }

    /// Answers a plain check without a preflight from memory, with no more than the value. The clock is read only where
    /// the value may depend on it.
    ///
    /// # Errors
    /// What is missing for an answer.
    pub fn flag_value(
        &self,
        request: &FlagRequest<'_>,
        clock: impl FnOnce() -> Millis,
    ) -> Result<bool, Missing> {
        let (inputs, subject) = self.inputs(request)?;
        let now = inputs.has_windows().then(clock);
        let verdict = inputs.evaluate(&Preflight::default(), now);
        if request.record {
            self.record(subject, &inputs.flag, &verdict, false);
        }
        Ok(verdict.value)
    }

    pub(super) fn inputs(&self, request: &FlagRequest<'_>) -> Result<(Inputs, Subject), Missing> {
        let flag = self
            .cache
            .flags()
            .get(request.flag_key)
            .ok_or(Missing::Flag)?;
        let partial = request.partial;
        let company = seek(self.cache.companies(), request.company, partial)?;
        let user = seek(self.cache.users(), request.user, partial)?;
        let ((company, asked_company), (user, asked_user)) = match (company, user) {
            (Some(company), Some(user)) => (company, user),
            (None, Some(_)) => return Err(Missing::Company),
            (Some(_), None) => return Err(Missing::User),
            (None, None) => return Err(Missing::Both),
        };
        let inputs = Inputs {
            flag,
            company,
            user,
        };
        let subject = Subject {
            company: asked_company,
            user: asked_user,
            record: request.record,
        };
        Ok((inputs, subject))
    }

    /// Queues the record of a plain check.
    fn record(&self, subject: Subject, flag: &Flag, verdict: &Verdict<'_>, preflight: bool) {
        self.record_event(|| FlagCheck {
            error: verdict.error.map(|error| Text::from(error.to_string())),
            preflight,
            ..subject.record(flag, verdict.value, verdict.kept_reason())
        });
    }

    /// Queues the record of a check, wherever it was answered.
    pub fn record_event(&self, check: impl FnOnce() -> FlagCheck) {
        if self.events.record(check) {
            (self.wake)(Topic::Events);
        }
    }
}

/// `None`: the entity is asked for and not there.
fn seek<E: Entity>(
    table: &Table<E>,
    keys: Option<&[(&str, &str)]>,
    partial: bool,
) -> Result<Option<Sought<E>>, Missing> {
    let Some(keys) = keys.filter(|keys| !keys.is_empty()) else {
        return Ok(Some((None, None)));
    };
    match table.find(keys) {
        Lookup::Found(entity, party) => Ok(Some((Some(entity), Some(party)))),
        Lookup::Missing if partial => Ok(Some((None, Some(Party::unknown(keys))))),
        Lookup::Missing => Ok(None),
        Lookup::Conflict => Err(Missing::Conflict),
    }
}

const fn is_preflighted(preflight: &Preflight<'_>) -> bool {
    preflight.usage.is_some()
        || preflight.event_usage.is_some()
        || preflight.event_quantities.is_some()
        || !preflight.credit_cost.is_empty()
}

impl Inputs {
    pub fn evaluate(&self, preflight: &Preflight<'_>, now: Option<Millis>) -> Verdict<'_> {
        evaluate(
            &self.flag,
            self.company.as_deref(),
            self.user.as_deref(),
            preflight,
            now,
        )
    }

    /// Whether a window of a spend policy may end: nothing else makes a value depend on the time.
    fn has_windows(&self) -> bool {
        let (company, user) = (self.company.as_deref(), self.user.as_deref());
        company.is_some_and(Company::limits_spend) || user.is_some_and(User::limits_spend)
    }

    fn answer(&self, verdict: &Verdict<'_>) -> FlagAnswer {
        let (company, user) = (self.company.as_deref(), self.user.as_deref());
        FlagAnswer::of(&self.flag, company, user, verdict)
    }
}
