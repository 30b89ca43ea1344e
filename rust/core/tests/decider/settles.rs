//! Settles and their events.

use schematic_core::{
    decider::FlagRequest,
    engine::Preflight,
    leases::{Mode, Reservation},
};
use serde_json::{Value, json};
use std::sync::Arc;

use crate::studio::{COMPANY, NOW, Studio, balance_of, company, condition, flag, owned};

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
