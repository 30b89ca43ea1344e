//! Checks that hold credits: begun here, and resumed after each wait.
//!
//! A check runs on in memory until it is decided or needs something from outside. It never waits itself, and it never
//! evaluates one company with the credits of another.

mod conclusion;
mod evaluation;
mod pending;
mod started;
mod steps;

use std::sync::{Arc, atomic::Ordering::Relaxed};

pub use pending::{Need, Pending, Progress, Reply};

use crate::{
    Now,
    decider::{CheckAnswer, CheckRequest, Decider, FlagRequest, Missing, flag_check::Inputs},
    leases::{Refusal, Step, StepResult, valid_quantity},
};
use started::Started;
use steps::Stop;

impl Decider {
    /// Begins a lease-backed check and takes it as far as memory allows.
    pub fn check(&self, request: &CheckRequest<'_>, now: impl Into<Now>) -> Progress {
        self.checks.fetch_add(1, Relaxed);
        self.begin(request, false, now.into())
    }

    /// Decides a check that can acquire no more credits, for instance during shutdown, as if its lease could not be
    /// acquired: by its failure mode. Under fail-open, targeting and overrides still decide.
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
        self.answer(&mut started, probed, now);
        for answer in [
            StepResult::Refused(Refusal::NoLease),
            StepResult::Acquired(false),
        ] {
            if matches!(started.flow.step(), Step::Reserve | Step::Acquire) {
                self.answer(&mut started, answer, now);
            }
        }
        match self.run(&mut started, now) {
            Stop::Decided(outcome) => Some(self.finish(started, outcome, now)),
            Stop::Plain => Some(self.plain(request, &started.inputs, started.subject, now.wall)),
            Stop::Waits(_) => None,
        }
    }

    /// Resumes a check with the reply to what it waited for.
    ///
    /// A reply that does not answer what the check waits for counts as a failure of the store.
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
                self.answer(&mut started, answer, now);
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
}
