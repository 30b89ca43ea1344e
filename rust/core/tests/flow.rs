//! What a check and a settle do when a store, the service or the engine lets them down: the answers
//! that a vector cannot script.

#![allow(
    clippy::expect_used,
    reason = "a flow that is not where a test put it is to stop the test"
)]

use std::sync::Arc;

use schematic_core::{
    Millis,
    engine::Terms,
    leases::{
        Basis, CheckFlow, Debit, Exported, Failure, FailureMode, Holder, Ids, Keys, Knobs,
        LeaseKnobs, Ledger, Mode, NewLease, Outcome, Refusal, Reservation, Settlement, SlotKey,
        Step, StepResult, valid_quantity, whole_units,
    },
};

const NOW: Millis = 1_750_000_000_000;
const TTL: Millis = 45_000;
const SEED: [u64; 2] = [3, 5];
const GRANTED: f64 = 90.0;
const OTHERS: f64 = 40.0;
const SLOT: SlotKey<'_> = SlotKey {
    company_id: "comp_heron",
    credit_type_id: "cred_render",
};

/// A flow, and everything that it asked for.
struct Trace {
    flow: CheckFlow,
    ids: Ids,
    steps: Vec<Step>,
    /// The hold that was to be recorded.
    hold: Option<Arc<Reservation>>,
    /// Whether each hold is drafted before its debit is asked for.
    drafts: bool,
}

fn holder() -> Holder {
    let keys = |name, value| Some(Keys::new(&[(name, value)]));
    let (company, user) = (keys("slug", "heron"), keys("email", "a@heron.example"));
    Holder::new(SLOT.company_id, company, user)
}

fn begin(mode: FailureMode) -> Trace {
    let flow = CheckFlow::begin(7.5, None, mode, holder());
    Trace {
        steps: vec![flow.step()],
        ids: Ids::new(SEED),
        hold: None,
        drafts: false,
        flow,
    }
}

impl Trace {
    fn tell(&mut self, answer: StepResult) -> &mut Self {
        self.flow.advance(answer, NOW, TTL, &self.ids);
        self.steps.push(self.flow.step());
        if matches!(self.flow.step(), Step::Record | Step::Gate { .. }) {
            self.hold = self.flow.hold().cloned();
        }
        if self.drafts && self.flow.step() == Step::Reserve {
            assert!(self.flow.draft(&self.ids).is_some());
        }
        self
    }

    fn after(mode: FailureMode, answers: &[StepResult]) -> Self {
        Self::begun(begin(mode), answers)
    }

    fn drafting(mode: FailureMode, answers: &[StepResult]) -> Self {
        let drafts = Trace {
            drafts: true,
            ..begin(mode)
        };
        Self::begun(drafts, answers)
    }

    fn begun(mut trace: Self, answers: &[StepResult]) -> Self {
        for answer in answers {
            trace.tell(answer.clone());
        }
        trace
    }

    fn outcome(&self) -> Outcome {
        match self.flow.step() {
            Step::Done(outcome) => outcome,
            step => panic!("the flow waits for {step:?}"),
        }
    }

    fn count(&self, is_it: impl Fn(&Step) -> bool) -> usize {
        self.steps.iter().filter(|step| is_it(step)).count()
    }

    fn hold(&self) -> Arc<Reservation> {
        self.hold.clone().expect("a hold was to be recorded")
    }
}

/// Eight whole events at a rate of four: a cost of 32.
fn metered() -> StepResult {
    terms(4.0)
}

fn terms(rate: f64) -> StepResult {
    StepResult::Probed(Some(Arc::new(Terms {
        credit_id: SLOT.credit_type_id.into(),
        event_subtype: "frames_rendered".into(),
        rate,
    })))
}

fn debit() -> Debit {
    Debit {
        remaining: 58.0,
        lease_id: "lease_amber".into(),
        low: true,
        shared_at: None,
        slab: None,
    }
}

fn debited() -> StepResult {
    StepResult::Debited(debit())
}

fn held() -> StepResult {
    StepResult::Held(debit())
}

fn denial(failure: Failure) -> Outcome {
    Outcome {
        allowed: false,
        basis: Basis::Static(failure),
        low: false,
    }
}

fn blind_allowance(failure: Failure) -> Outcome {
    Outcome {
        allowed: true,
        ..denial(failure)
    }
}

// Stores that debit and record at once

#[test]
fn a_hold_that_is_debited_and_recorded_at_once_is_gated_like_any_other() {
    for value in [Some(true), Some(false), None] {
        let gated = StepResult::Evaluated(value);
        let at_once = Trace::drafting(FailureMode::Closed, &[metered(), held(), gated.clone()]);
        let apart = [metered(), debited(), StepResult::Recorded, gated];
        let apart = Trace::after(FailureMode::Closed, &apart);
        assert_eq!(at_once.flow.step(), apart.flow.step());
        assert_eq!(
            at_once.steps[2], apart.steps[3],
            "gated by the same balance"
        );
        let (hold, other) = (at_once.hold(), apart.hold());
        assert_eq!(hold, other);
    }
}

#[test]
fn a_draft_becomes_the_hold_of_its_debit() {
    let mut trace = Trace::drafting(FailureMode::Closed, &[metered()]);
    let draft = trace.flow.hold().cloned().expect("a draft");
    trace.tell(held());
    let expected = Reservation {
        lease_id: "lease_amber".into(),
        expires_at: NOW + TTL,
        ..Reservation::clone(&draft)
    };
    assert_eq!(*trace.hold(), expected);
    assert_eq!(trace.flow.slot(), Some(SLOT));
}

// Stores that fail

#[test]
fn a_store_that_fails_at_the_debit_denies_a_closed_check() {
    let answers = [metered(), StepResult::StoreFailed];
    let trace = Trace::after(FailureMode::Closed, &answers);
    assert_eq!(trace.outcome(), denial(Failure::StoreError));
    assert_eq!(Failure::StoreError.as_str(), "lease_store_error");
}

#[test]
fn a_store_that_fails_at_the_debit_lets_the_rules_decide_an_open_check() {
    for value in [true, false] {
        let answers = [
            metered(),
            StepResult::StoreFailed,
            StepResult::Evaluated(Some(value)),
        ];
        let trace = Trace::after(FailureMode::Open, &answers);
        assert_eq!(trace.steps[2], Step::Open);
        let expected = Outcome {
            allowed: value,
            basis: Basis::Open(Failure::StoreError),
            low: false,
        };
        assert_eq!(trace.outcome(), expected);
    }
    let answers = [
        metered(),
        StepResult::StoreFailed,
        StepResult::Evaluated(None),
    ];
    let trace = Trace::after(FailureMode::Open, &answers);
    assert_eq!(trace.outcome(), blind_allowance(Failure::StoreError));
    assert_eq!(
        Failure::StoreError.as_fail_open(),
        "lease_store_error_fail_open"
    );
}

#[test]
fn a_store_that_fails_after_an_extend_is_a_store_error_and_no_shortage() {
    let answers = [
        metered(),
        StepResult::Refused(Refusal::Short),
        StepResult::Extended,
        StepResult::StoreFailed,
    ];
    let trace = Trace::after(FailureMode::Closed, &answers);
    assert_eq!(trace.outcome(), denial(Failure::StoreError));
}

#[test]
fn a_debit_whose_hold_was_not_recorded_is_refunded_before_the_check_fails() {
    for undone in [
        StepResult::Cancelled,
        StepResult::StoreFailed,
        StepResult::StoreLost,
    ] {
        let answers = [metered(), debited(), StepResult::StoreFailed];
        let mut trace = Trace::after(FailureMode::Closed, &answers);
        assert_eq!(trace.flow.step(), Step::Refund);
        trace.tell(undone.clone());
        assert_eq!(trace.outcome(), denial(Failure::StoreError));

        let mut trace = Trace::after(FailureMode::Open, &answers);
        assert_eq!(trace.flow.step(), Step::Refund);
        trace.tell(undone);
        assert_eq!(trace.flow.step(), Step::Open);
        trace.tell(StepResult::Evaluated(Some(true)));
        assert_eq!(trace.outcome().basis, Basis::Open(Failure::StoreError));
        assert_eq!(trace.flow.hold(), None);
    }
}

#[test]
fn a_verdict_stands_when_its_cancel_fails() {
    for mode in [FailureMode::Closed, FailureMode::Open] {
        for cancelled in [StepResult::Cancelled, StepResult::StoreFailed] {
            let answers = [
                metered(),
                debited(),
                StepResult::Recorded,
                StepResult::Evaluated(Some(false)),
                cancelled,
            ];
            let trace = Trace::after(mode, &answers);
            assert_eq!(trace.steps[4], Step::Cancel);
            let expected = Outcome {
                allowed: false,
                basis: Basis::Gate,
                low: false,
            };
            assert_eq!(trace.outcome(), expected);
        }
    }
}

#[test]
fn a_gate_that_fails_is_resolved_by_the_mode_whether_or_not_its_cancel_succeeds() {
    for cancelled in [StepResult::Cancelled, StepResult::StoreFailed] {
        let answers = [
            metered(),
            debited(),
            StepResult::Recorded,
            StepResult::Evaluated(None),
            cancelled,
        ];
        let closed = Trace::after(FailureMode::Closed, &answers);
        assert_eq!(closed.steps[4], Step::Cancel);
        assert_eq!(closed.outcome(), denial(Failure::EngineError));
        let open = Trace::after(FailureMode::Open, &answers);
        assert_eq!(open.outcome(), blind_allowance(Failure::EngineError));
        assert_eq!(open.count(|step| *step == Step::Open), 0);
    }
}

/// Where a store breaks.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    RecordLost,
    RecordLandedUnheard,
    RecordLostAndRefund,
    RecordLandedUnheardAndCancel,
    RecordLandsLate,
    Cancel,
}

/// Runs a check that the gate denies against a ledger that breaks where it is told to.
fn run(fault: Fault, mode: FailureMode) -> (Trace, Ledger) {
    let ledger = Ledger::new(Knobs::new(LeaseKnobs::default()));
    let lease = NewLease {
        lease_id: "lease_amber",
        granted: GRANTED,
        expires_at: NOW + 10 * TTL,
    };
    ledger.install(SLOT, &lease, NOW);
    // Others hold credits too: a second refund would otherwise be hidden by the clamp at the grant.
    assert!(ledger.try_reserve(SLOT, OTHERS, NOW).is_ok());
    let mut trace = begin(mode);
    while !matches!(trace.flow.step(), Step::Done(_)) {
        let answer = answer(&ledger, &trace.flow, fault);
        trace.tell(answer);
        assert!(trace.steps.len() < 20, "a flow that does not end");
    }
    (trace, ledger)
}

fn answer(ledger: &Ledger, flow: &CheckFlow, fault: Fault) -> StepResult {
    let hold = || flow.hold().expect("credits are debited");
    match flow.step() {
        Step::Probe => metered(),
        Step::Reserve => match ledger.try_reserve(SLOT, flow.cost(), NOW) {
            Ok(debit) => StepResult::Debited(debit),
            Err(refusal) => StepResult::Refused(refusal),
        },
        Step::Record => match fault {
            Fault::RecordLost | Fault::RecordLostAndRefund => StepResult::StoreFailed,
            Fault::RecordLandedUnheard | Fault::RecordLandedUnheardAndCancel => {
                assert!(ledger.add(hold(), None, NOW));
                StepResult::StoreLost
            }
            Fault::RecordLandsLate => StepResult::StoreLost,
            Fault::Cancel => {
                assert!(ledger.add(hold(), None, NOW));
                StepResult::Recorded
            }
        },
        Step::Cancel | Step::Refund
            if matches!(
                fault,
                Fault::RecordLostAndRefund | Fault::RecordLandedUnheardAndCancel
            ) =>
        {
            StepResult::StoreFailed
        }
        Step::Cancel if fault != Fault::Cancel => match ledger.consume(hold(), 0.0) {
            Some(_) => StepResult::Cancelled,
            None => StepResult::Gone,
        },
        Step::Refund => {
            let hold = hold();
            ledger.refund(SLOT, hold.credits_reserved, Some(&hold.lease_id));
            StepResult::Cancelled
        }
        Step::Gate { .. } | Step::Open => StepResult::Evaluated(Some(false)),
        Step::Cancel => StepResult::StoreFailed,
        step => panic!("{step:?} is not asked with a live lease at hand"),
    }
}

fn remaining(ledger: &Ledger) -> f64 {
    ledger.lease(SLOT).expect("the lease is there").remaining
}

#[test]
fn a_failed_record_gives_the_debit_back_exactly_once_whether_or_not_the_record_landed() {
    for mode in [FailureMode::Closed, FailureMode::Open] {
        for fault in [Fault::RecordLost, Fault::RecordLandedUnheard] {
            let (trace, ledger) = run(fault, mode);
            assert_eq!(
                trace.count(|step| matches!(step, Step::Refund | Step::Cancel)),
                1,
                "{fault:?}"
            );
            assert_eq!(trace.outcome().failure(), Some(Failure::StoreError));
            assert!(!trace.outcome().allowed);
            assert_eq!(remaining(&ledger), GRANTED - OTHERS, "{fault:?}");
            assert_eq!(
                (ledger.open_holds(), ledger.reserved_credits(SLOT)),
                (0, 0.0)
            );
            assert_eq!(ledger.sweep(NOW + TTL), 0);
        }
    }
}

#[test]
fn a_record_that_may_land_later_is_not_refunded_besides() {
    for mode in [FailureMode::Closed, FailureMode::Open] {
        let (trace, ledger) = run(Fault::RecordLandsLate, mode);
        assert_eq!(trace.outcome().failure(), Some(Failure::StoreError));
        assert_eq!(trace.count(|step| matches!(step, Step::Refund)), 0);
        assert_eq!(remaining(&ledger), GRANTED - OTHERS - 32.0);
        // It lands after all: the sweep gives the debit back, and nobody gave it back before.
        assert!(ledger.add(&trace.hold(), None, NOW));
        assert_eq!(ledger.sweep(NOW + TTL), 1);
        assert_eq!(remaining(&ledger), GRANTED - OTHERS);
    }
}

#[test]
fn a_hold_that_can_neither_be_refunded_nor_cancelled_leaks_no_longer_than_its_time() {
    for fault in [Fault::RecordLandedUnheardAndCancel, Fault::Cancel] {
        let (trace, ledger) = run(fault, FailureMode::Closed);
        assert!(!trace.outcome().allowed);
        assert_eq!(remaining(&ledger), GRANTED - OTHERS - 32.0, "{fault:?}");
        assert_eq!(ledger.sweep(NOW + TTL - 1), 0);
        assert_eq!(ledger.sweep(NOW + TTL), 1);
        assert_eq!(remaining(&ledger), GRANTED - OTHERS);
    }
    let (_, ledger) = run(Fault::RecordLostAndRefund, FailureMode::Closed);
    assert_eq!(remaining(&ledger), GRANTED - OTHERS - 32.0);
    assert_eq!(ledger.open_holds(), 0);
}

// The machine as such

/// One answer of each kind.
fn answers() -> Vec<StepResult> {
    vec![
        metered(),
        StepResult::Probed(None),
        debited(),
        held(),
        StepResult::Refused(Refusal::NoLease),
        StepResult::Refused(Refusal::Short),
        StepResult::Refused(Refusal::Invalid),
        StepResult::StoreFailed,
        StepResult::Acquired(true),
        StepResult::Acquired(false),
        StepResult::Extended,
        StepResult::Recorded,
        StepResult::Evaluated(Some(true)),
        StepResult::Evaluated(Some(false)),
        StepResult::Evaluated(None),
        StepResult::Cancelled,
        StepResult::Gone,
        StepResult::StoreLost,
    ]
}

fn fits(step: Step, answer: &StepResult) -> bool {
    matches!(
        (step, answer),
        (Step::Probe, StepResult::Probed(_))
            | (
                Step::Reserve,
                StepResult::Debited(_)
                    | StepResult::Held(_)
                    | StepResult::Refused(_)
                    | StepResult::StoreFailed
                    | StepResult::StoreLost
            )
            | (Step::Acquire, StepResult::Acquired(_))
            | (Step::Extend, StepResult::Extended)
            | (
                Step::Record,
                StepResult::Recorded | StepResult::StoreFailed | StepResult::StoreLost
            )
            | (Step::Gate { .. } | Step::Open, StepResult::Evaluated(_))
            | (
                Step::Cancel,
                StepResult::Cancelled
                    | StepResult::Gone
                    | StepResult::StoreFailed
                    | StepResult::StoreLost
            )
            | (
                Step::Refund,
                StepResult::Cancelled | StepResult::StoreFailed | StepResult::StoreLost
            )
    )
}

/// Follows every fitting answer from here to every end, and shows each flow on the way.
fn explore(
    mode: FailureMode,
    path: &mut Vec<StepResult>,
    visit: &mut impl FnMut(&[StepResult], &Trace),
) {
    for begun in [Trace::after, Trace::drafting] {
        explore_as(begun, mode, path, visit);
    }
}

fn explore_as(
    begun: fn(FailureMode, &[StepResult]) -> Trace,
    mode: FailureMode,
    path: &mut Vec<StepResult>,
    visit: &mut impl FnMut(&[StepResult], &Trace),
) {
    let trace = begun(mode, path);
    visit(path, &trace);
    assert!(path.len() < 12, "a flow that does not end: {path:?}");
    for answer in answers() {
        if fits(trace.flow.step(), &answer) {
            path.push(answer);
            explore_as(begun, mode, path, visit);
            path.pop();
        }
    }
}

#[test]
fn no_path_asks_twice_for_a_lease_an_extend_or_a_hold() {
    for mode in [FailureMode::Closed, FailureMode::Open] {
        let mut ends = 0;
        explore(mode, &mut Vec::new(), &mut |path, trace| {
            for at_most_once in [
                |step: &Step| *step == Step::Probe,
                |step: &Step| *step == Step::Acquire,
                |step: &Step| *step == Step::Extend,
                |step: &Step| matches!(step, Step::Record),
                |step: &Step| matches!(step, Step::Gate { .. }),
                |step: &Step| matches!(step, Step::Cancel | Step::Refund),
                |step: &Step| *step == Step::Open,
            ] {
                assert!(trace.count(at_most_once) <= 1, "{path:?}");
            }
            assert!(trace.count(|step| *step == Step::Reserve) <= 3, "{path:?}");
            ends += usize::from(matches!(trace.flow.step(), Step::Done(_) | Step::Plain));
        });
        assert!(ends > 50, "{ends} ends are too few to be all of them");
    }
}

#[test]
fn on_every_path_a_debit_ends_as_a_kept_hold_or_is_given_back() {
    for mode in [FailureMode::Closed, FailureMode::Open] {
        explore(mode, &mut Vec::new(), &mut |path, trace| {
            let Step::Done(outcome) = trace.flow.step() else {
                return;
            };
            let debited = path.iter().zip(&trace.steps).any(|(answer, step)| {
                matches!(answer, StepResult::Debited(_) | StepResult::Held(_))
                    || (trace.drafts && *step == Step::Reserve && *answer == StepResult::StoreLost)
            });
            let given_back = trace.count(|step| matches!(step, Step::Cancel | Step::Refund));
            let kept = usize::from(trace.flow.hold().is_some());
            assert_eq!(given_back + kept, usize::from(debited), "{path:?}");
            if kept == 1 {
                assert!(outcome.allowed && outcome.basis == Basis::Gate, "{path:?}");
                assert_eq!(trace.flow.hold(), Some(&trace.hold()));
            }
            assert!(!outcome.low || kept == 1, "{path:?}");
        });
    }
}

#[test]
fn a_check_is_allowed_only_by_an_evaluation_or_by_the_open_mode() {
    for mode in [FailureMode::Closed, FailureMode::Open] {
        explore(mode, &mut Vec::new(), &mut |path, trace| {
            let Step::Done(outcome) = trace.flow.step() else {
                return;
            };
            let expected = match outcome.basis {
                Basis::Static(_) => mode == FailureMode::Open,
                Basis::Gate => path.contains(&StepResult::Evaluated(Some(true))),
                Basis::Open(_) => {
                    assert_eq!(mode, FailureMode::Open);
                    path.last() == Some(&StepResult::Evaluated(Some(true)))
                }
            };
            assert_eq!(outcome.allowed, expected, "{path:?}");
        });
    }
}

#[test]
fn an_answer_that_does_not_fit_the_step_leaves_the_flow_where_it_is() {
    for mode in [FailureMode::Closed, FailureMode::Open] {
        explore(mode, &mut Vec::new(), &mut |path, trace| {
            let step = trace.flow.step();
            for answer in answers().into_iter().filter(|answer| !fits(step, answer)) {
                let mut strayed = Trace::after(mode, path);
                if trace.drafts {
                    strayed = Trace::drafting(mode, path);
                }
                strayed.tell(answer.clone());
                assert_eq!(strayed.flow.step(), step, "{path:?}, then {answer:?}");
            }
        });
    }
}

#[test]
fn a_stray_answer_does_not_change_what_comes_after_it() {
    let mut trace = begin(FailureMode::Closed);
    trace
        .tell(StepResult::Evaluated(None))
        .tell(metered())
        .tell(StepResult::Acquired(true))
        .tell(StepResult::Refused(Refusal::NoLease))
        .tell(StepResult::Refused(Refusal::Short))
        .tell(StepResult::Acquired(true))
        .tell(debited())
        .tell(StepResult::Evaluated(Some(false)))
        .tell(StepResult::Recorded)
        .tell(StepResult::Cancelled)
        .tell(StepResult::Evaluated(Some(true)));
    assert!(trace.outcome().allowed);
    assert!(trace.outcome().low);
    // A stray answer at the debit would have drawn a second id.
    assert_eq!(trace.hold().id, Ids::new(SEED).next());
}

#[test]
fn a_slot_that_never_has_a_live_lease_is_given_up_after_one_acquire() {
    let none = StepResult::Refused(Refusal::NoLease);
    let answers = [
        metered(),
        none.clone(),
        StepResult::Acquired(true),
        none.clone(),
        StepResult::Extended,
        none,
    ];
    let trace = Trace::after(FailureMode::Closed, &answers);
    assert_eq!(trace.outcome(), denial(Failure::InsufficientBalance));
}

#[test]
fn a_lease_that_is_gone_after_its_extend_is_not_acquired_anew() {
    let answers = [
        metered(),
        StepResult::Refused(Refusal::Short),
        StepResult::Extended,
        StepResult::Refused(Refusal::NoLease),
    ];
    let trace = Trace::after(FailureMode::Closed, &answers);
    assert_eq!(trace.outcome(), denial(Failure::InsufficientBalance));
    assert_eq!(trace.count(|step| *step == Step::Acquire), 0);
}

#[test]
fn a_cost_that_is_no_amount_asks_the_service_for_nothing() {
    let answers = [metered(), StepResult::Refused(Refusal::Invalid)];
    let trace = Trace::after(FailureMode::Closed, &answers);
    assert_eq!(trace.outcome(), denial(Failure::InsufficientBalance));
}

// What a hold is made of

#[test]
fn a_hold_is_made_of_the_check_the_debit_and_what_was_passed_in() {
    let trace = Trace::after(FailureMode::Closed, &[metered(), debited()]);
    let expected = Reservation {
        id: Ids::new(SEED).next(),
        lease_id: "lease_amber".into(),
        mode: Mode::Client,
        holder: holder(),
        terms: Arc::new(Terms {
            credit_id: SLOT.credit_type_id.into(),
            event_subtype: "frames_rendered".into(),
            rate: 4.0,
        }),
        quantity_reserved: 7.5,
        credits_reserved: 32.0,
        expires_at: NOW + TTL,
        exported: Exported::default(),
    };
    assert_eq!(*trace.hold(), expected);
}

#[test]
fn the_gate_is_asked_with_the_balance_before_the_debit() {
    let answers = [metered(), debited(), StepResult::Recorded];
    let trace = Trace::after(FailureMode::Closed, &answers);
    assert_eq!(trace.flow.step(), Step::Gate { balance: 90.0 });
    assert_eq!(trace.flow.cost(), 32.0);
}

#[test]
fn ids_are_drawn_in_the_order_of_the_seed() {
    let (ids, replay) = (Ids::new(SEED), Ids::new(SEED));
    for _ in 0..3 {
        let mut trace = begin(FailureMode::Closed);
        for answer in [metered(), debited()] {
            trace.flow.advance(answer, NOW, TTL, &ids);
        }
        let hold = trace.flow.hold().expect("the hold is to be recorded");
        assert_eq!(hold.id, replay.next());
    }
}

#[test]
fn an_endless_time_to_live_does_not_overflow() {
    let mut trace = begin(FailureMode::Closed);
    trace.tell(metered());
    trace
        .flow
        .advance(debited(), NOW, Millis::MAX, &Ids::new(SEED));
    let hold = trace.flow.hold().expect("the hold is to be recorded");
    assert_eq!(hold.expires_at, Millis::MAX);
}

#[test]
fn a_usage_that_is_no_quantity_asks_nobody() {
    for usage in [-1.0, -0.001, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let closed = CheckFlow::begin(usage, None, FailureMode::Closed, holder());
        let expected = Step::Done(denial(Failure::InvalidUsage));
        assert_eq!(closed.step(), expected, "{usage}");
        let open = CheckFlow::begin(usage, None, FailureMode::Open, holder());
        let expected = Step::Done(blind_allowance(Failure::InvalidUsage));
        assert_eq!(open.step(), expected, "{usage}");
    }
}

#[test]
fn a_rate_that_is_no_number_is_no_price() {
    for rate in [f64::NAN, f64::NEG_INFINITY, -0.0] {
        let trace = Trace::after(FailureMode::Closed, &[terms(rate)]);
        assert_eq!(trace.flow.step(), Step::Plain, "{rate}");
    }
}

// Settling

fn reservation(mode: Mode) -> Arc<Reservation> {
    let trace = Trace::after(FailureMode::Closed, &[metered(), debited()]);
    Arc::new(Reservation {
        mode,
        ..(*trace.hold()).clone()
    })
}

#[test]
fn what_is_no_quantity_is_not_settled() {
    for quantity in [-1.0, -1e-300, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        assert!(!valid_quantity(quantity), "{quantity}");
        let hold = reservation(Mode::Client);
        assert!(Settlement::begin(&hold, quantity).is_none(), "{quantity}");
    }
    for quantity in [0.0, -0.0, 1e-300, 1e300] {
        assert!(valid_quantity(quantity), "{quantity}");
    }
}

#[test]
fn our_own_hold_is_claimed_at_whole_events() {
    let hold = reservation(Mode::Client);
    let settlement = Settlement::begin(&hold, 2.25).expect("a quantity");
    assert_eq!((settlement.units(), settlement.claim()), (3, Some(12.0)));
    assert_eq!(*settlement.reservation(), hold);
    let settlement = Settlement::begin(&hold, 0.0).expect("a quantity");
    assert_eq!((settlement.units(), settlement.claim()), (0, Some(0.0)));
}

#[test]
fn a_hold_of_the_service_is_billed_and_claimed_nowhere() {
    let hold = reservation(Mode::Server);
    let settlement = Settlement::begin(&hold, 2.25).expect("a quantity");
    assert_eq!((settlement.units(), settlement.claim()), (3, None));
}

#[test]
fn a_bill_ends_at_the_largest_integer() {
    assert_eq!(whole_units(1e300), i64::MAX);
    assert_eq!(whole_units(4_000_000_000_000.5), 4_000_000_000_001);
}
