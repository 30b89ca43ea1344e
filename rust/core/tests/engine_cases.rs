//! The cases of `tests/engine/cases.json`: answers that the published engine gave. Python runs them too.

#![allow(clippy::unwrap_used, reason = "a test ends where its fixture is wrong")]

use schematic_core::wire::{check_flag_json, check_flags_json};
use serde::Deserialize;

#[derive(Deserialize)]
struct Case {
    name: String,
    now: Option<i64>,
    bulk: bool,
    envelope: String,
    expected: Option<String>,
}

#[test]
fn every_case_is_answered_as_the_published_engine_did() {
    let cases: Vec<Case> =
        serde_json::from_str(include_str!("../../../tests/engine/cases.json")).unwrap();
    assert!(!cases.is_empty());
    for case in cases {
        let check = if case.bulk {
            check_flags_json
        } else {
            check_flag_json
        };
        let answer = check(case.envelope.as_bytes(), case.now).ok();
        assert_eq!(answer, case.expected, "{}", case.name);
    }
}
