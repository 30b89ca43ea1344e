"""Event capture: batches that are accepted or refused as a whole, and what they bill."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.emulator.conftest import Wire


def test_a_batch_is_taken_whole_and_kept_in_order(wire: Wire) -> None:
    events = [wire.event(number) for number in range(100)]
    assert wire.batch(*events).json() == {"events": 100}
    wire.track(7)
    assert [e["body"]["quantity"] for e in wire.emulator.events()] == [*range(100), 7]


def test_a_batch_of_more_than_a_hundred_is_refused_whole(wire: Wire) -> None:
    answer = wire.batch(*[wire.event(1)] * 101)
    assert answer.status_code == 400
    assert answer.json() == {"error": "batch too large", "max_size": 100}
    assert wire.emulator.events() == []


@pytest.mark.parametrize("key", ["wrong", None, 7])
def test_one_wrong_api_key_refuses_the_whole_batch(wire: Wire, key: object) -> None:
    answer = wire.batch(wire.event(1), {**wire.event(1), "api_key": key})
    assert (answer.status_code, "events[1]" in answer.json()["error"]) == (401, True)
    assert wire.balance() == 1_000_000_000


@pytest.mark.parametrize(
    "change", [{"type": "purchase"}, {"type": None}, {"body": None}, {"idempotency_key": 7}]
)
def test_a_malformed_event_refuses_the_batch_by_place(wire: Wire, change: dict[str, Any]) -> None:
    answer = wire.batch(wire.event(1), {**wire.event(1), **change})
    assert (answer.status_code, "events[1]" in answer.json()["error"]) == (400, True)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"events": {}}', b'{"events": [7]}'])
def test_a_body_that_is_no_batch_is_400(wire: Wire, content: bytes) -> None:
    assert wire.http.post("/batch", content=content).status_code == 400


def test_a_repeated_key_is_billed_once_and_marked(wire: Wire) -> None:
    wire.batch(wire.event(5, "k"), wire.event(5, "k"))
    wire.track(5, "k")
    assert [e.get("duplicate", False) for e in wire.emulator.events()] == [False, True, True]
    assert wire.emulator.state()["billed"] == {"comp_acme": {"inference_tokens": 5}}
    assert wire.balance() == 1_000_000_000 - 10


def test_a_key_is_forgotten_after_a_day(wire: Wire) -> None:
    wire.track(5, "k")
    wire.emulator.advance(86_399)
    wire.track(5, "k")
    wire.emulator.advance(2)
    wire.track(5, "k")
    assert [e.get("duplicate", False) for e in wire.emulator.events()] == [False, True, False]


def test_a_track_with_a_lease_is_paid_by_the_lease(wire: Wire) -> None:
    lease = wire.lease(100)
    wire.track(7, lease_id=lease)
    state = wire.emulator.state()
    assert state["leases"][lease]["tracked"] == 14
    assert state["companies"]["comp_acme"]["balances"] == {"credit_inference": 1_000_000_000 - 100}
    assert state["billed"] == {"comp_acme": {"inference_tokens": 7}}


def test_a_track_without_a_quantity_counts_one(wire: Wire) -> None:
    wire.track()
    assert wire.emulator.state()["billed"] == {"comp_acme": {"inference_tokens": 1}}


def test_a_fractional_quantity_is_billed_in_whole_units(wire: Wire) -> None:
    wire.track(2.25)
    assert wire.balance() == 1_000_000_000 - 6


def test_a_lease_pays_no_more_than_it_was_granted(wire: Wire) -> None:
    lease = wire.lease(50, "comp_few")
    wire.track(30, lease_id=lease, company={"id": "few"})
    state = wire.emulator.state()
    assert state["leases"][lease]["tracked"] == 50
    assert state["companies"]["comp_few"]["balances"] == {"credit_inference": -10}
    assert state["companies"]["comp_few"]["overage"] == {"credit_inference": 10}
    assert state["anomalies"] == {"track event beyond its lease": 1}


def test_an_event_of_an_expired_lease_is_billed_to_the_balance(wire: Wire) -> None:
    lease = wire.lease(50, "comp_few", seconds=10)
    wire.emulator.advance(11)
    wire.track(5, lease_id=lease, company={"id": "few"})
    assert wire.balance("comp_few") == 40
    assert wire.emulator.state()["anomalies"] == {"track event of an ended lease": 1}


def test_an_event_of_an_unknown_lease_is_billed_to_the_company(wire: Wire) -> None:
    wire.track(5, lease_id="lse_unknown", company={"id": "few"})
    assert wire.balance("comp_few") == 40
    assert list(wire.emulator.state()["anomalies"]) == [
        "track event of an unknown lease or reservation"
    ]


def test_a_lease_is_paid_by_its_own_company_whatever_the_event_says(wire: Wire) -> None:
    lease = wire.lease(50, "comp_few")
    wire.track(5, lease_id=lease, company={"id": "acme"})
    assert wire.emulator.state()["leases"][lease]["tracked"] == 10
    assert wire.balance() == 1_000_000_000
    assert wire.emulator.state()["anomalies"] == {
        "track event of one company with the lease of another": 1
    }


def test_the_lease_wins_over_the_reservation(wire: Wire) -> None:
    lease = wire.lease(10, "comp_few")
    reservation = wire.reserve(10, "few").json()["data"]["reservation"]["id"]
    wire.track(5, lease_id=lease, reservation_id=reservation, company={"id": "few"})
    state = wire.emulator.state()
    assert state["leases"][lease]["tracked"] == 10
    assert state["reservations"][reservation]["status"] == "held"


@pytest.mark.parametrize("quantity", [-1, "many", 2**63, True, [1]])
def test_a_quantity_that_cannot_be_billed_is_kept_and_counted_as_an_anomaly(
    wire: Wire, quantity: object
) -> None:
    wire.batch({**wire.event(), "body": {**wire.event()["body"], "quantity": quantity}})
    assert wire.emulator.state()["anomalies"] == {"unreadable track event": 1}
    assert wire.emulator.state()["events"] == 1
    assert wire.balance() == 1_000_000_000


def test_an_event_that_no_credit_meters_moves_metrics_only(wire: Wire) -> None:
    wire.track(2, event="report_exported")
    company = wire.emulator.state()["companies"]["comp_acme"]
    assert company["balances"] == {"credit_inference": 1_000_000_000}
    assert {m["event_subtype"]: m["value"] for m in company["metrics"]} == {
        "inference_tokens": 0,
        "report_exported": 5,
    }


def test_a_metric_row_that_a_rule_reads_is_made_when_its_event_comes(wire: Wire) -> None:
    wire.emulator.set_company(
        {
            "id": "comp_new",
            "account_id": "acct_demo",
            "environment_id": "env_demo",
            "keys": {"id": "new"},
            "plan_ids": ["plan_pro"],
        }
    )
    wire.track(10, event="report_exported", company={"id": "new"})
    assert wire.check("exports", "new").json()["data"]["value"] is False


def test_a_company_without_the_credit_is_not_billed_in_it(wire: Wire) -> None:
    wire.emulator.set_company(
        {
            "id": "comp_new",
            "account_id": "acct_demo",
            "environment_id": "env_demo",
            "keys": {"id": "new"},
        }
    )
    wire.track(10, company={"id": "new"})
    state = wire.emulator.state()
    assert state["companies"]["comp_new"]["balances"] == {}
    assert state["billed"] == {"comp_new": {"inference_tokens": 10}}


def test_an_identify_merges_keys_and_traits_of_whom_it_knows(wire: Wire) -> None:
    identify = {
        "api_key": wire.emulator.api_key,
        "type": "identify",
        "body": {
            "keys": {"id": "grace", "badge": "7"},
            "traits": {"trait_beta": True, "unknown": 1},
            "company": {"keys": {"id": "acme", "slug": "acme-inc"}},
        },
    }
    assert wire.batch(identify).status_code == 200
    data = wire.http.post(
        "/flags/beta/check", json={"user": {"badge": "7"}, "company": {"slug": "acme-inc"}}
    ).json()["data"]
    assert (data["user_id"], data["company_id"], data["value"]) == ("user_grace", "comp_acme", True)


def test_an_identify_makes_nobody(wire: Wire) -> None:
    body = {"keys": {"id": "stranger"}, "company": {"keys": {"id": "strange-inc"}}}
    wire.batch({"api_key": wire.emulator.api_key, "type": "identify", "body": body})
    assert "user_id" not in wire.check("beta", user={"id": "stranger"}).json()["data"]


def test_a_flag_check_event_changes_nothing(wire: Wire) -> None:
    body = {"flag_key": "inference", "value": True, "reason": "why"}
    wire.batch({"api_key": wire.emulator.api_key, "type": "flag_check", "body": body})
    state = wire.emulator.state()
    assert (state["events"], state["billed"], wire.balance()) == (1, {}, 1_000_000_000)


def test_ten_thousand_events_page_out_whole(wire: Wire) -> None:
    batch = [wire.event(1)] * 100
    for _ in range(101):
        wire.batch(*batch)
    assert len(wire.emulator.events()) == 10_100
