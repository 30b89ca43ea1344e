"""What becomes of a hold that is recorded and settled."""

from __future__ import annotations

import pytest

from tests.stores.callers import BY_CREDIT, BY_EXPIRY, SLOT, hold, hold_key
from tests.stores.inspection import count_holds, is_open
from tests.stores.operations.rows import expire, install, remaining, reserve_and_add


def test_a_hold_is_recorded_and_debits_nothing(caller, raw):
    install(caller)
    assert caller.do(caller.ask.add(hold()))
    assert caller.do(is_open(caller.ask, "hold_1"))
    assert caller.do(count_holds(caller.ask)) == 1
    assert caller.do(caller.ask.reserved_credits(SLOT)) == 20
    assert remaining(raw) == 100


def test_a_hold_is_recorded_once(caller, raw):
    assert caller.do(caller.ask.add(hold()))
    before = raw.hgetall(hold_key())
    assert not caller.do(caller.ask.add(hold()))
    assert raw.hgetall(hold_key()) == before
    assert caller.do(caller.ask.reserved_credits(SLOT)) == 20
    assert caller.do(count_holds(caller.ask)) == 1


def test_a_hold_that_was_never_made_is_not_there(caller):
    assert not caller.do(is_open(caller.ask, "hold_1"))
    assert caller.do(caller.ask.consume("hold_1", 5, SLOT)) is None
    assert caller.do(caller.ask.reserved_credits(SLOT)) == 0
    assert caller.do(count_holds(caller.ask)) == 0


@pytest.mark.parametrize(
    ("asked", "consumed"), [(8, 8), (0, 0), (20, 20), (35, 20), (-3, 0), (7.25, 7.25)]
)
def test_a_settle_keeps_what_was_used_and_refunds_the_rest(caller, raw, asked, consumed):
    install(caller)
    reserve_and_add(caller)
    assert caller.do(caller.ask.consume("hold_1", asked, SLOT)) == consumed
    assert remaining(raw) == 100 - consumed
    assert not raw.exists(hold_key(), BY_CREDIT, BY_EXPIRY)


@pytest.mark.parametrize("used", [float("nan"), float("inf")])
def test_a_settle_of_an_invalid_amount_keeps_the_whole_hold(caller, raw, used):
    install(caller)
    reserve_and_add(caller)
    assert caller.do(caller.ask.consume("hold_1", used, SLOT)) == 20
    assert remaining(raw) == 80


def test_a_hold_is_claimed_once(caller, raw):
    install(caller)
    reserve_and_add(caller)
    assert caller.do(caller.ask.consume("hold_1", 5, SLOT)) == 5
    assert caller.do(caller.ask.consume("hold_1", 0, SLOT)) is None
    assert remaining(raw) == 95


def test_a_settle_never_refunds_the_successor_lease(caller, raw):
    install(caller)
    reserve_and_add(caller)
    expire(raw)
    install(caller, "lease_2")
    caller.do(caller.ask.try_reserve(SLOT, 50))
    assert caller.do(caller.ask.consume("hold_1", 5, SLOT)) == 5
    assert remaining(raw) == 50


def test_a_hold_without_a_lease_is_claimed_and_not_refunded(caller, raw):
    install(caller)
    reserve_and_add(caller, lease_id="")
    assert caller.do(caller.ask.consume("hold_1", 5, SLOT)) == 5
    assert remaining(raw) == 80
    assert not raw.exists(hold_key(), BY_CREDIT, BY_EXPIRY)


def test_what_remains_and_what_is_held_add_up_to_the_grant(caller, raw):
    install(caller)
    for at, size in enumerate([0.1, 0.2, 0.7, 12.3]):
        reserve_and_add(caller, f"hold_{at}", credits_reserved=size)
    held = caller.do(caller.ask.reserved_credits(SLOT))
    assert held == pytest.approx(13.3)
    assert remaining(raw) + held == 100
    caller.do(caller.ask.consume("hold_3", 0, SLOT))
    assert remaining(raw) == 99
