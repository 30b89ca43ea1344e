//! What an evaluation costs, and that it does not grow with the company.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    reason = "criterion's macros; the messages are ours"
)]

mod samples;

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use schematic_core::engine::{Preflight, evaluate};
use schematic_core::wire::{parse_company, parse_flag};

const NOW: Option<i64> = Some(1_760_000_000_000);

fn benches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("evaluate");
    for (name, more_rules, company_size) in [
        ("small flag, small company", 0, 3),
        ("12 more rules, company of 25", 12, 25),
        ("small flag, company of 25", 0, 25),
        ("small flag, company of 250", 0, 250),
        ("12 more rules, company of 250", 12, 250),
    ] {
        let flag = parse_flag(&samples::flag(more_rules)).unwrap();
        let company = parse_company(&samples::company(company_size)).unwrap();
        let preflight = Preflight::default();
        let verdict = evaluate(&flag, Some(&company), None, &preflight, NOW);
        assert_eq!(verdict.rule.map(|rule| &*rule.id), Some("rule_plan"));
        assert!(verdict.entitlement.is_some());
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                evaluate(
                    black_box(&flag),
                    Some(black_box(&company)),
                    None,
                    &preflight,
                    NOW,
                )
            });
        });
    }
    let flag = parse_flag(&samples::flag(0)).unwrap();
    let company = parse_company(&samples::company(25)).unwrap();
    let cost = [("bcrd_inference", 12.5)];
    let gate = Preflight {
        credit_cost: &cost,
        balance: Some(("bcrd_inference", 40.0)),
        ..Preflight::default()
    };
    group.bench_function("gate with an overlay balance", |bencher| {
        bencher.iter(|| {
            evaluate(
                black_box(&flag),
                Some(black_box(&company)),
                None,
                &gate,
                NOW,
            )
        });
    });
    group.finish();
}

criterion_group!(all, benches);
criterion_main!(all);
