//! What vectors write: slots, texts, reservations.

use std::sync::Arc;

use schematic_core::{
    Millis,
    engine::Terms,
    leases::{Exported, Holder, Mode, Reservation, ReservationId},
};
use serde_json::Value;

/// When every vector begins.
pub const T0: Millis = 1_700_000_000_000;

pub fn named_reservation(operation: &Value) -> Reservation {
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

pub fn slot(object: &Value) -> (String, String) {
    let id = |name: &str| object[name].as_str().unwrap_or_default().to_owned();
    (id("company_id"), id("credit_type_id"))
}

pub fn text_of(object: &Value, name: &str) -> String {
    let text = object[name].as_str();
    text.unwrap_or_else(|| panic!("{name} is a text in {object}"))
        .to_owned()
}
