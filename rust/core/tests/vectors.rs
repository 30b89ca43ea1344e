//! Runs vector files against the in-memory ledger and the check flow, each vector as a test.
//!
//! The project's own vectors are in `tests/conformance/vectors`; further folders are named by the
//! environment variable `SCHEMATIC_VECTORS`, separated by `:`. The format is told in
//! `tests/conformance/README.md`.

#![allow(
    clippy::expect_used,
    reason = "a broken vector file is to stop its test"
)]

use std::{
    collections::{HashMap, VecDeque},
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use libtest_mimic::{Arguments, Failed, Trial};
use schematic_core::{
    Millis,
    engine::Terms,
    leases::{
        AcquirePlan, Basis, CheckFlow, Exported, ExtendPlan, FailureMode, Holder, Ids, Keys, Knobs,
        LeaseKnobs, Ledger, MAX_SAFE_INTEGER, Mode, NewLease, Outcome, Reservation, ReservationId,
        Settlement, SlotKey, Step, StepResult, whole_units,
    },
};
use serde_json::{Map, Value, json};

const T0: Millis = 1_700_000_000_000;
/// A check that asks for more than this goes round in circles.
const MOST_STEPS: usize = 20;
const OWN: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../tests/conformance/vectors"
);

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let trials = folders().iter().flat_map(|folder| trials(folder)).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn folders() -> Vec<PathBuf> {
    let named = std::env::var("SCHEMATIC_VECTORS").unwrap_or_default();
    let named = named.split(':').filter(|folder| !folder.is_empty());
    std::iter::once(OWN)
        .chain(named)
        .map(PathBuf::from)
        .collect()
}

fn trials(folder: &Path) -> Vec<Trial> {
    let Ok(entries) = fs::read_dir(folder) else {
        let missing = format!("the folder {} cannot be read", folder.display());
        return vec![Trial::test(folder.display().to_string(), move || {
            Err(missing.into())
        })];
    };
    let mut files: Vec<_> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|ending| ending == "json"))
        .collect();
    files.sort();
    files.iter().flat_map(|file| read(file)).collect()
}

fn read(file: &Path) -> Vec<Trial> {
    let text = fs::read(file).expect("the file is there");
    let content: Value = serde_json::from_slice(&text).expect("a vector file is JSON");
    let stem = file
        .file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let vectors = content["vectors"].as_array().cloned().unwrap_or_default();
    assert!(!vectors.is_empty(), "{} holds no vectors", file.display());
    assert!(
        vectors.iter().all(expects),
        "a vector in {} expects nothing",
        file.display()
    );
    vectors
        .into_iter()
        .filter(|vector| {
            vector["backends"]
                .as_array()
                .is_none_or(|names| names.contains(&json!("in_memory")))
        })
        .map(|vector| {
            let name = format!("{stem}::{}", text_of(&vector, "name"));
            // What only a whole client does is for the runner in Python; here it is counted.
            let for_clients = vector["layer"] == "client";
            Trial::test(name, move || Run::new(&vector).run(&vector)).with_ignored_flag(for_clients)
        })
        .collect()
}

/// A vector that expects nothing could not fail.
fn expects(vector: &Value) -> bool {
    let operations = vector["operations"].as_array().into_iter().flatten();
    operations
        .into_iter()
        .any(|operation| operation.get("expect").is_some())
}

/// One vector under way: a ledger, a clock that only the vector moves, and a scripted service.
struct Run {
    now: Millis,
    knobs: LeaseKnobs,
    ledger: Ledger,
    ids: Ids,
    saved: HashMap<String, Arc<Reservation>>,
    acquires: usize,
    last_acquire: Option<AcquirePlan>,
    extends: usize,
    last_extend: Option<ExtendPlan>,
    released: Vec<String>,
}

type Checked = Result<(), Failed>;

impl Run {
    fn new(vector: &Value) -> Self {
        let config = &vector["given"]["config"];
        let common = LeaseKnobs::default();
        let millis = |name: &str, default| config[name].as_i64().unwrap_or(default);
        let knobs = LeaseKnobs {
            lease_size: config["lease_size"].as_f64().unwrap_or(common.lease_size),
            lease_duration: millis("lease_duration_ms", common.lease_duration),
            reservation_ttl: millis("reservation_ttl_ms", common.reservation_ttl),
            low_water_mark: config["low_water_mark"]
                .as_f64()
                .unwrap_or(common.low_water_mark),
        };
        let run = Self {
            now: T0,
            knobs,
            ledger: Ledger::new(Knobs::new(knobs)),
            ids: Ids::new([1, 2]),
            saved: HashMap::new(),
            acquires: 0,
            last_acquire: None,
            extends: 0,
            last_extend: None,
            released: Vec::new(),
        };
        for lease in vector["given"]["leases"].as_array().into_iter().flatten() {
            run.install(lease, &slot(lease));
        }
        run
    }

    fn run(mut self, vector: &Value) -> Checked {
        for (at, operation) in vector["operations"]
            .as_array()
            .into_iter()
            .flatten()
            .enumerate()
        {
            let result = self.perform(operation);
            let name = text_of(operation, "op");
            let Some(expected) = operation.get("expect") else {
                continue;
            };
            compare(expected, &result).map_err(|fault| {
                Failed::from(format!(
                    "operation {at} ({name}): {fault}\nresult: {result}"
                ))
            })?;
        }
        Ok(())
    }

    fn perform(&mut self, operation: &Value) -> Value {
        let (company, credit) = slot(operation);
        let key = SlotKey {
            company_id: &company,
            credit_type_id: &credit,
        };
        let amount = |name: &str| operation[name].as_f64().expect(name);
        let pin = operation["pin_lease_id"].as_str();
        match text_of(operation, "op").as_str() {
            "advance_clock" => {
                self.now += operation["ms"].as_i64().expect("ms");
                json!({})
            }
            "replace_lease" => json!({"written": self.install(operation, &slot(operation))}),
            "drop_lease" => {
                self.ledger.drop_lease(key);
                json!({})
            }
            "try_reserve" => match self.ledger.try_reserve(key, amount("credits"), self.now) {
                Ok(debit) => json!({"balance": debit.remaining, "lease_id": &*debit.lease_id}),
                Err(_) => json!({"balance": null}),
            },
            "refund_lease" => {
                self.ledger.refund(key, amount("credits"), pin);
                json!({})
            }
            "extend_lease" => {
                let expires_at = operation["expires_at_ms"].as_i64().map(|at| T0 + at);
                self.ledger
                    .extend(key, amount("granted_total"), expires_at, pin);
                json!({})
            }
            "get_lease" => self
                .ledger
                .lease(key)
                .map_or(json!({"exists": false}), |lease| {
                    json!({
                        "exists": true,
                        "lease_id": &*lease.lease_id,
                        "granted_amount": lease.granted,
                        "local_remaining_credits": lease.remaining,
                        "expires_at_ms": lease.expires_at - T0,
                    })
                }),
            "reserved_credits" => json!({"total": self.ledger.reserved_credits(key)}),
            "reservation_count" => json!({"count": self.ledger.open_holds()}),
            "sweep_expired" => json!({"swept": self.ledger.sweep(self.now)}),
            "add_reservation" => {
                self.ledger
                    .add(&Arc::new(named_reservation(operation)), None, self.now);
                json!({})
            }
            "get_reservation" => json!({"exists": self.ledger.holds(&self.id(operation))}),
            // Claim and refund are one step of the ledger. What a crash between them would leave is a claim of the
            // whole hold, with nothing to refund.
            "consume_reservation" if operation["crash_before_refund"] == true => {
                let claimed = self
                    .ledger
                    .consume_by_id(&self.id(operation), f64::INFINITY);
                json!({"throws": claimed.is_some()})
            }
            "consume_reservation" => {
                let consumed = self
                    .ledger
                    .consume_by_id(&self.id(operation), amount("credits"));
                json!({"consumed": consumed})
            }
            "acquire_if_needed" => self.acquire_if_needed(key, operation),
            "maybe_extend" => {
                self.extend(
                    key,
                    operation["required_credits"].as_f64(),
                    &operation["server"],
                );
                self.wire()
            }
            "release_all_local_leases" => self.release_all(),
            "check" => self.check(operation),
            "track" => self.track(operation),
            other => panic!("unknown operation {other}"),
        }
    }

    fn install(&self, lease: &Value, (company, credit): &(String, String)) -> bool {
        let key = SlotKey {
            company_id: company,
            credit_type_id: credit,
        };
        let lease_id = text_of(lease, "lease_id");
        let lease = NewLease {
            lease_id: &lease_id,
            granted: lease["granted_amount"].as_f64().expect("granted_amount"),
            expires_at: T0 + lease["expires_at_ms"].as_i64().expect("expires_at_ms"),
        };
        self.ledger.install(key, &lease, self.now).written
    }

    fn id(&self, operation: &Value) -> ReservationId {
        operation["handle"].as_str().map_or_else(
            || ReservationId::parse(&text_of(operation, "id")),
            |handle| self.saved[handle].id.clone(),
        )
    }

    // The lease service, scripted

    fn acquire_if_needed(&mut self, key: SlotKey<'_>, operation: &Value) -> Value {
        self.acquire(key, &operation["server"], &operation["install_during_wire"]);
        let live = self
            .ledger
            .lease(key)
            .filter(|lease| lease.expires_at > self.now);
        let mut result = self.wire();
        result["lease_id"] = json!(live.map(|lease| lease.lease_id.to_string()));
        result
    }

    fn acquire(&mut self, key: SlotKey<'_>, server: &Value, during: &Value) -> bool {
        let Some(plan) = self.ledger.plan_acquire(key, self.now) else {
            return true;
        };
        self.acquires += 1;
        self.last_acquire = Some(plan);
        if during.is_object() {
            self.install(during, &slot(during));
        }
        // An answer may take so long that the lease has ended when it comes.
        self.now += server["takes_ms"].as_i64().unwrap_or(0);
        let Value::Object(lease) = &server["lease"] else {
            return false;
        };
        let lease_id = text_of(&server["lease"], "lease_id");
        let granted = NewLease {
            lease_id: &lease_id,
            granted: lease["granted_amount"].as_f64().expect("granted_amount"),
            expires_at: T0 + lease["expires_at_ms"].as_i64().expect("expires_at_ms"),
        };
        let installed = self.ledger.install(key, &granted, self.now);
        if installed.lease_id.is_some_and(|there| *there != *lease_id) {
            self.released.push(lease_id);
        }
        self.is_live(key)
    }

    fn is_live(&self, key: SlotKey<'_>) -> bool {
        let lease = self.ledger.lease(key);
        lease.is_some_and(|lease| lease.expires_at > self.now)
    }

    fn extend(&mut self, key: SlotKey<'_>, required: Option<f64>, server: &Value) {
        let Some(plan) = self.ledger.plan_extend(key, required, self.now) else {
            return;
        };
        self.extends += 1;
        let lease = &server["lease"];
        if let Some(total) = lease["granted_total"].as_f64() {
            let expires_at = lease["expires_at_ms"].as_i64().map(|at| T0 + at);
            self.ledger
                .extend(key, total, expires_at, Some(&plan.lease_id));
        }
        self.last_extend = Some(plan);
    }

    fn release_all(&mut self) -> Value {
        for lease in self.ledger.live_leases(self.now) {
            self.ledger.drop_lease(SlotKey {
                company_id: &lease.company_id,
                credit_type_id: &lease.credit_type_id,
            });
            self.released.push(lease.lease_id.to_string());
        }
        let mut result = self.wire();
        result["remaining_slots"] = json!(self.ledger.live_leases(self.now).len());
        result
    }

    fn wire(&self) -> Value {
        let acquire = self.last_acquire.as_ref();
        let extend = self.last_extend.as_ref();
        json!({
            "wire_acquires": self.acquires,
            "last_acquire_requested_amount": acquire.map(|plan| plan.requested_amount),
            "last_acquire_expires_at_ms": acquire.map(|plan| plan.expires_at - T0),
            "wire_extends": self.extends,
            "last_extend_lease_id": extend.map(|plan| &*plan.lease_id),
            "last_extend_additional_amount": extend.map(|plan| plan.additional_amount),
            "last_extend_expires_at_ms": extend.map(|plan| plan.expires_at - T0),
            "released_lease_ids": self.released,
        })
    }

    // The flows

    fn check(&mut self, operation: &Value) -> Value {
        let company_id = text_of(&operation["company"], "id");
        let keys = Keys::new(&[("id", &company_id)]);
        let holder = Holder::new(&company_id, Some(keys), None);
        let mode = match operation["on_acquire_failure"].as_str() {
            Some("fail-open") => FailureMode::Open,
            _ => FailureMode::Closed,
        };
        let usage = operation["usage"].as_f64().expect("usage");
        let event = operation["event_subtype"].as_str().map(Arc::from);
        let mut engine = Engine::new(operation, usage);
        let mut flow = CheckFlow::begin(usage, event, mode, holder);
        let mut steps = 0;
        let outcome = loop {
            let answer = match flow.step() {
                Step::Done(outcome) => break Some(outcome),
                Step::Plain => break None,
                step => self.answer(&flow, step, operation, &mut engine),
            };
            flow.advance(answer, self.now, self.knobs.reservation_ttl, &self.ids);
            steps += 1;
            assert!(steps < MOST_STEPS, "the check does not end");
        };
        let mut result = self.wire();
        result["engine_calls"] = json!(engine.calls);
        self.describe(outcome, flow.into_hold(), &engine, operation, &mut result);
        result
    }

    fn answer(
        &mut self,
        flow: &CheckFlow,
        step: Step,
        operation: &Value,
        engine: &mut Engine,
    ) -> StepResult {
        let key = flow.slot().unwrap_or(SlotKey {
            company_id: "",
            credit_type_id: "",
        });
        let hold = || flow.hold().expect("credits are debited");
        match step {
            Step::Probe => StepResult::Probed(engine.probe()),
            Step::Reserve => match self.ledger.try_reserve(key, flow.cost(), self.now) {
                Ok(debit) => StepResult::Debited(debit),
                Err(refusal) => StepResult::Refused(refusal),
            },
            Step::Acquire => StepResult::Acquired(self.acquire(
                key,
                &operation["server"]["acquire"],
                &Value::Null,
            )),
            Step::Extend => {
                self.extend(key, Some(flow.cost()), &operation["server"]["extend"]);
                StepResult::Extended
            }
            Step::Record => {
                assert!(
                    self.ledger.add(hold(), None, self.now),
                    "a fresh id is always recorded"
                );
                StepResult::Recorded
            }
            Step::Gate { balance } => StepResult::Evaluated(engine.gate(balance, flow.cost())),
            Step::Cancel => {
                self.ledger.consume(hold(), 0.0);
                StepResult::Cancelled
            }
            Step::Refund => unreachable!("a fresh id is always recorded"),
            Step::Open => StepResult::Evaluated(engine.open(flow)),
            Step::Plain | Step::Done(_) => unreachable!("these end the loop"),
        }
    }

    fn describe(
        &mut self,
        outcome: Option<Outcome>,
        hold: Option<Arc<Reservation>>,
        engine: &Engine,
        operation: &Value,
        result: &mut Value,
    ) {
        let Some(outcome) = outcome else {
            result["fallback_called"] = json!(true);
            result["reason"] = json!("fallback");
            result["has_reservation"] = json!(false);
            return;
        };
        let allowed = outcome.allowed;
        result["allowed"] = json!(allowed);
        result["fallback_called"] = json!(false);
        result["err"] = json!(
            outcome
                .failure()
                .map(schematic_core::leases::Failure::as_str)
        );
        result["reason"] = json!(match outcome.basis {
            Basis::Gate => engine.reason.clone(),
            Basis::Open(failure) => format!("{} ({})", engine.reason, failure.as_fail_open()),
            Basis::Static(failure) if allowed => failure.as_fail_open().to_owned(),
            Basis::Static(failure) => failure.as_str().to_owned(),
        });
        result["has_reservation"] = json!(hold.is_some());
        let Some(hold) = hold else {
            return;
        };
        result["reservation"] = json!({
            "lease_id": &*hold.lease_id,
            "credit_type_id": &*hold.terms.credit_id,
            "event_subtype": &*hold.terms.event_subtype,
            "quantity_reserved": hold.quantity_reserved,
            "credits_reserved": hold.credits_reserved,
            "consumption_rate": hold.terms.rate,
        });
        if let Some(name) = operation["save_reservation_as"].as_str() {
            self.saved.insert(name.to_owned(), hold);
        }
    }

    fn track(&mut self, operation: &Value) -> Value {
        let hold = Arc::clone(&self.saved[&text_of(operation, "handle")]);
        let quantity = operation["actual_quantity"]
            .as_f64()
            .expect("actual_quantity");
        let Some(settlement) = Settlement::begin(&hold, quantity) else {
            return json!({"settled_locally": false, "track": null});
        };
        let hold = settlement.reservation();
        let claimed = settlement
            .claim()
            .and_then(|credits| self.ledger.consume(hold, credits));
        json!({
            "settled_locally": claimed.is_some(),
            "track": {
                "event": &*hold.terms.event_subtype,
                "quantity": settlement.units(),
                "lease_id": &*hold.lease_id,
            },
        })
    }
}

/// The scripted engine: it answers from the vector and notes what it was asked.
struct Engine {
    script: VecDeque<Value>,
    balances: Map<String, Value>,
    usage: f64,
    reason: String,
    calls: Vec<Value>,
}

impl Engine {
    fn new(operation: &Value, usage: f64) -> Self {
        let script = operation["engine"].as_array().cloned().unwrap_or_default();
        let balances = operation["company"]["credit_balances"].as_object();
        Self {
            script: script.into(),
            balances: balances.cloned().unwrap_or_default(),
            usage,
            reason: String::new(),
            calls: Vec::new(),
        }
    }

    /// The next scripted answer, or `None` where the script has the engine fail.
    fn next(&mut self, call: Value) -> Option<Value> {
        self.calls.push(call);
        let answer = self.script.pop_front();
        let answer = answer.expect("the script answers every question to the engine");
        if answer.get("error").is_some() {
            return None;
        }
        answer["reason"]
            .as_str()
            .unwrap_or_default()
            .clone_into(&mut self.reason);
        Some(answer)
    }

    fn probe(&mut self) -> Option<Arc<Terms>> {
        let credit = self
            .script
            .front()
            .map(|answer| &answer["entitlement"]["credit_id"]);
        let real = credit
            .and_then(Value::as_str)
            .and_then(|credit| self.balances.get(credit))
            .cloned();
        let answer = self.next(json!({"credit_balance": real.unwrap_or_default()}))?;
        let entitlement = &answer["entitlement"];
        (entitlement["value_type"] == "credit").then_some(())?;
        let event = entitlement["event_subtype"].as_str();
        Some(Arc::new(Terms {
            credit_id: entitlement["credit_id"].as_str()?.into(),
            event_subtype: event.unwrap_or_default().into(),
            rate: entitlement["consumption_rate"].as_f64()?,
        }))
    }

    fn gate(&mut self, balance: f64, cost: f64) -> Option<bool> {
        self.next(json!({"credit_balance": balance, "credit_cost": cost}))?["value"].as_bool()
    }

    fn open(&mut self, flow: &CheckFlow) -> Option<bool> {
        let event = flow.terms().map(|terms| terms.event_subtype.to_string());
        let usage = json!({"event_subtype": event, "quantity": whole_units(self.usage)});
        let call = json!({"credit_balance": "max_safe_integer", "event_usage": usage});
        debug_assert_eq!(MAX_SAFE_INTEGER, 2f64.powi(53) - 1.0);
        self.next(call)?["value"].as_bool()
    }
}

fn named_reservation(operation: &Value) -> Reservation {
    let text = |name: &str| Arc::from(text_of(operation, name));
    let number = |name: &str| operation[name].as_f64().expect(name);
    Reservation {
        id: ReservationId::parse(&text_of(operation, "id")),
        lease_id: operation["lease_id"].as_str().unwrap_or_default().into(),
        mode: Mode::Client,
        holder: Holder::new(&text_of(operation, "company_id"), None, None),
        terms: Arc::new(Terms {
            credit_id: text("credit_type_id"),
            event_subtype: text("event_subtype"),
            rate: number("consumption_rate"),
        }),
        quantity_reserved: number("quantity_reserved"),
        credits_reserved: number("credits_reserved"),
        expires_at: T0 + operation["expires_at_ms"].as_i64().expect("expires_at_ms"),
        exported: Exported::default(),
    }
}

fn slot(object: &Value) -> (String, String) {
    let id = |name: &str| object[name].as_str().unwrap_or_default().to_owned();
    (id("company_id"), id("credit_type_id"))
}

fn text_of(object: &Value, name: &str) -> String {
    let text = object[name].as_str();
    text.unwrap_or_else(|| panic!("{name} is a text in {object}"))
        .to_owned()
}

/// Everything expected is there; numbers compare as doubles.
fn compare(expected: &Value, found: &Value) -> Result<(), String> {
    match (expected, found) {
        (Value::Object(expected), _) => expected.iter().try_for_each(|(name, expected)| {
            let found = found.get(name);
            let found = found.ok_or_else(|| format!("{name} is not in the result"))?;
            compare(expected, found).map_err(|fault| format!("{name}: {fault}"))
        }),
        (Value::Array(wanted), Value::Array(there)) if wanted.len() == there.len() => wanted
            .iter()
            .zip(there)
            .try_for_each(|(wanted, there)| compare(wanted, there)),
        (Value::Number(wanted), Value::Number(there)) if wanted.as_f64() == there.as_f64() => {
            Ok(())
        }
        _ if expected == found => Ok(()),
        _ => Err(format!("expected {expected}, found {found}")),
    }
}
