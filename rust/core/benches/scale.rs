//! What does not grow: the cost of a check with the size of the company and with the number of cached ones.
//!
//! Every round runs a batch of each subject, in turn, so that a machine which is slow for a while is slow for all of
//! them. `cargo bench --bench scale -- SUBJECT ROUNDS` runs those subjects alone whose name has SUBJECT in it.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    reason = "a benchmark; the messages are ours"
)]

mod samples;

use std::{
    hint::black_box,
    rc::Rc,
    time::{Duration, Instant},
};

use schematic_core::{
    cache::{Cache, Lookup},
    engine::{Company, Flag, Preflight, evaluate},
    wire::{parse_company, parse_flag},
};

const NOW: Option<i64> = Some(1_760_000_000_000);
const ROUNDS: usize = 301;
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
            per_call(&self.batches[self.batches.len() / 2]),
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

/// Companies that are looked up one after another: what is cold stays cold.
struct Cached {
    cache: Cache,
    slugs: Vec<String>,
    flag: Flag,
}

impl Cached {
    fn new(count: usize) -> Self {
        let slugs: Vec<String> = (0..count).map(|at| format!("company-{at}")).collect();
        let cache = Cache::new(count, 1);
        for slug in &slugs {
            cache.apply(&samples::message_of(slug, 5));
        }
        let flag = parse_flag(&samples::flag(12)).unwrap();
        Self { cache, slugs, flag }
    }

    /// The keys of one company after another, far apart.
    fn keys(&self, at: usize) -> [(&str, &str); 1] {
        let slug = &self.slugs[at.wrapping_mul(7_919) % self.slugs.len()];
        [("slug", slug)]
    }

    fn find_and_ask(&self, keys: &[(&str, &str)]) -> bool {
        match self.cache.companies().find(keys) {
            Lookup::Found(company, _) => ask(&self.flag, &company),
            _ => false,
        }
    }
}

/// What is done with cached companies, call by call.
type OfCached = fn(&Cached, usize) -> bool;

const OF_CACHED: [(&str, OfCached); 4] = [
    ("find: the same", |it, _| {
        find(&it.cache, black_box(&[("slug", "company-0")]))
    }),
    ("find: any", |it, at| find(&it.cache, &it.keys(at))),
    ("find and evaluate: 12 more rules, the same", |it, _| {
        it.find_and_ask(black_box(&[("slug", "company-0")]))
    }),
    ("find and evaluate: 12 more rules, any", |it, at| {
        it.find_and_ask(&it.keys(at))
    }),
];

fn of_cached(count: usize, is_wanted: &dyn Fn(&str) -> bool) -> Vec<(String, Call)> {
    let wanted: Vec<_> = OF_CACHED
        .into_iter()
        .map(|(what, call)| (format!("{what} of {count} companies"), call))
        .filter(|(name, _)| is_wanted(name))
        .collect();
    if wanted.is_empty() {
        return Vec::new();
    }
    let cached = Rc::new(Cached::new(count));
    let bound = |call: OfCached| -> Call {
        let cached = Rc::clone(&cached);
        Box::new(move |at| call(&cached, at))
    };
    wanted
        .into_iter()
        .map(|(name, call)| (name, bound(call)))
        .collect()
}

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|it| !it.starts_with('-'));
    let wanted = arguments.next();
    let rounds = arguments
        .next()
        .map_or(ROUNDS, |rounds| rounds.parse().unwrap());
    let is_wanted = |name: &str| wanted.as_ref().is_none_or(|wanted| name.contains(wanted));
    let mut calls = evaluations();
    for count in [1, 1_000, 100_000] {
        calls.extend(of_cached(count, &is_wanted));
    }
    let mut subjects: Vec<Subject> = calls
        .into_iter()
        .filter(|(name, _)| is_wanted(name))
        .map(|(name, call)| Subject {
            name,
            call,
            batches: Vec::with_capacity(rounds),
        })
        .collect();
    for _ in 0..rounds {
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
