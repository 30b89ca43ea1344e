//! The lease service, scripted: what a vector has it answer, and what it was asked.

use schematic_core::leases::{NewLease, SlotKey};
use serde_json::{Value, json};

use crate::{
    fields::{T0, slot, text_of},
    run::Run,
};

impl Run {
    pub fn acquire_if_needed(&mut self, key: SlotKey<'_>, operation: &Value) -> Value {
        self.acquire(key, &operation["server"], &operation["install_during_wire"]);
        let live = self
            .ledger
            .lease(key)
            .filter(|lease| lease.expires_at > self.now);
        let mut result = self.wire();
        result["lease_id"] = json!(live.map(|lease| lease.lease_id.to_string()));
        result
    }

    pub fn acquire(&mut self, key: SlotKey<'_>, server: &Value, during: &Value) -> bool {
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

    pub fn is_live(&self, key: SlotKey<'_>) -> bool {
        let lease = self.ledger.lease(key);
        lease.is_some_and(|lease| lease.expires_at > self.now)
    }

    pub fn extend(&mut self, key: SlotKey<'_>, required: Option<f64>, server: &Value) {
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

    pub fn release_all(&mut self) -> Value {
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

    pub fn wire(&self) -> Value {
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
}
