"""The row of a slab: what was used of it here and elsewhere comes back to its lease by nobody."""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone
from fractions import Fraction
from typing import TYPE_CHECKING

import pytest
import redis

from schematic_native import Reservation
from schematic_native.redis import SlabNote, SyncStore, open_store
from tests.stores.inspection import is_open, sweep_all

if TYPE_CHECKING:
    from collections.abc import Iterator

    from schematic_native.redis.slab_operations import Noted

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


def note(
    store: SyncStore, slab: Reservation, used: float = 0.0, **ended: float | None
) -> Noted | None:
    [noted] = store.run(store.operations.note([SlabNote(slab.id, SLOT, used, [*ended.items()])]))
    return noted


def close(store: SyncStore, slab: Reservation, used: float, **held: float) -> bool:
    return store.run(store.operations.close_slab(slab, used, [*held.items()]))


def swept(store: SyncStore) -> int:
    return store.run(sweep_all(store.operations, time.time() + 100))


def test_a_sweep_of_a_slab_refunds_what_no_process_has_used(store):
    slab = held(store, 100.0)
    note(store, slab, 30.5)
    assert state(store) == (900, 69.5)
    note(store, slab, elsewhere=20.0)
    assert state(store) == (900, 49.5)
    assert swept(store) == 1
    assert state(store) == (949.5, 0)


def test_to_note_again_or_less_changes_nothing(store):
    slab = held(store, 100.0)
    for used in (30.0, 30.0, 20.0):
        note(store, slab, used)
        assert state(store) == (900, 70)
    assert note(store, slab, elsewhere=7.0) == (1, [7.0])
    assert note(store, slab, 31.0, elsewhere=9.0, other=None) == (0, [7.0, None])
    assert state(store) == (900, 62)


@pytest.mark.parametrize("noted", [0.0, 20.0, 30.0])
def test_a_slab_that_closes_gives_back_the_same_whatever_was_noted(store, noted):
    slab = held(store, 100.0)
    note(store, slab, noted)
    note(store, slab, elsewhere=15.0)
    assert close(store, slab, 30.0)
    assert state(store) == (955, 0)
    assert not close(store, slab, 30.0)
    assert state(store) == (955, 0)


def test_what_is_held_of_a_slab_that_closes_counts_as_used_or_as_it_was_settled_elsewhere(store):
    slab = held(store, 100.0)
    note(store, slab, elsewhere=4.0)
    assert close(store, slab, 30.0, elsewhere=10.0, here=20.0)
    assert state(store) == (946, 0)


def test_a_slab_that_has_ended_is_not_made_anew(store):
    slab = held(store, 100.0)
    assert close(store, slab, 0.0)
    assert note(store, slab, 30.0, elsewhere=1.0) is None
    assert state(store) == (1000, 0)
    assert not store.run(is_open(store.operations, slab.id))


def test_a_slab_that_is_used_up_refunds_nothing(store):
    slab = held(store, 100.0)
    note(store, slab, 101.0, elsewhere=3.0)
    assert state(store) == (900, 0)
    assert close(store, slab, 101.0)
    assert state(store) == (900, 0)


def test_a_slab_that_holds_nothing_more_is_swept(store):
    note(store, held(store, 100.0), 100.0)
    assert swept(store) == 1
    assert state(store) == (900, 0)


def test_no_rounding_mints(store):
    """Thirds and tenths are no doubles: a sum of them must never come out below the exact one."""
    slab = held(store, 100.0)
    exact, used = Fraction(100), 0.0
    for at in range(200):
        used += 0.1
        settled = 1 / (3 + at)
        note(store, slab, used, **{f"hold_{at}": settled})
        exact -= Fraction(settled)
        [_, left] = state(store)
        assert exact - Fraction(used) - Fraction(1, 10**10) < Fraction(left)
        assert Fraction(left) <= exact - Fraction(used)
    assert close(store, slab, used)
    [remaining, _] = state(store)
    assert remaining <= float(900 + exact - Fraction(used))
