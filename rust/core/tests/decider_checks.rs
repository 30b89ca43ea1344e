//! Lease-backed checks from end to end: entities off the wire, the engine, the ledger and the events.

#![allow(
    clippy::expect_used,
    reason = "a decider that is not where a test put it is to stop the test"
)]

use std::sync::{Arc, Mutex, PoisonError};

use schematic_core::{
    Millis,
    decider::{
        CheckAnswer, CheckRequest, Decider, DeciderSettings, FlagRequest, Need, Pending, Progress,
        Reply, Topic,
    },
    engine::{Preflight, Terms},
    leases::{
        Exported, Failure, FailureMode, Holder, Ids, Knobs, LeaseKnobs, Mode, NewLease, Refusal,
        Reservation, SlotKey,
    },
    wire::{parse_company, parse_flag, parse_user},
};
use serde_json::{Value, json};

const NOW: Millis = 1_750_000_000_000;
const SEED: [u64; 2] = [8, 13];
const SLOT: SlotKey<'_> = SlotKey {
    company_id: "comp_heron",
    credit_type_id: "cred_render",
};
const COMPANY: &[(&str, &str)] = &[("slug", "heron")];
const USER: &[(&str, &str)] = &[("email", "ada@heron.example")];

// Entities

fn owned(mut entity: Value) -> Value {
    entity["account_id"] = json!("acct");
    entity["environment_id"] = json!("env");
    entity
}

fn condition(kind: &str, mut fields: Value) -> Value {
    fields["id"] = json!(format!("cond_{kind}"));
    fields["condition_type"] = json!(kind);
    fields["trait_value"] = json!("");
    owned(fields)
}

fn balance_of(credit: &str) -> Value {
    condition(
        "credit",
        json!({"operator": "lte", "credit_id": credit, "consumption_rate": 2.0,
            "event_subtype": "frames_rendered"}),
    )
}

fn on_plan(plan: &str) -> Value {
    condition("plan", json!({"operator": "eq", "resource_ids": [plan]}))
}

/// A flag that is on for those who meet all conditions.
fn flag(conditions: &[Value]) -> Value {
    let rule = json!({
        "id": "rule_metered", "name": "Rendering", "rule_type": "plan_entitlement", "priority": 0,
        "value": true, "conditions": conditions,
    });
    owned(
        json!({"id": "flag_render", "key": "render", "default_value": false, "rules": [owned(rule)]}),
    )
}

/// A company that pays two credits a frame.
fn company() -> Value {
    owned(json!({
        "id": "comp_heron",
        "keys": {"slug": "heron"},
        "plan_ids": ["plan_studio"],
        "credit_balances": {"cred_render": 7300.0},
        "entitlements": [{
            "feature_id": "feat_render", "feature_key": "render", "value_type": "credit",
            "credit_id": "cred_render", "consumption_rate": 2.0, "event_subtype": "frames_rendered",
        }],
    }))
}

fn user() -> Value {
    owned(json!({"id": "user_ada", "keys": {"email": "ada@heron.example"}}))
}

// A decider

struct Studio {
    decider: Decider,
    woken: Arc<Mutex<Vec<Topic>>>,
}

impl Studio {
    fn empty() -> Self {
        Self::of(false)
    }

    /// One whose leases live elsewhere.
    fn shared() -> Self {
        let studio = Self::of(true);
        studio.put_flag(&flag(&[balance_of("cred_render")]));
        studio.put_company(&company());
        studio
    }

    fn of(shared: bool) -> Self {
        let common = LeaseKnobs {
            lease_size: 500.0,
            lease_duration: 90_000,
            reservation_ttl: 20_000,
            low_water_mark: 0.25,
        };
        let mut knobs = Knobs::new(common);
        let patient = LeaseKnobs {
            reservation_ttl: 33_000,
            ..common
        };
        knobs.set("cred_patient", patient);
        let woken = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&woken);
        let decider = Decider::new(DeciderSettings {
            api_key: "key".to_owned(),
            max_companies: 10,
            max_users: 10,
            max_billing_events: 1000,
            max_flag_check_events: 1000,
            knobs,
            seed: SEED,
            wake: Box::new(move |topic| {
                told.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(topic);
            }),
            shared,
            engine: None,
        });
        Self { decider, woken }
    }

    fn with(flag: &Value, company: &Value) -> Self {
        let studio = Self::empty();
        studio.put_flag(flag);
        studio.put_company(company);
        studio
    }

    /// One that has a lease of 80 credits, too.
    fn with_lease(flag: &Value, company: &Value) -> Self {
        let studio = Self::with(flag, company);
        studio.install("lease_amber", 80.0, NOW + 40_000);
        studio
    }

    fn put_flag(&self, flag: &Value) {
        let flag = parse_flag(flag.to_string().as_bytes()).expect("a flag");
        self.decider.cache().flags().put(flag);
    }

    fn put_company(&self, company: &Value) {
        let company = parse_company(company.to_string().as_bytes()).expect("a company");
        self.decider.cache().companies().put(company);
    }

    fn put_user(&self, user: &Value) {
        let user = parse_user(user.to_string().as_bytes()).expect("a user");
        self.decider.cache().users().put(user);
    }

    fn install(&self, lease_id: &str, granted: f64, expires_at: Millis) {
        let lease = NewLease {
            lease_id,
            granted,
            expires_at,
        };
        assert!(self.decider.ledger().install(SLOT, &lease, NOW).written);
    }

    fn check(&self, usage: f64, mode: FailureMode) -> Progress {
        let request = CheckRequest {
            usage,
            mode,
            ttl: None,
            ..request()
        };
        self.decider.check(&request, NOW)
    }

    fn allow(&self, usage: f64) -> Arc<Reservation> {
        let answer = done(self.check(usage, FailureMode::Closed));
        assert!(answer.allowed, "{}", &*answer.reason);
        answer.reservation.expect("credits are held")
    }

    fn remaining(&self) -> f64 {
        let lease = self.decider.ledger().lease(SLOT);
        lease.expect("the lease is there").remaining
    }

    fn assert_nothing_is_held(&self) {
        let ledger = self.decider.ledger();
        assert_eq!(
            (ledger.open_holds(), ledger.reserved_credits(SLOT)),
            (0, 0.0)
        );
    }

    /// Every event that waits, oldest billing first.
    fn events(&self) -> Vec<Value> {
        let Some(batch) = self.decider.take_batch() else {
            return Vec::new();
        };
        let body: Value = serde_json::from_slice(&batch.body()).expect("a batch is JSON");
        body["events"].as_array().expect("events").clone()
    }

    /// The body of the one event that waits.
    fn event(&self, kind: &str) -> Value {
        let events = self.events();
        assert_eq!(events.len(), 1, "{events:?}");
        assert_eq!(events[0]["type"], kind);
        events[0]["body"].clone()
    }

    fn wakes(&self, topic: Topic) -> usize {
        let woken = self.woken.lock().unwrap_or_else(PoisonError::into_inner);
        woken.iter().filter(|there| **there == topic).count()
    }
}

/// A check of fifteen frames, 30 credits.
fn request() -> CheckRequest<'static> {
    CheckRequest {
        flag_key: "render",
        company: Some(COMPANY),
        user: None,
        usage: 15.0,
        event_subtype: None,
        mode: FailureMode::Closed,
        ttl: None,
    }
}

fn done(progress: Progress) -> CheckAnswer {
    match progress {
        Progress::Done(answer) => answer,
        Progress::Pending(pending) => panic!("the check waits for {:?}", pending.need()),
    }
}

fn waiting(progress: Progress) -> Box<Pending> {
    match progress {
        Progress::Pending(pending) => pending,
        Progress::Done(answer) => panic!("the check is decided: {}", &*answer.reason),
    }
}

// What a check waits for

#[test]
fn a_check_waits_for_its_company_then_for_its_lease_and_then_is_allowed() {
    let studio = Studio::empty();
    studio.put_flag(&flag(&[balance_of("cred_render")]));

    let pending = waiting(studio.decider.check(&request(), NOW));
    let need = Need::Resolve {
        company: true,
        user: false,
    };
    assert_eq!(*pending.need(), need);
    assert_eq!(pending.slot(), None);

    studio.put_company(&company());
    let pending = waiting(studio.decider.resume(pending, Reply::Done(true), NOW));
    assert_eq!(*pending.need(), Need::Acquire);
    let slot = pending
        .slot()
        .map(|slot| (slot.company_id, slot.credit_type_id));
    assert_eq!(slot, Some(("comp_heron", "cred_render")));
    assert_eq!(pending.required_credits(), 30.0);

    studio.install("lease_new", 500.0, NOW + 90_000);
    let answer = done(studio.decider.resume(pending, Reply::Done(true), NOW + 7));
    assert!(answer.allowed && answer.value);
    assert_eq!(
        &*answer.reason,
        "Matched plan entitlement rule \"Rendering\" (rule_metered)"
    );
    assert_eq!(answer.error, None);
    let hold = answer.reservation.expect("credits are held");
    assert_eq!((&*hold.lease_id, hold.mode), ("lease_new", Mode::Client));
    assert_eq!(
        (hold.quantity_reserved, hold.credits_reserved),
        (15.0, 30.0)
    );
    assert_eq!(hold.expires_at, NOW + 7 + 20_000);
    assert_eq!(hold.id, Ids::new(SEED).next());
    assert!(hold.company().is_some_and(|keys| keys.are(COMPANY)));
    assert_eq!(studio.remaining(), 470.0);
    assert_eq!(studio.decider.ledger().reserved_credits(SLOT), 30.0);
    assert_eq!(studio.decider.traffic(), (1, 0));

    let check = studio.event("flag_check");
    let expected = json!({
        "flag_key": "render", "value": true, "flag_id": "flag_render",
        "reason": "Matched plan entitlement rule \"Rendering\" (rule_metered)",
        "rule_id": "rule_metered", "company_id": "comp_heron", "req_company": {"slug": "heron"},
    });
    assert_eq!(check, expected);
}

#[test]
fn a_check_says_which_entity_it_lacks() {
    let studio = Studio::empty();
    studio.put_flag(&flag(&[balance_of("cred_render")]));
    let asked = CheckRequest {
        user: Some(USER),
        ..request()
    };
    let resolve = |company, user| Need::Resolve { company, user };
    let need = || waiting(studio.decider.check(&asked, NOW)).need().clone();
    assert_eq!(need(), resolve(true, true));
    studio.put_company(&company());
    assert_eq!(need(), resolve(false, true));
    studio.put_user(&user());
    assert_eq!(need(), Need::Acquire);
    studio.install("lease_amber", 80.0, NOW + 40_000);
    let hold = done(studio.decider.check(&asked, NOW)).reservation;
    let hold = hold.expect("credits are held");
    assert!(hold.user().is_some_and(|keys| keys.are(USER)));
    assert_eq!(studio.event("flag_check")["user_id"], "user_ada");
}

#[test]
fn what_cannot_be_resolved_is_left_to_a_plain_check_and_recorded_by_it() {
    let studio = Studio::empty();
    let pending = waiting(studio.decider.check(&request(), NOW));
    assert_eq!(*pending.need(), Need::Plain);

    studio.put_flag(&flag(&[balance_of("cred_render")]));
    let pending = waiting(studio.decider.check(&request(), NOW));
    let pending = waiting(studio.decider.resume(pending, Reply::Done(false), NOW));
    assert_eq!(*pending.need(), Need::Plain);
    let pending = waiting(studio.decider.resume(pending, Reply::Done(true), NOW));
    assert_eq!(*pending.need(), Need::Plain);

    let mut heron = company();
    heron["keys"] = json!({"slug": "heron", "tag": "h"});
    studio.put_company(&heron);
    let ibis = owned(json!({"id": "comp_ibis", "keys": {"tag": "i"}}));
    studio.put_company(&ibis);
    let conflicting = CheckRequest {
        company: Some(&[("slug", "heron"), ("tag", "i")]),
        ..request()
    };
    let pending = waiting(studio.decider.check(&conflicting, NOW));
    assert_eq!(*pending.need(), Need::Plain);
    assert_eq!(studio.events(), Vec::<Value>::new());
}

#[test]
fn without_a_lease_a_closed_check_is_denied_and_recorded_once() {
    let studio = Studio::with(&flag(&[balance_of("cred_render")]), &company());
    let pending = waiting(studio.check(15.0, FailureMode::Closed));
    assert_eq!(studio.decider.events().counts().analytics, 0);
    let answer = done(studio.decider.resume(pending, Reply::Done(false), NOW));
    assert!(!answer.allowed && !answer.value);
    assert_eq!(&*answer.reason, "lease_acquire_failed");
    assert_eq!(answer.error, Some(Failure::AcquireFailed));
    assert!(answer.reservation.is_none());
    let check = studio.event("flag_check");
    assert_eq!(check["value"], false);
    assert_eq!(check["error"], "lease_acquire_failed");
}

#[test]
fn without_a_lease_an_open_check_is_decided_by_the_rules() {
    for (plan, allowed) in [("plan_studio", true), ("plan_hobby", false)] {
        let mut heron = company();
        // The company has no credits at all: an open check does not ask for them.
        heron["credit_balances"] = json!({"cred_render": 0.0});
        let rules = flag(&[on_plan(plan), balance_of("cred_render")]);
        let studio = Studio::with(&rules, &heron);
        let pending = waiting(studio.check(15.0, FailureMode::Open));
        let answer = done(studio.decider.resume(pending, Reply::Done(false), NOW));
        assert_eq!(answer.allowed, allowed, "{plan}");
        let suffix = " (lease_acquire_failed_fail_open)";
        assert!(answer.reason.ends_with(suffix), "{}", &*answer.reason);
        assert!(answer.reason.len() > suffix.len());
        assert_eq!(answer.error, Some(Failure::AcquireFailed));
        assert!(answer.reservation.is_none());
        let check = studio.event("flag_check");
        assert_eq!(check["value"], allowed);
        assert_eq!(check["reason"], *answer.reason);
    }
}

#[test]
fn an_open_check_still_counts_its_usage_against_other_limits() {
    let metric = condition(
        "metric",
        json!({"operator": "lte", "event_subtype": "frames_rendered", "metric_value": 20}),
    );
    for (usage, allowed) in [(20.0, true), (20.25, false)] {
        let rules = flag(&[metric.clone(), balance_of("cred_render")]);
        let studio = Studio::with(&rules, &company());
        let pending = waiting(studio.check(usage, FailureMode::Open));
        let answer = done(studio.decider.resume(pending, Reply::Done(false), NOW));
        assert_eq!(answer.allowed, allowed, "{usage}");
        assert_eq!(answer.error, Some(Failure::AcquireFailed));
    }
}

#[test]
fn a_short_lease_is_waited_for_once() {
    let studio = Studio::with_lease(&flag(&[balance_of("cred_render")]), &company());
    let pending = waiting(studio.check(100.0, FailureMode::Closed));
    assert_eq!(*pending.need(), Need::Extend);
    assert_eq!(pending.required_credits(), 200.0);
    assert!(studio.decider.ledger().extend(SLOT, 580.0, None, None));
    let answer = done(studio.decider.resume(pending, Reply::Done(true), NOW));
    assert!(answer.allowed);
    assert_eq!(studio.remaining(), 380.0);

    let pending = waiting(studio.check(300.0, FailureMode::Closed));
    let answer = done(studio.decider.resume(pending, Reply::Done(false), NOW));
    assert_eq!(answer.error, Some(Failure::InsufficientBalance));
    assert_eq!(studio.remaining(), 380.0);
    assert_eq!(studio.events().len(), 2);
}

// What the gate decides

#[test]
fn a_check_that_the_rules_deny_gives_its_credits_back() {
    let rules = flag(&[on_plan("plan_hobby"), balance_of("cred_render")]);
    for mode in [FailureMode::Closed, FailureMode::Open] {
        let studio = Studio::with_lease(&rules, &company());
        let answer = done(studio.check(15.0, mode));
        assert!(!answer.allowed);
        assert_eq!(&*answer.reason, "No rules matched; default value for flag");
        assert_eq!(answer.error, None);
        assert!(answer.reservation.is_none());
        assert_eq!(studio.remaining(), 80.0);
        studio.assert_nothing_is_held();
        let check = studio.event("flag_check");
        assert_eq!(
            (&check["value"], &check["error"]),
            (&json!(false), &Value::Null)
        );
    }
}

#[test]
fn a_spend_policy_denies_what_the_lease_could_pay() {
    let mut heron = company();
    heron["credit_spend_policies"] = json!([{
        "id": "policy_draw", "credit_id": "cred_render", "kind": "per_draw", "scope": "company",
        "limit": 20.0,
    }]);
    let studio = Studio::with_lease(&flag(&[balance_of("cred_render")]), &heron);
    let answer = done(studio.check(15.0, FailureMode::Closed));
    assert!(!answer.allowed);
    let reason = "A draw of 30 credits exceeds the company limit of 20 credits per request";
    assert_eq!(&*answer.reason, reason);
    assert_eq!(answer.error, None);
    assert_eq!(studio.remaining(), 80.0);
    studio.assert_nothing_is_held();
    assert_eq!(studio.event("flag_check")["reason"], reason);
    studio.allow(10.0);
}

#[test]
fn the_value_of_a_flag_follows_the_windows_of_spend_policies() {
    let policy = |scope: &str| {
        json!([{
            "id": "policy_window", "credit_id": "cred_render", "kind": "window", "scope": scope,
            "limit": 20.0, "consumed": 20.0, "resets_at": "2025-06-15T15:06:40Z",
        }])
    };
    let studio = Studio::with_lease(&flag(&[balance_of("cred_render")]), &company());
    let value = |now: Millis| {
        let request = FlagRequest {
            flag_key: "render",
            company: Some(COMPANY),
            user: Some(USER),
            ..FlagRequest::default()
        };
        studio.decider.flag_value(&request, || now)
    };
    let mut heron = company();
    heron["credit_spend_policies"] = policy("company");
    studio.put_company(&heron);
    studio.put_user(&user());
    assert_eq!((value(NOW - 1), value(NOW)), (Ok(false), Ok(true)));
    let mut ada = user();
    ada["credit_spend_policies"] = policy("user");
    studio.put_company(&company());
    studio.put_user(&ada);
    assert_eq!((value(NOW - 1), value(NOW)), (Ok(false), Ok(true)));
}

#[test]
fn a_balance_that_the_lease_does_not_stand_for_can_still_deny() {
    let rules = flag(&[balance_of("cred_render"), balance_of("cred_disk")]);
    let studio = Studio::with_lease(&rules, &company());
    let answer = done(studio.check(15.0, FailureMode::Closed));
    assert!(!answer.allowed);
    assert_eq!(studio.remaining(), 80.0);
    studio.assert_nothing_is_held();

    let mut heron = company();
    heron["credit_balances"] = json!({"cred_render": 0.0, "cred_disk": 2.0});
    studio.put_company(&heron);
    studio.allow(15.0);
}

#[test]
fn the_lease_stands_in_for_the_companys_own_balance() {
    for balance in [0.0, -500.0] {
        let mut heron = company();
        heron["credit_balances"] = json!({"cred_render": balance});
        let studio = Studio::with_lease(&flag(&[balance_of("cred_render")]), &heron);
        // The last one drains the lease: its gate is asked with the balance before the debit.
        studio.allow(15.0);
        studio.allow(25.0);
        assert_eq!(studio.remaining(), 0.0);
    }
}

#[test]
fn a_hold_whose_id_is_taken_is_undone_and_leaves_the_other_hold_alone() {
    for mode in [FailureMode::Closed, FailureMode::Open] {
        let studio = Studio::with_lease(&flag(&[balance_of("cred_render")]), &company());
        let ledger = studio.decider.ledger();
        let debit = ledger.try_reserve(SLOT, 7.0, NOW).expect("a debit");
        let squatter = Arc::new(Reservation {
            id: Ids::new(SEED).next(),
            lease_id: debit.lease_id,
            mode: Mode::Client,
            holder: Holder::new(SLOT.company_id, None, None),
            terms: Arc::new(Terms {
                credit_id: SLOT.credit_type_id.into(),
                event_subtype: "frames_rendered".into(),
                rate: 2.0,
            }),
            quantity_reserved: 3.5,
            credits_reserved: 7.0,
            expires_at: NOW + 20_000,
            exported: Exported::default(),
        });
        assert!(ledger.add(&squatter, None, NOW));
        let answer = done(studio.check(15.0, mode));
        assert_eq!(answer.error, Some(Failure::StoreError));
        assert!(answer.reservation.is_none());
        let reason = match mode {
            FailureMode::Closed => "lease_store_error",
            FailureMode::Open => {
                "Matched plan entitlement rule \"Rendering\" (rule_metered) (lease_store_error_fail_open)"
            }
        };
        assert_eq!(&*answer.reason, reason);
        assert_eq!(answer.allowed, mode == FailureMode::Open);
        assert_eq!(
            (studio.remaining(), ledger.reserved_credits(SLOT)),
            (73.0, 7.0)
        );
        assert_eq!(ledger.consume(&squatter, 7.0), Some(7.0));
        assert_eq!(studio.events().len(), 1);
    }
}

// What needs no lease

#[test]
fn a_usage_that_is_no_quantity_is_answered_before_anything_is_looked_up() {
    for usage in [-1.0, f64::NAN, f64::INFINITY] {
        let studio = Studio::empty();
        let answer = done(studio.check(usage, FailureMode::Closed));
        assert_eq!((answer.allowed, &*answer.reason), (false, "invalid_usage"));
        let answer = done(studio.check(usage, FailureMode::Open));
        let expected = (true, "invalid_usage_fail_open");
        assert_eq!((answer.allowed, &*answer.reason), expected);
        assert_eq!(answer.error, Some(Failure::InvalidUsage));
        let events = studio.events();
        assert_eq!(events.len(), 2);
        assert!(
            events
                .iter()
                .all(|event| event["body"]["error"] == "invalid_usage")
        );
    }
}

#[test]
fn no_usage_holds_nothing_and_is_answered_by_the_real_balance() {
    for (balance, allowed) in [(0.0, false), (1.0, true)] {
        let mut heron = company();
        heron["credit_balances"] = json!({"cred_render": balance});
        let mut condition = balance_of("cred_render");
        condition["consumption_rate"] = json!(0.0);
        let studio = Studio::with_lease(&flag(&[condition]), &heron);
        let answer = done(studio.check(0.0, FailureMode::Closed));
        assert_eq!((answer.allowed, answer.error), (allowed, None));
        assert!(answer.reservation.is_none());
        assert_eq!(studio.remaining(), 80.0);
        assert_eq!(studio.event("flag_check")["value"], allowed);
    }
}

#[test]
fn a_feature_without_a_credit_entitlement_is_checked_plainly_with_its_usage() {
    let metric = condition(
        "metric",
        json!({"operator": "lte", "event_subtype": "frames_rendered", "metric_value": 20}),
    );
    let mut heron = company();
    heron["entitlements"][0]["value_type"] = json!("numeric");
    heron["metrics"] = json!([owned(json!({
        "company_id": "comp_heron", "event_subtype": "frames_rendered", "period": "all_time",
        "month_reset": "first_of_month", "value": 5, "created_at": "2025-01-01T00:00:00Z",
    }))]);
    let studio = Studio::with(&flag(&[metric]), &heron);
    for (usage, event_subtype, allowed) in [
        (15.0, None, true),
        (15.001, None, false),
        (15.001, Some("frames_rendered"), false),
        (15.001, Some("thumbnails"), true),
    ] {
        let asked = CheckRequest {
            usage,
            event_subtype,
            ..request()
        };
        let answer = done(studio.decider.check(&asked, NOW));
        assert_eq!(answer.allowed, allowed, "{usage} {event_subtype:?}");
        assert!(answer.reservation.is_none());
        assert_eq!(studio.event("flag_check")["preflight"], true);
    }
}

#[test]
fn an_incomplete_credit_entitlement_is_checked_plainly() {
    for (field, value) in [
        ("credit_id", Value::Null),
        ("consumption_rate", json!(0.0)),
        ("consumption_rate", json!(-2.0)),
        ("event_subtype", Value::Null),
    ] {
        let mut heron = company();
        heron["entitlements"][0][field] = value;
        let studio = Studio::with_lease(&flag(&[balance_of("cred_render")]), &heron);
        let answer = done(studio.check(15.0, FailureMode::Closed));
        assert!(answer.allowed && answer.reservation.is_none(), "{field}");
        assert_eq!(studio.remaining(), 80.0);
        assert_eq!(studio.events().len(), 1);
    }
}

#[test]
fn a_check_without_a_company_is_plain() {
    for keys in [None, Some(&[] as &[(&str, &str)])] {
        let studio = Studio::with_lease(&flag(&[]), &company());
        let asked = CheckRequest {
            company: keys,
            ..request()
        };
        let answer = done(studio.decider.check(&asked, NOW));
        assert!(answer.allowed && answer.reservation.is_none());
        assert_eq!(studio.events().len(), 1);
    }
}

// What a hold is made of

#[test]
fn the_callers_event_is_held_and_billed() {
    let studio = Studio::with_lease(&flag(&[balance_of("cred_render")]), &company());
    let asked = CheckRequest {
        event_subtype: Some("thumbnails"),
        ..request()
    };
    let hold = done(studio.decider.check(&asked, NOW)).reservation;
    let hold = hold.expect("credits are held");
    studio.events();
    assert_eq!(studio.decider.settle(&hold, 1.0, None), Some(true));
    assert_eq!(studio.event("track")["event"], "thumbnails");
}

#[test]
fn a_credit_type_may_have_a_time_to_live_of_its_own() {
    let mut heron = company();
    heron["entitlements"][0]["credit_id"] = json!("cred_patient");
    let studio = Studio::with(&flag(&[]), &heron);
    let pending = waiting(studio.check(1.0, FailureMode::Closed));
    let slot = SlotKey {
        credit_type_id: "cred_patient",
        ..SLOT
    };
    let lease = NewLease {
        lease_id: "lease_slow",
        granted: 10.0,
        expires_at: NOW + 90_000,
    };
    studio.decider.ledger().install(slot, &lease, NOW);
    let answer = done(studio.decider.resume(pending, Reply::Done(true), NOW));
    let hold = answer.reservation.expect("credits are held");
    assert_eq!(hold.expires_at, NOW + 33_000);
}

// Settling and its events

#[test]
fn a_settle_bills_once_under_the_reservations_key() {
    let studio = Studio::with_lease(&flag(&[balance_of("cred_render")]), &company());
    let hold = studio.allow(15.0);
    let traits = Some(r#"{"scene": "harbour"}"#);
    assert_eq!(studio.decider.settle(&hold, 11.2, traits), Some(true));
    assert_eq!(studio.remaining(), 56.0);
    let events = studio.events();
    assert_eq!(events.len(), 2);
    let expected = json!({
        "api_key": "key",
        "type": "track",
        "body": {
            "event": "frames_rendered", "company": {"slug": "heron"}, "quantity": 12,
            "traits": {"scene": "harbour"}, "lease_id": "lease_amber",
        },
        "idempotency_key": format!("lease-reservation:{}", hold.id),
    });
    assert_eq!(events[0], expected);
    assert_eq!(events[1]["type"], "flag_check");
    assert_eq!(studio.decider.traffic(), (1, 1));

    assert_eq!(studio.decider.settle(&hold, 40.0, None), Some(false));
    assert_eq!(studio.remaining(), 56.0);
    let repeated = studio.events();
    assert_eq!(repeated[0]["idempotency_key"], events[0]["idempotency_key"]);
    assert_eq!(repeated[0]["body"]["quantity"], 40);
}

#[test]
fn a_settle_of_the_services_hold_names_the_reservation_and_no_lease() {
    let studio = Studio::with_lease(&flag(&[balance_of("cred_render")]), &company());
    let ours = studio.allow(15.0);
    studio.events();
    let theirs = Arc::new(Reservation {
        mode: Mode::Server,
        ..(*ours).clone()
    });
    assert_eq!(studio.decider.settle(&theirs, 4.0, None), Some(false));
    assert_eq!(studio.remaining(), 50.0);
    assert!(studio.decider.ledger().holds(&ours.id));
    let body = studio.event("track");
    assert_eq!(body["reservation_id"], ours.id.to_string());
    assert_eq!(body.get("lease_id"), None);
}

#[test]
fn what_is_no_quantity_is_neither_settled_nor_billed() {
    let studio = Studio::with_lease(&flag(&[balance_of("cred_render")]), &company());
    let hold = studio.allow(15.0);
    studio.events();
    for quantity in [-1.0, f64::NAN, f64::INFINITY] {
        assert_eq!(studio.decider.settle(&hold, quantity, None), None);
    }
    assert_eq!(studio.events(), Vec::<Value>::new());
    assert!(studio.decider.ledger().holds(&hold.id));
    assert_eq!(studio.decider.traffic(), (1, 0));
}

#[test]
fn only_a_settle_that_claimed_its_hold_moves_the_cached_usage() {
    let mut heron = company();
    heron["metrics"] = json!([owned(json!({
        "company_id": "comp_heron", "event_subtype": "frames_rendered", "period": "all_time",
        "month_reset": "first_of_month", "value": 100, "created_at": "2025-01-01T00:00:00Z",
    }))]);
    let metric = condition(
        "metric",
        json!({"operator": "lte", "event_subtype": "frames_rendered", "metric_value": 1000}),
    );
    let studio = Studio::with_lease(&flag(&[metric, balance_of("cred_render")]), &heron);
    let usage = || {
        let asked = FlagRequest {
            flag_key: "render",
            company: Some(COMPANY),
            ..FlagRequest::default()
        };
        let answer = studio
            .decider
            .check_flag(&asked, &Preflight::default(), NOW);
        answer.expect("it is cached").usage.map(|usage| usage.usage)
    };
    let (first, second) = (studio.allow(5.0), studio.allow(5.0));
    assert_eq!(usage(), Some(100));
    studio.decider.settle(&first, 2.5, None);
    assert_eq!(usage(), Some(103));
    studio.decider.settle(&first, 2.5, None);
    assert_eq!(usage(), Some(103));
    assert_eq!(studio.decider.ledger().sweep(NOW + 20_000), 1);
    studio.decider.settle(&second, 5.0, None);
    assert_eq!(usage(), Some(103));
}

// Low water

#[test]
fn a_low_lease_is_told_of_once_until_it_was_extended() {
    let studio = Studio::with_lease(&flag(&[balance_of("cred_render")]), &company());
    studio.allow(29.0);
    assert_eq!(studio.wakes(Topic::Extend), 0);
    studio.allow(1.0);
    assert_eq!(studio.wakes(Topic::Extend), 1);
    studio.allow(1.0);
    studio.allow(1.0);
    assert_eq!(studio.wakes(Topic::Extend), 1);
    let low: Vec<_> = studio.decider.ledger().take_low();
    assert_eq!(low, [("comp_heron".into(), "cred_render".into())]);

    assert!(studio.decider.ledger().extend(SLOT, 100.0, None, None));
    studio.allow(2.0);
    assert_eq!(studio.wakes(Topic::Extend), 1);
    studio.allow(5.0);
    assert_eq!(studio.wakes(Topic::Extend), 2);
}

#[test]
fn a_lease_that_stays_low_is_told_of_again_after_a_second() {
    let studio = Studio::with_lease(&flag(&[balance_of("cred_render")]), &company());
    studio.allow(35.0);
    let later = |after| {
        studio.decider.check(
            &CheckRequest {
                usage: 1.0,
                ..request()
            },
            NOW + after,
        )
    };
    assert!(done(later(999)).allowed);
    assert_eq!(studio.wakes(Topic::Extend), 1);
    assert!(done(later(1000)).allowed);
    assert_eq!(studio.wakes(Topic::Extend), 2);
}

#[test]
fn a_denied_check_tells_nobody_of_a_low_lease() {
    let rules = flag(&[on_plan("plan_hobby"), balance_of("cred_render")]);
    let studio = Studio::with_lease(&rules, &company());
    assert!(!done(studio.check(40.0, FailureMode::Closed)).allowed);
    assert_eq!(studio.wakes(Topic::Extend), 0);
}

// What changes during a wait

#[test]
fn a_check_that_waited_is_gated_by_what_came_meanwhile() {
    let studio = Studio::empty();
    studio.put_flag(&flag(&[balance_of("cred_render")]));
    studio.put_company(&company());
    let pending = waiting(studio.check(15.0, FailureMode::Closed));
    studio.put_flag(&flag(&[on_plan("plan_hobby"), balance_of("cred_render")]));
    studio.install("lease_new", 500.0, NOW + 90_000);
    assert!(!done(studio.decider.resume(pending, Reply::Done(true), NOW)).allowed);
    assert_eq!(studio.remaining(), 500.0);
    studio.assert_nothing_is_held();
}

#[test]
fn a_check_whose_company_went_away_while_it_waited_ends_with_what_it_knew() {
    let studio = Studio::empty();
    studio.put_flag(&flag(&[balance_of("cred_render")]));
    studio.put_company(&company());
    let pending = waiting(studio.check(15.0, FailureMode::Closed));
    assert!(studio.decider.cache().companies().remove("comp_heron"));
    studio.install("lease_new", 500.0, NOW + 90_000);
    assert!(done(studio.decider.resume(pending, Reply::Done(true), NOW)).allowed);
}

// A store that other processes share

#[test]
fn a_shared_store_is_asked_to_debit_to_record_and_nothing_else() {
    let studio = Studio::shared();
    let pending = waiting(studio.check(3.0, FailureMode::Closed));
    drafted(&pending);
    let debited = Reply::Debited {
        remaining: 9.0,
        granted: 80.0,
        lease_id: "lease_elsewhere".into(),
        at: NOW - 7000,
        recorded: false,
    };
    let pending = waiting(studio.decider.resume(pending, debited, NOW));
    let Need::Record(hold) = pending.need().clone() else {
        panic!("the check waits for {:?}", pending.need());
    };
    assert_eq!(&*hold.lease_id, "lease_elsewhere");
    assert_eq!(hold.expires_at, NOW - 7000 + 20_000, "by the store's clock");
    let answer = done(studio.decider.resume(pending, Reply::Done(true), NOW));
    assert!(answer.allowed);
    assert_eq!(answer.reservation, Some(hold));
    assert_eq!(studio.decider.ledger().open_holds(), 0);
    assert_eq!(studio.wakes(Topic::Extend), 1, "9 of 80 is low");
}

#[test]
fn a_hold_that_the_shared_store_refuses_is_refunded_there() {
    let studio = Studio::shared();
    let pending = waiting(studio.check(3.0, FailureMode::Closed));
    let pending = waiting(studio.decider.resume(pending, plenty(), NOW));
    let pending = waiting(studio.decider.resume(pending, Reply::Done(false), NOW));
    assert!(matches!(pending.need(), Need::Refund(_)));
    let answer = done(studio.decider.resume(pending, Reply::Done(true), NOW));
    assert_eq!(answer.error, Some(Failure::StoreError));
}

#[test]
fn a_hold_of_which_the_shared_store_said_nothing_is_claimed_and_not_refunded_besides() {
    let studio = Studio::shared();
    let pending = waiting(studio.check(3.0, FailureMode::Closed));
    let pending = waiting(studio.decider.resume(pending, plenty(), NOW));
    let pending = waiting(studio.decider.resume(pending, Reply::Lost, NOW));
    assert!(matches!(pending.need(), Need::Cancel(_)));
    let answer = done(studio.decider.resume(pending, Reply::Gone, NOW));
    assert_eq!(answer.error, Some(Failure::StoreError));
}

#[test]
fn a_reply_to_another_need_is_not_taken() {
    let studio = Studio::shared();
    let pending = waiting(studio.check(3.0, FailureMode::Closed));
    assert!(
        !pending.takes(&Reply::Done(true)),
        "a debit is told in full"
    );
    assert!(!pending.takes(&Reply::Gone));
    assert!(pending.takes(&Reply::Done(false)));
    assert!(pending.takes(&Reply::Lost));
    let pending = waiting(studio.decider.resume(pending, plenty(), NOW));
    assert!(!pending.takes(&plenty()));
    assert!(!pending.takes(&Reply::Refused(Refusal::Short)));
    assert!(!pending.takes(&Reply::Gone));
}

#[test]
fn a_shared_store_that_is_short_is_extended_once() {
    let studio = Studio::shared();
    let pending = waiting(studio.check(3.0, FailureMode::Closed));
    let refused = Reply::Refused(Refusal::Short);
    let pending = waiting(studio.decider.resume(pending, refused.clone(), NOW));
    assert_eq!(*pending.need(), Need::Extend);
    let pending = waiting(studio.decider.resume(pending, Reply::Done(true), NOW));
    drafted(&pending);
    let answer = done(studio.decider.resume(pending, refused, NOW));
    assert_eq!(answer.error, Some(Failure::InsufficientBalance));
}

#[test]
fn a_shared_store_that_debits_and_records_at_once_is_asked_for_nothing_else() {
    let studio = Studio::shared();
    let pending = waiting(studio.check(3.0, FailureMode::Closed));
    let (draft, ttl) = drafted(&pending);
    assert_eq!((&*draft.lease_id, ttl), ("", 20_000));
    let held = Reply::Debited {
        remaining: 9.0,
        granted: 80.0,
        lease_id: "lease_elsewhere".into(),
        at: NOW - 7000,
        recorded: true,
    };
    assert!(pending.takes(&held));
    let answer = done(studio.decider.resume(pending, held, NOW));
    assert!(answer.allowed);
    let expected = Reservation {
        lease_id: "lease_elsewhere".into(),
        expires_at: NOW - 7000 + ttl,
        ..Reservation::clone(&draft)
    };
    assert_eq!(answer.reservation.as_deref(), Some(&expected));
    assert_eq!(studio.decider.ledger().open_holds(), 0);
}

#[test]
fn a_hold_that_was_recorded_at_once_is_cancelled_if_the_gate_denies_it() {
    let studio = Studio::shared();
    studio.put_flag(&flag(&[on_plan("plan_hobby"), balance_of("cred_render")]));
    let pending = waiting(studio.check(3.0, FailureMode::Closed));
    let (draft, _) = drafted(&pending);
    let held = Reply::Debited {
        remaining: 70.0,
        granted: 80.0,
        lease_id: "lease_elsewhere".into(),
        at: NOW,
        recorded: true,
    };
    let pending = waiting(studio.decider.resume(pending, held, NOW));
    let Need::Cancel(unused) = pending.need() else {
        panic!("the check waits for {:?}", pending.need());
    };
    assert_eq!(unused.id, draft.id);
    assert!(!done(studio.decider.resume(pending, Reply::Done(true), NOW)).allowed);
}

#[test]
fn a_hold_that_may_have_been_debited_and_recorded_at_once_is_claimed_and_nothing_else() {
    let studio = Studio::shared();
    for reply in [Reply::Done(true), Reply::Gone, Reply::Lost] {
        let pending = waiting(studio.check(3.0, FailureMode::Closed));
        let (draft, _) = drafted(&pending);
        let pending = waiting(studio.decider.resume(pending, Reply::Lost, NOW));
        assert_eq!(*pending.need(), Need::Cancel(draft));
        let answer = done(studio.decider.resume(pending, reply, NOW));
        assert_eq!(answer.error, Some(Failure::StoreError));
        assert_eq!(answer.reservation, None);
    }
}

#[test]
fn a_draft_that_was_refused_is_the_draft_of_the_second_try() {
    let studio = Studio::shared();
    let pending = waiting(studio.check(3.0, FailureMode::Closed));
    let (draft, _) = drafted(&pending);
    let refused = Reply::Refused(Refusal::Short);
    let pending = waiting(studio.decider.resume(pending, refused, NOW));
    let pending = waiting(studio.decider.resume(pending, Reply::Done(true), NOW));
    assert_eq!(drafted(&pending).0, draft);
}

fn drafted(pending: &Pending) -> (Arc<Reservation>, Millis) {
    match pending.need() {
        Need::Reserve { draft, ttl } => (Arc::clone(draft), *ttl),
        need => panic!("the check waits for {need:?}"),
    }
}

fn plenty() -> Reply {
    Reply::Debited {
        remaining: 70.0,
        granted: 80.0,
        lease_id: "lease_elsewhere".into(),
        at: NOW,
        recorded: false,
    }
}
