"""What becomes of a lease that is installed, reserved from, refunded, extended or dropped."""

from __future__ import annotations

import pytest

from schematic_native.ground.store_errors import StoreError
from schematic_native.redis import Installed, Refused
from tests.stores.callers import LEASE, SLOT
from tests.stores.inspection import drop_lease
from tests.stores.operations.rows import NONSENSE, YEAR_2100, expire, install, remaining

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
