//! A studio that renders frames at two credits each: its entities, and a decider that a test looks into.

use schematic_core::{
    Millis,
    decider::{CheckAnswer, CheckRequest, Decider, DeciderSettings, Pending, Progress, Topic},
    leases::{FailureMode, Knobs, LeaseKnobs, NewLease, Reservation, SlotKey},
    wire::{parse_company, parse_flag, parse_user},
};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex, PoisonError};

pub const NOW: Millis = 1_750_000_000_000;
pub const SEED: [u64; 2] = [8, 13];
pub const SLOT: SlotKey<'_> = SlotKey {
    company_id: "comp_heron",
    credit_type_id: "cred_render",
};
pub const COMPANY: &[(&str, &str)] = &[("slug", "heron")];
pub const USER: &[(&str, &str)] = &[("email", "ada@heron.example")];

pub fn owned(mut entity: Value) -> Value {
    entity["account_id"] = json!("acct");
    entity["environment_id"] = json!("env");
    entity
}

pub fn condition(kind: &str, mut fields: Value) -> Value {
    fields["id"] = json!(format!("cond_{kind}"));
    fields["condition_type"] = json!(kind);
    fields["trait_value"] = json!("");
    owned(fields)
}

pub fn balance_of(credit: &str) -> Value {
    condition(
        "credit",
        json!({"operator": "lte", "credit_id": credit, "consumption_rate": 2.0,
            "event_subtype": "frames_rendered"}),
    )
}

pub fn on_plan(plan: &str) -> Value {
    condition("plan", json!({"operator": "eq", "resource_ids": [plan]}))
}

/// A flag that is on for those who meet all conditions.
pub fn flag(conditions: &[Value]) -> Value {
    let rule = json!({
        "id": "rule_metered", "name": "Rendering", "rule_type": "plan_entitlement", "priority": 0,
        "value": true, "conditions": conditions,
    });
    owned(
        json!({"id": "flag_render", "key": "render", "default_value": false, "rules": [owned(rule)]}),
    )
}

/// A company that pays two credits a frame.
pub fn company() -> Value {
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

pub fn user() -> Value {
    owned(json!({"id": "user_ada", "keys": {"email": "ada@heron.example"}}))
}

pub struct Studio {
    pub decider: Decider,
    woken: Arc<Mutex<Vec<Topic>>>,
}

impl Studio {
    pub fn empty() -> Self {
        Self::of(false)
    }

    /// One whose leases live elsewhere.
    pub fn shared() -> Self {
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
            journal: None,
        });
        Self { decider, woken }
    }

    pub fn with(flag: &Value, company: &Value) -> Self {
        let studio = Self::empty();
        studio.put_flag(flag);
        studio.put_company(company);
        studio
    }

    /// One that has a lease of 80 credits, too.
    pub fn with_lease(flag: &Value, company: &Value) -> Self {
        let studio = Self::with(flag, company);
        studio.install("lease_amber", 80.0, NOW + 40_000);
        studio
    }

    pub fn put_flag(&self, flag: &Value) {
        let flag = parse_flag(flag.to_string().as_bytes()).expect("a flag");
        self.decider.cache().flags().put(flag);
    }

    pub fn put_company(&self, company: &Value) {
        let company = parse_company(company.to_string().as_bytes()).expect("a company");
        self.decider.cache().companies().put(company);
    }

    pub fn put_user(&self, user: &Value) {
        let user = parse_user(user.to_string().as_bytes()).expect("a user");
        self.decider.cache().users().put(user);
    }

    pub fn install(&self, lease_id: &str, granted: f64, expires_at: Millis) {
        let lease = NewLease {
            lease_id,
            granted,
            expires_at,
        };
        assert!(self.decider.ledger().install(SLOT, &lease, NOW).written);
    }

    pub fn check(&self, usage: f64, mode: FailureMode) -> Progress {
        let request = CheckRequest {
            usage,
            mode,
            ttl: None,
            ..request()
        };
        self.decider.check(&request, NOW)
    }

    pub fn allow(&self, usage: f64) -> Arc<Reservation> {
        let answer = done(self.check(usage, FailureMode::Closed));
        assert!(answer.allowed, "{}", &*answer.reason);
        answer.reservation.expect("credits are held")
    }

    pub fn remaining(&self) -> f64 {
        let lease = self.decider.ledger().lease(SLOT);
        lease.expect("the lease is there").remaining
    }

    pub fn assert_nothing_is_held(&self) {
        let ledger = self.decider.ledger();
        assert_eq!(
            (ledger.open_holds(), ledger.reserved_credits(SLOT)),
            (0, 0.0)
        );
    }

    /// Every event that waits, oldest billing first.
    pub fn events(&self) -> Vec<Value> {
        let Some(batch) = self.decider.take_batch() else {
            return Vec::new();
        };
        let body: Value = serde_json::from_slice(&batch.body()).expect("a batch is JSON");
        body["events"].as_array().expect("events").clone()
    }

    /// The body of the one event that waits.
    pub fn event(&self, kind: &str) -> Value {
        let events = self.events();
        assert_eq!(events.len(), 1, "{events:?}");
        assert_eq!(events[0]["type"], kind);
        events[0]["body"].clone()
    }

    pub fn wakes(&self, topic: Topic) -> usize {
        let woken = self.woken.lock().unwrap_or_else(PoisonError::into_inner);
        woken.iter().filter(|there| **there == topic).count()
    }
}

/// A check of fifteen frames, 30 credits.
pub fn request() -> CheckRequest<'static> {
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

pub fn done(progress: Progress) -> CheckAnswer {
    match progress {
        Progress::Done(answer) => answer,
        Progress::Pending(pending) => panic!("the check waits for {:?}", pending.need()),
    }
}

pub fn waiting(progress: Progress) -> Box<Pending> {
    match progress {
        Progress::Pending(pending) => pending,
        Progress::Done(answer) => panic!("the check is decided: {}", &*answer.reason),
    }
}
