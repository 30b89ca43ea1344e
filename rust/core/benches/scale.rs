//! What does not grow: the cost of a check with the size of the company and with the number of cached ones.
//!
//! Every round runs a batch of each subject, in turn, so that a machine which is slow for a while is slow for all of
//! them. `cargo bench --bench scale -- SUBJECT` runs those subjects alone whose name has SUBJECT in it.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    reason = "a benchmark; the messages are ours"
)]

mod samples;

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use schematic_core::{
    cache::{Cache, Lookup},
    engine::{Company, Flag, Preflight, evaluate},
    wire::{parse_company, parse_flag},
};

const NOW: Option<i64> = Some(1_760_000_000_000);
const ROUNDS: usize = 300;
const BATCH: usize = 2_000;

/// What is measured, call by call.
type Call = Box<dyn Fn(usize) -> bool>;

struct Subject {
    name: String,
    call: Call,
    batches: Vec<Duration>,
}

impl Subject {
    fn run(&mut self) {
        let first = self.batches.len() * BATCH;
        let begun = Instant::now();
        for at in first..first + BATCH {
            assert!((self.call)(at));
        }
        self.batches.push(begun.elapsed());
    }

    /// Nanoseconds of one call: of the best batch, and of the median one.
    #[allow(clippy::cast_precision_loss, reason = "a batch is short")]
    fn figures(&mut self) -> (f64, f64) {
        self.batches.sort();
        let per_call = |batch: &Duration| batch.as_nanos() as f64 / BATCH as f64;
        (
            per_call(&self.batches[0]),
            per_call(&self.batches[ROUNDS / 2]),
        )
    }
}

/// One evaluation. Never inlined, so that a profiler can count it alone.
#[inline(never)]
fn ask(flag: &Flag, company: &Company) -> bool {
    let verdict = evaluate(flag, Some(company), None, &Preflight::default(), NOW);
    verdict.rule.is_some()
}

/// One lookup. Never inlined, so that a profiler can count it alone.
#[inline(never)]
fn find(cache: &Cache, keys: &[(&str, &str)]) -> bool {
    matches!(cache.companies().find(keys), Lookup::Found(..))
}

fn evaluations() -> Vec<(String, Call)> {
    let mut calls: Vec<(String, Call)> = Vec::new();
    for (more, size) in [
        (0, 3),
        (0, 25),
        (0, 250),
        (0, 2500),
        (12, 25),
        (12, 250),
        (12, 2500),
    ] {
        let flag = parse_flag(&samples::flag(more)).unwrap();
        let company = parse_company(&samples::company(size)).unwrap();
        calls.push((
            format!("evaluate: {more} more rules, company of {size}"),
            Box::new(move |_| ask(black_box(&flag), black_box(&company))),
        ));
    }
    calls
}

/// Companies that are looked up, or evaluated, one after another: what is cold stays cold.
fn cached(count: usize) -> Vec<(String, Call)> {
    let cache = std::sync::Arc::new(Cache::new(count, 1));
    let names: Vec<String> = (0..count).map(|at| format!("company-{at}")).collect();
    for name in &names {
        cache.apply(&samples::message_of(name, 5));
    }
    let flag = parse_flag(&samples::flag(12)).unwrap();
    let stride = move |at: usize| at.wrapping_mul(7_919) % count;
    let (shared, all) = (std::sync::Arc::clone(&cache), names.clone());
    let one = std::sync::Arc::clone(&cache);
    vec![
        (
            format!("find: the same of {count} companies"),
            Box::new(move |_| find(&one, black_box(&[("slug", "company-0")]))),
        ),
        (
            format!("find: any of {count} companies"),
            Box::new(move |at| find(&shared, black_box(&[("slug", all[stride(at)].as_str())]))),
        ),
        (
            format!("find and evaluate: 12 more rules, any of {count} companies"),
            Box::new(move |at| match cache.companies().find(&[("slug", names[stride(at)].as_str())]) {
                Lookup::Found(company, _) => ask(&flag, &company),
                _ => false,
            }),
        ),
    ]
}

fn main() {
    let wanted = std::env::args().skip(1).find(|it| !it.starts_with('-'));
    let mut calls = evaluations();
    for count in [1, 1_000, 100_000] {
        calls.extend(cached(count));
    }
    let mut subjects: Vec<Subject> = calls
        .into_iter()
        .filter(|(name, _)| wanted.as_ref().is_none_or(|wanted| name.contains(wanted)))
        .map(|(name, call)| Subject {
            name,
            call,
            batches: Vec::with_capacity(ROUNDS),
        })
        .collect();
    for _ in 0..ROUNDS {
        for subject in &mut subjects {
            subject.run();
        }
    }
    println!("{:>10} {:>10}  ns", "best", "median");
    for subject in &mut subjects {
        let (best, median) = subject.figures();
        println!("{best:>10.1} {median:>10.1}  {}", subject.name);
    }
}
