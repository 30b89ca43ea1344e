"""The endpoints of leases and checks: their responses, and requests that are repeated."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from schematic_native.emulator import Emulator
    from tests.emulator.conftest import Wire


def test_an_acquired_lease_has_every_field_of_the_wire(wire: Wire) -> None:
    body = wire.acquire(100.5).json()
    assert set(body) == {"data", "params"}
    lease = body["data"]
    assert lease["id"].startswith("lse_")
    assert (lease["company_id"], lease["credit_type_id"]) == ("comp_acme", "credit_inference")
    assert (lease["granted_amount"], lease["tracked_amount"]) == (100.5, 0)
    assert lease["released_at"] is None
    assert all(lease[name].endswith("Z") for name in ("expires_at", "created_at", "updated_at"))


def test_a_lost_acquire_answer_costs_nothing(wire: Wire) -> None:
    assert wire.lease(100) == wire.lease(500)
    assert wire.balance() == 1_000_000_000 - 100


def test_an_acquire_beyond_the_balance_is_402(wire: Wire) -> None:
    answer = wire.acquire(51, "comp_few")
    assert answer.status_code == 402
    assert answer.json()["error"].startswith("insufficient credits")
    assert wire.acquire(50, "comp_few").status_code == 200


def test_an_extend_answers_the_total_and_repeats_its_answer(wire: Wire) -> None:
    lease = wire.lease(30, "comp_few")
    first = wire.extend(lease, 20, idempotency_key="k", expires_at=wire.at(600))
    assert first.json()["data"]["granted_amount"] == 50
    assert wire.extend(lease, 20, idempotency_key="k").json() == first.json()
    assert wire.extend(lease, 1, idempotency_key="l").status_code == 402
    assert wire.balance("comp_few") == 0


def test_a_release_refunds_the_rest(wire: Wire) -> None:
    lease = wire.lease(50, "comp_few")
    wire.track(10, lease_id=lease, company={"id": "few"})
    data = wire.release(lease).json()["data"]
    assert (data["tracked_amount"], data["released_at"] is None) == (20, False)
    assert wire.balance("comp_few") == 30
    assert wire.release(lease).status_code == 200
    assert wire.balance("comp_few") == 30


@pytest.mark.parametrize(
    ("change", "status", "named"),
    [
        ({"company_id": None}, 400, "company_id"),
        ({"company_id": "comp_unknown"}, 404, "comp_unknown"),
        ({"credit_type_id": "credit_unknown"}, 404, "credit_unknown"),
        ({"credit_type_id": 7}, 400, "credit_type_id"),
        ({"requested_amount": "many"}, 400, "requested_amount"),
        ({"requested_amount": 0}, 400, "requested_amount"),
        ({"requested_amount": -1}, 400, "requested_amount"),
        ({"requested_amount": True}, 400, "requested_amount"),
        ({"expires_at": "soon"}, 400, "expires_at"),
        ({"expires_at": "2001-01-01T00:00:00Z"}, 400, "expires_at"),
        ({"expires_at": "2999-01-01T00:00:00Z"}, 400, "expires_at"),
    ],
)
def test_a_bad_acquire_is_refused_by_name(
    wire: Wire, change: dict[str, Any], status: int, named: str
) -> None:
    body = {
        "company_id": "comp_acme",
        "credit_type_id": "credit_inference",
        "requested_amount": 10,
        "expires_at": wire.at(300),
    }
    answer = wire.http.post("/billing/credits/lease", json={**body, **change})
    assert (answer.status_code, named in answer.json()["error"]) == (status, True)
    assert not wire.emulator.state()["leases"]


@pytest.mark.parametrize("content", [b"{", b"[]", b"7", b"\xff"])
def test_a_body_that_is_no_object_is_400(wire: Wire, content: bytes) -> None:
    assert wire.http.post("/billing/credits/lease", content=content).status_code == 400


@pytest.mark.parametrize("key", [None, "wrong"])
def test_a_wrong_api_key_is_401(wire: Wire, key: str | None) -> None:
    wire.http.headers.pop("X-Schematic-Api-Key")
    headers = {} if key is None else {"X-Schematic-Api-Key": key}
    answer = wire.http.post("/flags/inference/check", json={}, headers=headers)
    assert answer.status_code == 401
    assert "API key" in answer.json()["error"]


def test_an_unknown_lease_reservation_or_flag_is_404(wire: Wire) -> None:
    assert wire.extend("lse_unknown", 1).status_code == 404
    assert wire.release("lse_unknown").status_code == 404
    assert wire.http.put("/billing/credits/reservations/res_unknown/release").status_code == 404
    assert wire.check("unknown").status_code == 404
    said = "no such endpoint: the emulator does not know POST /nowhere"
    assert wire.http.post("/nowhere").json() == {"error": said}


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_a_lease_changes_by_either_method(wire: Wire, method: str) -> None:
    lease = wire.lease(10)
    extended = wire.http.request(
        method, f"/billing/credits/lease/{lease}/extend", json={"additional_amount": 1}
    )
    assert extended.json()["data"]["granted_amount"] == 11
    assert wire.http.request(method, f"/billing/credits/lease/{lease}/release").is_success


def test_another_method_is_405_and_names_the_right_ones(wire: Wire) -> None:
    answer = wire.http.request("PATCH", f"/billing/credits/lease/{wire.lease(10)}/extend")
    assert answer.status_code == 405
    assert "not PATCH" in answer.json()["error"]


@pytest.mark.parametrize(
    ("flag", "company", "value", "rule"),
    [
        ("inference", "acme", True, "rule_inference_pro"),
        ("inference", "none", False, "rule_inference_spent"),
        ("inference", "override", True, "rule_override_inference"),
        ("INFERENCE", "ACME", True, "rule_inference_pro"),
        ("exports", "acme", True, "rule_exports_pro"),
        ("exports", "over", False, "rule_exports_exceeded"),
        ("beta", "few", True, "rule_beta_europe"),
        ("beta", "acme", False, None),
        ("beta", None, False, None),
    ],
)
def test_a_flag_is_checked_by_the_rules_engine(
    wire: Wire, flag: str, company: str | None, value: bool, rule: str | None
) -> None:
    data = wire.check(flag, company).json()["data"]
    assert (data["flag"], data["value"], data.get("rule_id")) == (flag.lower(), value, rule)


def test_a_check_names_the_user_that_it_found(wire: Wire) -> None:
    data = wire.check("beta", user={"EMAIL": "Ada@Example.com"}).json()["data"]
    assert (data["user_id"], data["value"]) == ("user_ada", True)


def test_a_check_sees_the_balance_and_the_metrics_of_now(wire: Wire) -> None:
    wire.lease(40, "comp_few")
    wire.track(2, company={"id": "few"}, event="report_exported")
    entitlement = wire.check("inference", "few").json()["data"]["entitlement"]
    assert (entitlement["credit_remaining"], entitlement["credit_reserved"]) == (10, 40)
    exports = wire.check("exports", "few").json()["data"]
    assert (exports["feature_usage"], exports["entitlement"]["usage"]) == (2, 2)


def test_a_preflight_is_passed_to_the_engine(wire: Wire) -> None:
    fits = wire.check("inference", "few", preflight={"credit_cost": {"credit_inference": 50}})
    exceeds = wire.check("inference", "few", preflight={"credit_cost": {"credit_inference": 51}})
    assert (fits.json()["data"]["value"], exceeds.json()["data"]["value"]) == (True, False)
    assert wire.check("inference", "few", preflight="much").status_code == 400


def test_keys_that_name_two_companies_are_a_conflict(wire: Wire) -> None:
    few = wire.emulator.state()
    assert "comp_few" in few["companies"]
    company = {**SMALL, "keys": {"id": "two", "slug": "two"}}
    wire.emulator.set_company(company)
    data = wire.http.post(
        "/flags/beta/check", json={"company": {"id": "acme", "slug": "two"}}
    ).json()["data"]
    assert (data["value"], data["reason"]) == (False, "key conflict")


SMALL = {"id": "comp_two", "account_id": "acct_demo", "environment_id": "env_demo"}


def test_all_flags_come_with_the_credits_of_the_company(wire: Wire) -> None:
    wire.lease(40, "comp_few")
    data = wire.http.post("/flags/check", json={"company": {"id": "few"}}).json()["data"]
    assert [flag["flag"] for flag in data["flags"]] == ["inference", "exports", "beta"]
    assert data["credit_spend_policies"] == []
    assert data["credit_balances"] == {
        "credit_inference": {"remaining": 10, "reserved": 40, "settled": 0, "postpaid": False}
    }


def test_a_bulk_check_answers_every_context_in_order(wire: Wire) -> None:
    contexts = [{"company": {"id": "over"}}, {}, {"company": {"id": "acme"}}]
    data = wire.http.post("/flags/check-bulk", json={"contexts": contexts}).json()["data"]["data"]
    assert [context["flags"][1]["value"] for context in data] == [False, False, True]
    assert wire.http.post("/flags/check-bulk", json={}).status_code == 400


def test_a_check_and_reserve_holds_the_cost(wire: Wire) -> None:
    data = wire.reserve(19.5, "few").json()["data"]
    assert data["value"] is True
    reservation = data["reservation"]
    assert reservation["credits_reserved"] == 40
    assert (reservation["quantity_reserved"], reservation["consumption_rate"]) == (20, 2)
    assert reservation["event_subtype"] == "inference_tokens"
    assert wire.balance("comp_few") == 10


def test_a_repeated_check_and_reserve_holds_once(wire: Wire) -> None:
    first = wire.reserve(20, "few")
    assert wire.reserve(20, "few").json() == first.json()
    assert wire.balance("comp_few") == 10
    assert wire.reserve(20, "few", idempotency_key="check-2").status_code == 402


def test_a_settle_by_reservation_refunds_the_rest(wire: Wire) -> None:
    reservation = wire.reserve(20, "few").json()["data"]["reservation"]["id"]
    wire.track(7, reservation_id=reservation, company={"id": "few"})
    assert wire.balance("comp_few") == 36
    assert wire.emulator.state()["reservations"][reservation]["status"] == "settled"


def test_a_released_reservation_is_refunded(wire: Wire) -> None:
    reservation = wire.reserve(20, "few").json()["data"]["reservation"]["id"]
    answer = wire.http.put(f"/billing/credits/reservations/{reservation}/release")
    assert (answer.json()["data"]["reserved_amount"], wire.balance("comp_few")) == (40, 50)


def test_a_reservation_expires_on_the_emulators_clock(wire: Wire) -> None:
    wire.reserve(20, "few")
    wire.emulator.advance(61)
    assert wire.balance("comp_few") == 50


def test_a_denial_for_another_reason_holds_nothing(wire: Wire) -> None:
    emulator: Emulator = wire.emulator
    flag = {"id": "flag_inference", "key": "inference", "default_value": False, "rules": []}
    emulator.set_flag({**flag, "account_id": "acct_demo", "environment_id": "env_demo"})
    data = wire.reserve(20, "few").json()["data"]
    assert (data["value"], "reservation" in data) == (False, False)


def test_a_flag_without_credits_is_checked_and_holds_nothing(wire: Wire) -> None:
    data = wire.reserve(20, "override").json()["data"]
    assert (data["value"], "reservation" in data) == (True, False)
    assert wire.reserve(-1, "few").status_code == 400
    assert not wire.emulator.state()["reservations"]
