//! Every path that the answers to its steps may lead a flow along.

use schematic_core::leases::{Basis, Failure, FailureMode, Ids, Refusal, Step, StepResult};

use crate::trace::{SEED, Trace, begin, debited, denial, held, metered};

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
