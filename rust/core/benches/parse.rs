//! What it costs to take a message in.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    reason = "criterion's macros; the messages are ours"
)]

mod samples;

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use schematic_core::cache::Cache;
use schematic_core::wire::{check_flag_json, parse_company, parse_flag};

/// Takes in one message. Never inlined, so that a profiler can count it alone.
#[inline(never)]
fn take_in(cache: &Cache, message: &[u8]) {
    assert!(cache.apply(message).skipped.is_empty());
}

fn benches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("parse");
    let company = samples::company(20);
    let flag = samples::flag(12);
    group.throughput(Throughput::Bytes(company.len() as u64));
    group.bench_function(format!("company of {} bytes", company.len()), |bencher| {
        bencher.iter(|| parse_company(black_box(&company)).unwrap());
    });
    let message = samples::message_of("acme", 20);
    let cache = Cache::new(10, 10);
    group.bench_function("the same, as a message for a cached company", |bencher| {
        bencher.iter(|| take_in(&cache, black_box(&message)));
    });
    let compiled = parse_company(&company).unwrap();
    let balances = br#"{"credit_balances":{"bcrd_inference":123.5}}"#;
    group.throughput(Throughput::Bytes(balances.len() as u64));
    group.bench_function("merge of a balance into 20 entitlements", |bencher| {
        bencher.iter(|| compiled.merge(black_box(balances)).unwrap());
    });
    group.throughput(Throughput::Bytes(flag.len() as u64));
    group.bench_function(format!("flag of {} bytes", flag.len()), |bencher| {
        bencher.iter(|| parse_flag(black_box(&flag)).unwrap());
    });
    let envelope = [
        &b"{\"flag\":"[..],
        &samples::flag(0),
        b",\"company\":",
        &samples::company(3),
        b"}",
    ]
    .concat();
    group.throughput(Throughput::Bytes(envelope.len() as u64));
    group.bench_function(
        format!("check of an envelope of {} bytes", envelope.len()),
        |bencher| {
            bencher.iter(|| check_flag_json(black_box(&envelope), None).unwrap());
        },
    );
    group.finish();
}

criterion_group!(all, benches);
criterion_main!(all);
