//! Checks that need no lease.

use schematic_core::{
    decider::CheckRequest,
    leases::{Failure, FailureMode},
};
use serde_json::{Value, json};

use crate::studio::{NOW, Studio, balance_of, company, condition, done, flag, owned, request};

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
