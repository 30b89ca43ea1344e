"""What the store does, on one server and on a cluster, by every way that redis-py offers.

The sentences are those of the contract that SDKs of other languages keep too. The server's clock
decides when a lease is over, so a test that needs an old lease dates back what is stored.
"""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from schematic_native.ground.store_errors import StoreError
from schematic_native.redis import Installed, Refused
from tests.stores.callers import (
    BY_CREDIT,
    BY_EXPIRY,
    LEASE,
    MATRIX,
    SLOT,
    Caller,
    hold,
    hold_key,
    member,
)
from tests.stores.inspection import count_holds, drop_lease, is_open, sweep_all

if TYPE_CHECKING:
    from collections.abc import Iterator

YEAR_2100 = 4_102_444_800.0
NONSENSE = [float("nan"), float("inf"), float("-inf"), -1.0]


@pytest.fixture(scope="module", params=["one_server", "three_servers"])
def servers(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module", params=MATRIX, ids=str)
def caller(request, servers) -> Iterator[Caller]:
    caller = Caller(servers, request.param)
    yield caller
    caller.close()


@pytest.fixture(scope="module")
def raw(servers) -> Iterator[Any]:
    """A client that looks at the keys, and changes them behind the store's back."""
    with servers.connect(decode_responses=True) as client:
        yield client


@pytest.fixture(autouse=True)
def _no_key_is_left(servers: Any) -> None:
    servers.flush()


def install(
    caller: Caller, lease_id: str = "lease_1", granted: float = 100.0, ends: float = YEAR_2100
) -> Installed:
    return caller.do(caller.ask.install(SLOT, lease_id, granted, ends))


def expire(raw: Any) -> None:
    """Date a lease back, by ten seconds: it has expired, and is there still."""
    raw.hset(LEASE, "expiresAt", int((time.time() - 10) * 1000))


def remaining(raw: Any) -> float:
    return float(raw.hget(LEASE, "localRemainingCredits"))


def reserve_and_add(caller: Caller, hold_id: str = "hold_1", **changes: Any) -> None:
    reservation = hold(hold_id, **changes)
    caller.do(caller.ask.try_reserve(SLOT, reservation.credits_reserved))
    assert caller.do(caller.ask.add(reservation))


# Install


def test_a_lease_starts_with_its_whole_grant(caller):
    assert install(caller) == Installed(written=True, lease_id="lease_1")
    lease = caller.do(caller.ask.lease(SLOT))
    assert (lease.lease_id, lease.company_id, lease.credit_type_id) == ("lease_1", *SLOT)
    assert (lease.granted, lease.remaining, lease.expires_at) == (100, 100, YEAR_2100)
    assert lease.live


def test_a_live_lease_always_stays(caller, raw):
    install(caller)
    before = raw.hgetall(LEASE)
    assert install(caller, "lease_2", 500) == Installed(written=False, lease_id="lease_1")
    assert install(caller, "lease_1", 500) == Installed(written=False, lease_id="lease_1")
    assert raw.hgetall(LEASE) == before


def test_a_live_lease_that_has_ended_for_the_service_makes_way_for_its_successor_alone(caller, raw):
    install(caller)
    ended = caller.ask.install(SLOT, "lease_2", 500.0, YEAR_2100, successor_of="lease_0")
    assert caller.do(ended) == Installed(written=False, lease_id="lease_1")
    caller.do(caller.ask.try_reserve(SLOT, 30))
    ended = caller.ask.install(SLOT, "lease_2", 500.0, YEAR_2100, successor_of="lease_1")
    assert caller.do(ended) == Installed(written=True, lease_id="lease_2")
    assert (remaining(raw), raw.hget(LEASE, "leaseId")) == (500, "lease_2")
    caller.do(caller.ask.try_reserve(SLOT, 100))
    late = caller.ask.install(SLOT, "lease_2", 500.0, YEAR_2100, successor_of="lease_1")
    assert caller.do(late) == Installed(written=False, lease_id="lease_2")
    assert remaining(raw) == 400


def test_an_expired_lease_makes_way_for_another(caller, raw):
    install(caller)
    caller.do(caller.ask.try_reserve(SLOT, 30))
    expire(raw)
    assert install(caller, "lease_2", 500) == Installed(written=True, lease_id="lease_2")
    assert remaining(raw) == 500
    assert raw.hget(LEASE, "leaseId") == "lease_2"


def test_an_expired_lease_that_comes_again_keeps_what_open_holds_have_taken(caller, raw):
    install(caller)
    caller.do(caller.ask.try_reserve(SLOT, 30))
    expire(raw)
    assert install(caller, "lease_1", 150) == Installed(written=False, lease_id="lease_1")
    lease = caller.do(caller.ask.lease(SLOT))
    assert (lease.granted, lease.remaining, lease.live) == (150, 120, True)


def test_an_expired_lease_that_comes_again_never_shrinks(caller, raw):
    install(caller)
    expire(raw)
    install(caller, "lease_1", 60)
    lease = caller.do(caller.ask.lease(SLOT))
    assert (lease.granted, lease.remaining) == (100, 100)


@pytest.mark.parametrize("granted", NONSENSE)
def test_a_grant_that_is_no_amount_is_refused_before_it_is_stored(caller, raw, granted):
    with pytest.raises(StoreError, match="granted must be a finite number") as failure:
        install(caller, granted=granted)
    assert not failure.value.lost
    assert not raw.exists(LEASE)


@pytest.mark.parametrize("ends", [float("nan"), float("inf")])
def test_an_end_that_is_no_instant_is_refused_before_it_is_stored(caller, raw, ends):
    with pytest.raises(StoreError, match="expires_at must be a finite number"):
        install(caller, ends=ends)
    assert not raw.exists(LEASE)
    install(caller)
    with pytest.raises(StoreError, match="expires_at must be a finite number"):
        caller.do(caller.ask.extend(SLOT, 500, ends, "lease_1"))
    assert remaining(raw) == 100


def test_there_is_no_lease_in_an_empty_slot(caller):
    assert caller.do(caller.ask.lease(SLOT)) is None


def test_an_expired_lease_is_read_as_such(caller, raw):
    install(caller)
    expire(raw)
    assert not caller.do(caller.ask.lease(SLOT)).live


# Reserve


def test_a_debit_tells_what_is_left_and_which_lease_it_charged(caller, raw):
    install(caller)
    debit = caller.do(caller.ask.try_reserve(SLOT, 30))
    assert (debit.remaining, debit.lease_id, debit.granted) == (70, "lease_1", 100)
    assert debit.expires_at == YEAR_2100
    assert remaining(raw) == 70


def test_a_lease_can_be_reserved_down_to_nothing(caller, raw):
    install(caller)
    assert caller.do(caller.ask.try_reserve(SLOT, 100)).remaining == 0
    assert caller.do(caller.ask.try_reserve(SLOT, 0)).remaining == 0
    assert caller.do(caller.ask.try_reserve(SLOT, 1)) is Refused.SHORT
    assert remaining(raw) == 0


def test_more_than_remains_is_refused(caller, raw):
    install(caller)
    assert caller.do(caller.ask.try_reserve(SLOT, 100.5)) is Refused.SHORT
    assert remaining(raw) == 100


def test_nothing_is_reserved_in_an_empty_slot(caller):
    assert caller.do(caller.ask.try_reserve(SLOT, 0)) is Refused.NO_LEASE


def test_nothing_is_reserved_of_an_expired_lease(caller, raw):
    install(caller)
    expire(raw)
    assert caller.do(caller.ask.try_reserve(SLOT, 1)) is Refused.NO_LEASE
    assert remaining(raw) == 100


@pytest.mark.parametrize("credits_", NONSENSE)
def test_an_invalid_amount_is_not_reserved(caller, raw, credits_):
    install(caller)
    assert caller.do(caller.ask.try_reserve(SLOT, credits_)) is Refused.SHORT
    assert remaining(raw) == 100


# Refund


def test_a_refund_adds_back(caller, raw):
    install(caller)
    caller.do(caller.ask.try_reserve(SLOT, 30))
    caller.do(caller.ask.refund(SLOT, 10, None))
    caller.do(caller.ask.refund(SLOT, 5, "lease_1"))
    assert remaining(raw) == 85


def test_a_refund_never_raises_a_lease_above_its_grant(caller, raw):
    install(caller)
    caller.do(caller.ask.try_reserve(SLOT, 30))
    caller.do(caller.ask.refund(SLOT, 1000, "lease_1"))
    assert remaining(raw) == 100


def test_a_refund_never_reaches_the_successor_lease(caller, raw):
    install(caller, "lease_2")
    caller.do(caller.ask.try_reserve(SLOT, 30))
    caller.do(caller.ask.refund(SLOT, 30, "lease_1"))
    assert remaining(raw) == 70


def test_a_refund_does_not_fill_an_empty_slot(caller, raw):
    caller.do(caller.ask.refund(SLOT, 30, None))
    assert not raw.exists(LEASE)


@pytest.mark.parametrize("credits_", [*NONSENSE, 0.0])
def test_an_invalid_amount_is_not_refunded(caller, raw, credits_):
    install(caller)
    caller.do(caller.ask.try_reserve(SLOT, 30))
    caller.do(caller.ask.refund(SLOT, credits_, None))
    assert remaining(raw) == 70


def test_a_late_refund_still_finds_an_expired_lease(caller, raw):
    install(caller)
    caller.do(caller.ask.try_reserve(SLOT, 30))
    expire(raw)
    caller.do(caller.ask.refund(SLOT, 30, "lease_1"))
    assert remaining(raw) == 100


# Extend


def test_an_extend_adds_what_the_total_has_grown_by(caller, raw):
    install(caller)
    caller.do(caller.ask.try_reserve(SLOT, 30))
    assert caller.do(caller.ask.extend(SLOT, 250, YEAR_2100 + 60, "lease_1"))
    lease = caller.do(caller.ask.lease(SLOT))
    assert (lease.granted, lease.remaining) == (250, 220)
    assert lease.expires_at == YEAR_2100 + 60
    assert raw.pexpiretime(LEASE) == (YEAR_2100 + 60) * 1000 + 60_000


@pytest.mark.parametrize("totals", [(150, 200, 120), (200, 120, 150), (200, 200, 150)])
def test_the_same_totals_in_any_order_give_the_same_lease(caller, totals):
    install(caller)
    for at, total in enumerate(totals):
        ends = YEAR_2100 + (60 if total == 200 else -60 * at)
        caller.do(caller.ask.extend(SLOT, total, ends, "lease_1"))
    lease = caller.do(caller.ask.lease(SLOT))
    assert (lease.granted, lease.remaining, lease.expires_at) == (200, 200, YEAR_2100 + 60)


def test_an_extend_without_an_end_leaves_the_end(caller):
    install(caller)
    assert caller.do(caller.ask.extend(SLOT, 150, None, None))
    lease = caller.do(caller.ask.lease(SLOT))
    assert (lease.granted, lease.expires_at) == (150, YEAR_2100)


def test_an_extend_never_touches_another_lease(caller, raw):
    install(caller, "lease_2")
    before = raw.hgetall(LEASE)
    assert not caller.do(caller.ask.extend(SLOT, 500, YEAR_2100 + 60, "lease_1"))
    assert raw.hgetall(LEASE) == before


def test_an_extend_does_not_fill_an_empty_slot(caller, raw):
    assert not caller.do(caller.ask.extend(SLOT, 500, YEAR_2100, None))
    assert not raw.exists(LEASE)


@pytest.mark.parametrize("total", NONSENSE)
def test_a_total_that_is_no_amount_extends_nothing(caller, raw, total):
    install(caller)
    before = raw.hgetall(LEASE)
    assert not caller.do(caller.ask.extend(SLOT, total, YEAR_2100 + 60, "lease_1"))
    assert raw.hgetall(LEASE) == before


# Drop


def test_a_dropped_slot_is_empty(caller):
    install(caller)
    caller.do(drop_lease(caller.ask, SLOT))
    assert caller.do(caller.ask.lease(SLOT)) is None
    caller.do(drop_lease(caller.ask, SLOT))


# Holds


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


# Sweep


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


# Rows


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
