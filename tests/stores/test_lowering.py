"""A hold that was lowered by what was used of it gives no more back than it still holds."""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

import pytest
import redis

from schematic_native import Reservation
from schematic_native.redis import SyncStore, open_store

if TYPE_CHECKING:
    from collections.abc import Iterator

SLOT = ("comp_heron", "cred_render")


@pytest.fixture
def store(redis_server) -> Iterator[SyncStore]:
    with redis.Redis.from_url(redis_server.url) as client:
        opened = open_store(client, "schematic:")
        assert isinstance(opened, SyncStore)
        opened.run(opened.operations.install(SLOT, "lse_1", 1000.0, time.time() + 300))
        yield opened
        opened.close()


def held(store: SyncStore, amount: float) -> Reservation:
    """Debit and record a hold of as many credits."""
    ends = datetime.now(timezone.utc) + timedelta(seconds=60)
    hold = Reservation("r1", "lse_1", "client", *SLOT, "slab", amount, amount, 1.0, ends)
    store.run(store.operations.try_reserve(SLOT, amount))
    assert store.run(store.operations.add(hold))
    return hold


def state(store: SyncStore) -> tuple[float, float]:
    """Tell what remains of the lease and what is reserved of it."""
    lease = store.run(store.operations.lease(SLOT))
    assert lease is not None
    return lease.remaining, store.run(store.operations.reserved_credits(SLOT))


def test_a_sweep_gives_back_what_was_not_used(store):
    hold = held(store, 100.0)
    store.run(store.operations.lower([(hold, 30.5)]))
    assert state(store) == (900, 69.5)
    assert store.run(store.operations.sweep(time.time() + 100)) == 1
    assert state(store) == (969.5, 0)


def test_lowering_again_or_by_less_changes_nothing(store):
    hold = held(store, 100.0)
    for used in (30.0, 30.0, 20.0):
        store.run(store.operations.lower([(hold, used)]))
        assert state(store) == (900, 70)


@pytest.mark.parametrize("lowered", [0.0, 20.0, 30.0])
def test_a_claim_gives_back_the_same_however_far_it_was_lowered(store, lowered):
    hold = held(store, 100.0)
    store.run(store.operations.lower([(hold, lowered)]))
    assert store.run(store.operations.give_back(hold.id, 70.0))
    assert state(store) == (970, 0)
    assert not store.run(store.operations.give_back(hold.id, 70.0))
    assert state(store) == (970, 0)


def test_a_hold_that_has_ended_is_not_made_anew(store):
    hold = held(store, 100.0)
    assert store.run(store.operations.give_back(hold.id, 100.0))
    store.run(store.operations.lower([(hold, 30.0)]))
    assert state(store) == (1000, 0)
    assert not store.run(store.operations.has_reservation(hold.id))


def test_a_hold_is_lowered_to_nothing_at_most(store):
    hold = held(store, 100.0)
    store.run(store.operations.lower([(hold, 101.0)]))
    assert state(store) == (900, 0)
    assert store.run(store.operations.sweep(time.time() + 100)) == 1
    assert state(store) == (900, 0)
