//! One vector under way: a ledger, a clock that only the vector moves, and a scripted service.

use std::{collections::HashMap, sync::Arc};

use libtest_mimic::Failed;
use schematic_core::{
    Millis,
    leases::{
        AcquirePlan, ExtendPlan, Ids, Knobs, LeaseKnobs, Ledger, NewLease, Reservation,
        ReservationId, SlotKey,
    },
};
use serde_json::{Value, json};

use crate::{
    comparison::compare,
    fields::{T0, named_reservation, slot, text_of},
};

/// The state of a vector between two operations.
pub struct Run {
    pub now: Millis,
    pub knobs: LeaseKnobs,
    pub ledger: Ledger,
    pub ids: Ids,
    pub saved: HashMap<String, Arc<Reservation>>,
    pub acquires: usize,
    pub last_acquire: Option<AcquirePlan>,
    pub extends: usize,
    pub last_extend: Option<ExtendPlan>,
    pub released: Vec<String>,
}

pub type Checked = Result<(), Failed>;

impl Run {
    pub fn new(vector: &Value) -> Self {
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

    pub fn run(mut self, vector: &Value) -> Checked {
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

    pub fn perform(&mut self, operation: &Value) -> Value {
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
            "note_spent" => {
                let balance = operation["balance"].as_f64();
                self.ledger
                    .note_spent(key, amount("credits"), balance, self.now);
                json!({})
            }
            "was_refused" => {
                let balance = operation["balance"].as_f64();
                let credits = amount("credits");
                json!({"refused": self.ledger.was_refused(key, credits, balance, self.now)})
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

    pub fn install(&self, lease: &Value, (company, credit): &(String, String)) -> bool {
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

    pub fn id(&self, operation: &Value) -> ReservationId {
        operation["handle"].as_str().map_or_else(
            || ReservationId::parse(&text_of(operation, "id")),
            |handle| self.saved[handle].id.clone(),
        )
    }
}
