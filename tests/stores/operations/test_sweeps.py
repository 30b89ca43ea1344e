"""What a sweep ends, and what it gives back."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from schematic_native.ground.store_errors import StoreError
from schematic_native.redis import Refused
from tests.stores.callers import BY_CREDIT, BY_EXPIRY, SLOT, hold, hold_key, member
from tests.stores.inspection import is_open, sweep_all
from tests.stores.operations.rows import YEAR_2100, expire, install, remaining, reserve_and_add


def test_a_sweep_gives_lapsed_holds_back_whole(caller, raw):
    install(caller)
    now = time.time()
    reserve_and_add(caller, "hold_1", expires_at=now)
    reserve_and_add(caller, "hold_2", expires_at=now + 0.002)
    assert caller.do(sweep_all(caller.ask, now)) == 1
    assert remaining(raw) == 80
    assert caller.do(is_open(caller.ask, "hold_2"))
    assert caller.do(caller.ask.reserved_credits(SLOT)) == 20
    assert raw.zrange(BY_EXPIRY, 0, -1) == [member("hold_2")]


def test_a_sweep_never_refunds_the_successor_lease(caller, raw):
    install(caller)
    now = time.time()
    reserve_and_add(caller, expires_at=now)
    expire(raw)
    install(caller, "lease_2")
    caller.do(caller.ask.try_reserve(SLOT, 50))
    assert caller.do(sweep_all(caller.ask, now)) == 1
    assert remaining(raw) == 50


def test_a_sweep_never_refunds_from_an_index_entry_alone(caller, raw):
    install(caller)
    now = time.time()
    reserve_and_add(caller, expires_at=now)
    raw.delete(hold_key())
    assert caller.do(sweep_all(caller.ask, now)) == 0
    assert remaining(raw) == 80
    assert not raw.exists(BY_EXPIRY, BY_CREDIT)


def test_a_sweep_removes_members_that_cannot_be_read(caller, raw):
    raw.zadd(BY_EXPIRY, {"nonsense": 1, "a|b": 2, "a|b|c|d": 3, "": 4, b"a|b|\xff": 5})
    assert caller.do(sweep_all(caller.ask, time.time())) == 0
    assert not raw.exists(BY_EXPIRY)


def test_a_row_that_is_not_text_does_not_stop_the_sweep_of_others(caller, raw):
    install(caller)
    now = time.time()
    reserve_and_add(caller, "hold_1", expires_at=now)
    reserve_and_add(caller, "hold_2", expires_at=now)
    raw.hset(hold_key("hold_1"), "companyId", b"\xff")
    with pytest.raises(StoreError, match="cannot be read"):
        caller.do(sweep_all(caller.ask, now))
    assert remaining(raw) == 80
    assert caller.do(sweep_all(caller.ask, now)) == 0
    assert not raw.exists(BY_EXPIRY, BY_CREDIT)


@pytest.mark.parametrize("is_gone", [False, True])
@pytest.mark.parametrize("slot", [("a|b", "c"), ("a", "b|c"), ("a|b", "c|d")])
def test_a_hold_is_swept_whatever_its_ids_are_made_of(caller, raw, slot, is_gone):
    caller.do(caller.ask.install(slot, "lease_1", 100, YEAR_2100))
    caller.do(caller.ask.try_reserve(slot, 20))
    now = time.time()
    parts = {"company_id": slot[0], "credit_type_id": slot[1], "expires_at": now}
    caller.do(caller.ask.add(hold("hold_1", **parts)))
    if is_gone:
        raw.delete(hold_key("hold_1"))
    assert caller.do(sweep_all(caller.ask, now)) == (0 if is_gone else 1)
    assert caller.do(caller.ask.lease(slot)).remaining == (80 if is_gone else 100)
    assert caller.do(caller.ask.reserved_credits(slot)) == 0
    assert not raw.exists(BY_EXPIRY)


def test_a_lease_is_spent_by_its_own_slot_alone(caller):
    slot, other = ("org:a", "c"), ("org", "a:c")
    caller.do(caller.ask.install(slot, "lease_1", 100, YEAR_2100))
    assert caller.do(caller.ask.lease(other)) is None
    assert caller.do(caller.ask.try_reserve(other, 20)) is Refused.NO_LEASE
    assert not caller.do(caller.ask.install(other, "lease_2", 100, YEAR_2100)).written
    assert caller.do(caller.ask.try_reserve(slot, 20)).remaining == 80


def test_what_has_lapsed_by_the_servers_clock_is_named_a_page_at_most(caller, monkeypatch):
    monkeypatch.setattr("schematic_native.redis.sweep_operations.PAGE", 2)
    assert caller.do(caller.ask.lapsed()).members == []
    install(caller, granted=1000)
    now = time.time()
    for at, seconds in enumerate((-5, 3600, -7, -6)):
        reserve_and_add(caller, f"hold_{at}", expires_at=now + seconds)
    page = caller.do(caller.ask.lapsed())
    assert page.members == [member("hold_2"), member("hold_3")]
    assert now - 1 < page.now < time.time() + 1
    assert caller.do(caller.ask.end_page(page.members)) == (2, True)
    assert caller.do(caller.ask.lapsed()).members == [member("hold_0")]


def test_a_sweep_pages_and_leaves_the_rest_to_the_next(caller, raw, monkeypatch):
    monkeypatch.setattr("schematic_native.redis.sweep_operations.PAGE", 3)
    monkeypatch.setattr("schematic_native.redis.sweep_operations.PAGES", 2)
    install(caller, granted=1000)
    now = time.time()
    for at in range(8):
        reserve_and_add(caller, f"hold_{at}", expires_at=now)
    assert [caller.do(sweep_all(caller.ask, now)) for _ in range(3)] == [6, 2, 0]
    assert remaining(raw) == 1000
    assert not raw.exists(BY_EXPIRY, BY_CREDIT)


def test_holds_of_several_slots_are_told_apart(caller):
    now = time.time()
    slots = [SLOT, ("comp_other", SLOT[1]), (SLOT[0], "credit_other")]
    for at, slot in enumerate(slots):
        caller.do(caller.ask.install(slot, "lease_1", 100, YEAR_2100))
        caller.do(caller.ask.try_reserve(slot, 20))
        parts = {"company_id": slot[0], "credit_type_id": slot[1], "expires_at": now}
        caller.do(caller.ask.add(hold(f"hold_{at}", **parts)))
    assert [caller.do(caller.ask.reserved_credits(slot)) for slot in slots] == [20] * len(slots)
    assert caller.do(sweep_all(caller.ask, now)) == len(slots)
    for slot in slots:
        assert caller.do(caller.ask.lease(slot)).remaining == 100


def test_a_settle_and_a_sweep_that_race_end_the_hold_once(servers, make_caller):
    settler, sweeper = make_caller(servers), make_caller(servers)
    install(settler, granted=1000)
    now, used = time.time(), 0.0
    with ThreadPoolExecutor(2) as threads:
        for at in range(20):
            reserve_and_add(settler, f"hold_{at}", expires_at=now)
            swept = threads.submit(sweeper.do, sweep_all(sweeper.ask, now))
            consumed = settler.do(settler.ask.consume(f"hold_{at}", 5, SLOT))
            assert swept.result() == (1 if consumed is None else 0)
            used += consumed or 0
            lease = settler.do(settler.ask.lease(SLOT))
            assert lease.remaining == 1000 - used
