//! What a cached company weighs, what a message may take at most, and what an evaluation allocates: nothing.

#![allow(
    unsafe_code,
    reason = "an allocator that counts has to implement an unsafe trait"
)]
#![allow(clippy::unwrap_used, reason = "a test ends where its fixture is wrong")]

#[path = "../benches/samples/mod.rs"]
mod samples;

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

use schematic_core::{
    engine::{Preflight, evaluate},
    wire::{parse_company, parse_flag},
};

thread_local! {
    /// Bytes held, and allocations made, by this thread.
    static COUNTS: Cell<(usize, usize)> = const { Cell::new((0, 0)) };
    /// The most bytes held by this thread since this was last set.
    static PEAK: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

/// What the system's allocator adds to each block and rounds it up to.
const fn weight(layout: Layout) -> usize {
    (layout.size() + 8).next_multiple_of(16)
}

// SAFETY: every call is handed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNTS.with(|counts| {
            let (bytes, allocations) = counts.get();
            let bytes = bytes.wrapping_add(weight(layout));
            counts.set((bytes, allocations + 1));
            PEAK.with(|peak| peak.set(peak.get().max(bytes)));
        });
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        COUNTS.with(|counts| {
            let (bytes, allocations) = counts.get();
            counts.set((bytes.wrapping_sub(weight(layout)), allocations));
        });
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn counts() -> (usize, usize) {
    COUNTS.with(Cell::get)
}

#[test]
fn a_cached_company_weighs_less_than_twice_its_json() {
    for size in [1, 5, 20, 100] {
        let json = samples::company(size);
        let (before, _) = counts();
        let company = parse_company(&json).unwrap();
        let held = counts().0.wrapping_sub(before) + size_of_val(&company);
        println!(
            "{size:>4} entries: {} bytes of JSON, {held} held",
            json.len()
        );
        assert!(
            held < 2 * json.len(),
            "{held} bytes for {} of JSON",
            json.len()
        );
    }
}

/// Lists of the least that an element can be.
#[test]
fn a_message_takes_no_more_memory_than_its_length_allows() {
    let many = |element: &dyn Fn(usize) -> String| {
        let elements: Vec<_> = (0..20_000).map(element).collect();
        elements.join(",")
    };
    let name = |at: usize| format!("\"{at:x}\"");
    let ids = many(&name);
    let pairs = many(&|at| format!("{}:1", name(at)));
    let texts = many(&|at| format!("{0}:{0}", name(at)));
    let nulls = many(&|at| format!("{}:null", name(at)));
    let rules = many(&|_| r#"["","","","","standard","",0,[],[],true]"#.to_owned());
    let groups = vec!["[]"; 20_000].join(",");
    let fields = [
        format!(r#""plan_ids":[{ids}]"#),
        format!(r#""billing_product_ids":[{ids}]"#),
        format!(r#""keys":{{{texts}}}"#),
        format!(r#""credit_balances":{{{pairs}}}"#),
        format!(r#""credit_postpaid":{{{nulls}}}"#),
        format!(r#""rules":[{rules}]"#),
        format!(r#""rules":[["r","f","","","standard","",0,[],[{groups}],true]]"#),
        format!(r#""nobody_reads":{}{}"#, "[".repeat(100), "]".repeat(100)),
        format!(r#""nobody_reads":[{groups}]"#),
    ];
    for field in fields {
        let message = format!(r#"{{"id":"a","account_id":"","environment_id":"",{field}}}"#);
        COUNTS.set((0, 0));
        PEAK.set(0);
        let company = parse_company(message.as_bytes());
        let peak = PEAK.get();
        assert!(company.is_ok(), "{company:?}");
        assert!(
            peak <= 32 * message.len(),
            "{peak} bytes for {} of {field:.30}",
            message.len()
        );
    }
}

#[test]
fn an_evaluation_allocates_nothing() {
    let flag = parse_flag(&samples::flag(12)).unwrap();
    let company = parse_company(&samples::company(25)).unwrap();
    let cost = [("bcrd_inference", 2.0)];
    for preflight in [
        Preflight::default(),
        Preflight {
            usage: Some(3),
            ..Preflight::default()
        },
        Preflight {
            credit_cost: &cost,
            balance: Some(("bcrd_inference", 1.0)),
            ..Preflight::default()
        },
    ] {
        let (_, before) = counts();
        let verdict = evaluate(
            &flag,
            Some(&company),
            None,
            &preflight,
            Some(1_760_000_000_000),
        );
        assert_eq!(counts().1, before);
        assert!(verdict.rule.is_some());
    }
}
