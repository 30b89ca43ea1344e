"""How leases and holds are stored, as all SDKs read them."""

from __future__ import annotations

import json

import pytest

from tests.stores.callers import BY_CREDIT, BY_EXPIRY, LEASE, SLOT, hold, hold_key, member
from tests.stores.operations.rows import YEAR_2100, install, remaining, reserve_and_add


def test_a_lease_is_stored_as_all_sdks_read_it(caller, raw):
    install(caller, granted=100.5, ends=YEAR_2100 + 0.25)
    caller.do(caller.ask.try_reserve(SLOT, 0.5))
    assert raw.hgetall(LEASE) == {
        "leaseId": "lease_1",
        "companyId": SLOT[0],
        "creditTypeId": SLOT[1],
        "grantedAmount": "100.5",
        "localRemainingCredits": "100",
        "expiresAt": "4102444800250",
    }
    assert raw.pexpiretime(LEASE) == 4_102_444_800_250 + 60_000


def test_a_hold_is_stored_as_all_sdks_read_it(caller, raw):
    reservation = hold(
        quantity_reserved=2.5,
        credits_reserved=6.000000000000001,
        expires_at=YEAR_2100 + 0.001,
        company={"id": "acme"},
        user={"id": "üser"},
    )
    caller.do(caller.ask.add(reservation))
    row = raw.hgetall(hold_key())
    context = row.pop("evalCtx")
    assert row == {
        "id": "hold_1",
        "leaseId": "lease_1",
        "companyId": SLOT[0],
        "creditTypeId": SLOT[1],
        "eventSubtype": "inference_tokens",
        "quantityReserved": "2.5",
        "creditsReserved": "6.000000000000001",
        "consumptionRate": "2",
        "expiresAt": "4102444800001",
    }
    assert context == '{"company":{"id":"acme"},"user":{"id":"üser"}}'
    assert raw.pexpiretime(hold_key()) == 4_102_444_800_001 + 30_000
    assert raw.zcard(BY_EXPIRY) == 1
    assert raw.zscore(BY_EXPIRY, member()) == 4_102_444_800_001
    assert raw.hgetall(BY_CREDIT) == {"hold_1": "6.000000000000001"}
    assert raw.ttl(BY_EXPIRY) == raw.ttl(BY_CREDIT) == -1


@pytest.mark.parametrize(
    ("parts", "context"),
    [
        ({}, {}),
        ({"company": {"id": "acme"}}, {"company": {"id": "acme"}}),
        ({"user": {}}, {"user": {}}),
    ],
)
def test_of_whom_a_hold_is_for_absent_parts_are_left_out(caller, raw, parts, context):
    caller.do(caller.ask.add(hold(**parts)))
    assert json.loads(raw.hget(hold_key(), "evalCtx")) == context


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (0.1 + 0.2, "0.30000000000000004"),
        (1e12 + 0.125, "1000000000000.125"),
        (2.0**53 - 1, "9007199254740991"),
        (0.0001, "0.0001"),
        (1e21, "1e+21"),
    ],
)
def test_amounts_are_printed_as_javascript_prints_them(caller, raw, amount, text):
    install(caller, granted=amount)
    caller.do(caller.ask.add(hold(credits_reserved=amount)))
    caller.do(caller.ask.try_reserve(SLOT, 0))
    assert raw.hget(LEASE, "grantedAmount") == text
    assert raw.hget(LEASE, "localRemainingCredits") == text
    assert raw.hget(hold_key(), "creditsReserved") == text


@pytest.mark.parametrize("amount", [1e20, 2.0**60, 0.000001, 1.5e-7, 5e-324, 1.7e308])
def test_extreme_amounts_are_read_back_equal(caller, raw, amount):
    install(caller, granted=amount)
    caller.do(caller.ask.add(hold(credits_reserved=amount)))
    assert caller.do(caller.ask.try_reserve(SLOT, 0)).remaining == amount
    assert remaining(raw) == amount
    assert caller.do(caller.ask.reserved_credits(SLOT)) == amount


def test_a_row_of_another_sdk_without_some_fields_is_claimed(caller, raw):
    install(caller)
    caller.do(caller.ask.try_reserve(SLOT, 20))
    raw.hset(hold_key(), mapping={"id": "hold_1", "creditsReserved": "20"})
    assert caller.do(caller.ask.consume("hold_1", 5, SLOT)) == 5
    assert remaining(raw) == 80
    assert not raw.exists(hold_key())


@pytest.mark.parametrize("held", ["", "nan", "-5", "inf", "many"])
def test_a_hold_whose_row_names_no_amount_refunds_nothing(caller, raw, held):
    install(caller)
    reserve_and_add(caller)
    raw.hset(hold_key(), "creditsReserved", held)
    caller.do(caller.ask.consume("hold_1", 0, SLOT))
    assert remaining(raw) == 80
    assert not raw.exists(hold_key())


def test_slots_that_share_a_key_do_not_share_their_open_holds(caller):
    one, other = ("comp:acme", "credit"), ("comp", "acme:credit")
    for hold_id, (company, credit), held in (("a", one, 5.0), ("b", one, 2.0), ("c", other, 20.0)):
        row = hold(hold_id, company_id=company, credit_type_id=credit, credits_reserved=held)
        assert caller.do(caller.ask.add(row))
    assert caller.do(caller.ask.reserved_credits(one)) == 7
    assert caller.do(caller.ask.reserved_credits(other)) == 20
    assert caller.do(caller.ask.consume("a", 0.0, one)) == 0
    assert caller.do(caller.ask.reserved_credits(one)) == 2
    assert caller.do(caller.ask.reserved_credits(("none:at", "all"))) == 0
