//! The scripted engine.

use std::{collections::VecDeque, sync::Arc};

use schematic_core::{
    engine::Terms,
    leases::{CheckFlow, MAX_SAFE_INTEGER, whole_units},
};
use serde_json::{Map, Value, json};

/// The scripted engine: its answers come from the vector, and what it is asked is noted.
pub struct Engine {
    script: VecDeque<Value>,
    balances: Map<String, Value>,
    usage: f64,
    pub reason: String,
    pub calls: Vec<Value>,
}

impl Engine {
    pub fn new(operation: &Value, usage: f64) -> Self {
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
    pub fn next(&mut self, call: Value) -> Option<Value> {
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

    pub fn probe(&mut self) -> Option<Arc<Terms>> {
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

    pub fn gate(&mut self, balance: f64, cost: f64) -> Option<bool> {
        self.next(json!({"credit_balance": balance, "credit_cost": cost}))?["value"].as_bool()
    }

    pub fn open(&mut self, flow: &CheckFlow) -> Option<bool> {
        let event = flow.terms().map(|terms| terms.event_subtype.to_string());
        let usage = json!({"event_subtype": event, "quantity": whole_units(self.usage)});
        let call = json!({"credit_balance": "max_safe_integer", "event_usage": usage});
        debug_assert_eq!(MAX_SAFE_INTEGER, 2f64.powi(53) - 1.0);
        self.next(call)?["value"].as_bool()
    }
}
