//! Checks and settles by the flows, with every step performed against the ledger.

use std::sync::Arc;

use schematic_core::leases::{
    Basis, CheckFlow, FailureMode, Holder, Keys, Outcome, Reservation, Settlement, SlotKey, Step,
    StepResult,
};
use serde_json::{Value, json};

use crate::{engine::Engine, fields::text_of, run::Run};

/// A check that asks for more than this goes round in circles.
const MOST_STEPS: usize = 20;

impl Run {
    pub fn check(&mut self, operation: &Value) -> Value {
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

    pub fn answer(
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

    pub fn describe(
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

    pub fn track(&mut self, operation: &Value) -> Value {
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
