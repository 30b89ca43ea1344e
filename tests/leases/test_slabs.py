"""Slabs of a lease in Redis: checks from memory, and what comes back once a slab or its process is lost."""

from __future__ import annotations

import json
import pickle
import time
from typing import TYPE_CHECKING, Any

import pytest
import redis

from schematic_native import LocalSlab, Reservation
from schematic_native._native import Core
from tests.conftest import eventually
from tests.leases.users import (
    COMPANY,
    CREDIT,
    LEASE,
    User,
    held,
    holds,
    lease_row,
    make_user,
    patience,
    redis_clock,
    remaining,
    steady,
)
from tests.stores.servers import RedisServer

if TYPE_CHECKING:
    from schematic_native.emulator import Emulator

__all__ = ["make_user", "patience", "redis_clock", "steady"]


SLAB = LocalSlab(min_credits=100, max_credits=1000)
# One that is still there when its holds have lapsed, after so many seconds by a clock that the test controls.
LONG_SLAB = LocalSlab(min_credits=100, max_credits=1000, lifetime=3600.0)
TTL = 60.0


def take_slab(user: User, server: RedisServer) -> dict[str, str]:
    """Check until the slab that this asks for is there."""
    found: list[dict[str, str]] = []

    def is_there() -> bool:
        user.settle(user.check(1), 1)
        user.turn()
        found[:] = [row for row in holds(server) if row["eventSubtype"] == "schematic_native.slab"]
        return bool(found) and user.client.status().leases == 1

    eventually(is_there)
    return found[0]


def test_a_slab_serves_checks_from_memory_and_ends_with_what_was_used(
    make_user, emulator, redis_server
):
    user = make_user(local_slab=SLAB)
    row = take_slab(user, redis_server)
    assert row["leaseId"] == lease_row(redis_server)["leaseId"]
    before = remaining(redis_server)
    spent = 10_000 - before - float(row["creditsReserved"])
    results = [user.check(2) for _ in range(5)]
    assert all(result.reservation.lease_id == row["leaseId"] for result in results)
    assert remaining(redis_server) == before, "Redis was not asked"
    assert len(holds(redis_server)) == 1
    for result in results:
        user.settle(result, 1)
    user.close()
    assert holds(redis_server) == []
    in_slab = sum(emulator.state()["billed"][COMPANY].values()) * 2 - spent
    assert in_slab >= 10
    assert remaining(redis_server) == 10_000 - spent - in_slab
    assert emulator.audit()["balanced"]


def test_what_a_dead_process_held_as_a_slab_comes_back(make_user, emulator, redis_server):
    user = make_user(local_slab=SLAB)
    row = take_slab(user, redis_server)

    def is_billed() -> bool:
        user.turn()
        return units(emulator) > 0 and user.client.status().queued_events == 0

    # What is billed was taken off the row before: from now on the row does not change.
    eventually(is_billed)
    spent = 2 * units(emulator)
    lapse(redis_server, row)
    other = make_user(sweep_interval=0.02)

    def is_back() -> bool:
        other.turn()
        # Another slab may be on its way out of the lease.
        left = remaining(redis_server) + held(redis_server)
        is_swept = row["id"] not in {hold["id"] for hold in holds(redis_server)}
        return is_swept and left == 10_000 - spent

    eventually(is_back)


def test_what_was_billed_of_a_slab_does_not_come_back_when_its_process_dies(
    make_user, emulator, redis_server
):
    user = make_user(local_slab=SLAB, sweep_interval=3600.0)
    row = take_slab(user, redis_server)
    for _ in range(5):
        user.settle(user.check(2), 2)

    def billed() -> float:
        user.turn()
        return sum(emulator.state()["billed"].get(COMPANY, {}).values())

    eventually(lambda: billed() >= 10 and user.client.status().queued_events == 0)
    spent = billed() * 2
    [left] = [hold for hold in holds(redis_server) if hold["id"] == row["id"]]
    indexed = f"schematic:credit-reservations:byCredit:{COMPANY}:{CREDIT}"
    with redis.Redis.from_url(redis_server.url, decode_responses=True) as writer:
        assert remaining(redis_server) + float(left["creditsReserved"]) == 10_000 - spent
        assert writer.hgetall(indexed) == {row["id"]: left["creditsReserved"]}
    lapse(redis_server, row)
    other = make_user(sweep_interval=0.02)

    def is_back() -> bool:
        other.turn()
        return not holds(redis_server) and remaining(redis_server) == 10_000 - spent

    eventually(is_back)


FIELDS = (
    "id", "lease_id", "mode", "company_id", "credit_type_id", "event_subtype",
    "quantity_reserved", "credits_reserved", "consumption_rate", "expires_at", "company", "user",
)  # fmt: skip


def by_fields(hold: Reservation) -> Reservation:
    return Reservation(**{name: getattr(hold, name) for name in FIELDS})


LEAVING = {
    "pickle": lambda hold: pickle.loads(pickle.dumps(hold)),
    "dict": lambda hold: Reservation.from_dict(json.loads(json.dumps(hold.to_dict()))),
    "fields": by_fields,
}


@pytest.fixture(params=LEAVING.values(), ids=LEAVING)
def leave(request) -> Any:
    """Take a hold to another process, in one way or the other."""
    return request.param


def lapse(server: RedisServer, row: dict[str, str]) -> None:
    """Let a hold lapse, as if the time had passed and its process were gone."""
    with redis.Redis.from_url(server.url) as writer:
        member = f"{COMPANY}|{CREDIT}|{row['id']}"
        writer.zadd("schematic:credit-reservations:byExpiry", {member: 1})


def units(emulator: Emulator) -> float:
    return sum(emulator.state()["billed"].get(COMPANY, {}).values())


@pytest.mark.parametrize("lapses_here", [False, True], ids=["open", "lapsed"])
def test_what_another_process_billed_of_a_slab_does_not_come_back_when_its_owner_dies(
    make_user, emulator, redis_server, leave, lapses_here, steady
):
    user = make_user(local_slab=LONG_SLAB, sweep_interval=0.02, default_reservation_ttl=TTL)
    row = take_slab(user, redis_server)
    holds_there = [leave(user.check(5).reservation) for _ in range(4)]
    worker = make_user(sweep_interval=0.02)
    for hold in holds_there:
        worker.do("track_with_reservation", hold, 3)
    steady.ahead = TTL if lapses_here else 0.0

    def has_settled() -> bool:
        user.turn()
        worker.turn()
        queued = user.client.status().queued_events + worker.client.status().queued_events
        return queued == 0 and (not lapses_here or user.client.status().open_holds == 0)

    eventually(has_settled)
    indexed = f"schematic:credit-reservations:byCredit:{COMPANY}:{CREDIT}"
    with redis.Redis.from_url(redis_server.url, decode_responses=True) as reader:
        [left] = [hold for hold in holds(redis_server) if hold["id"] == row["id"]]
        assert reader.hget(indexed, row["id"]) == left["creditsReserved"]
    lapse(redis_server, row)

    def is_swept() -> bool:
        worker.turn()
        with redis.Redis.from_url(redis_server.url) as reader:
            # The last thing that a sweep does for a hold is to take it out of this index.
            name = f"{COMPANY}|{CREDIT}|{row['id']}"
            return reader.zscore("schematic:credit-reservations:byExpiry", name) is None

    eventually(is_swept)
    assert remaining(redis_server) + held(redis_server) == 10_000 - 2 * units(emulator)


def test_what_another_process_billed_of_a_slab_is_not_served_again(
    make_user, emulator, redis_server, leave, steady
):
    user = make_user(local_slab=LONG_SLAB, sweep_interval=0.02, default_reservation_ttl=TTL)
    take_slab(user, redis_server)
    results = [user.check(5) for _ in range(4)]
    worker = make_user(sweep_interval=0.02)
    for result in results:
        worker.do("track_with_reservation", leave(result.reservation), 3)
    steady.ahead = TTL

    def has_lapsed() -> bool:
        user.turn()
        return user.client.status().open_holds == 0

    eventually(has_lapsed)
    user.close()
    worker.close()
    assert holds(redis_server) == []
    assert remaining(redis_server) == 10_000 - 2 * units(emulator)
    assert emulator.audit()["balanced"]


def test_a_slab_that_a_failover_has_lost_closes_at_the_next_note_of_use(
    make_user, emulator, redis_server, caplog
):
    user = make_user(local_slab=SLAB, sweep_interval=3600.0)
    row = take_slab(user, redis_server)
    with redis.Redis.from_url(redis_server.url) as writer:
        # What the replica knows: the lease before the debit, and no hold.
        writer.delete(*writer.scan_iter("schematic:credit-reservation*"))
        writer.hincrby(LEASE, "localRemainingCredits", int(float(row["creditsReserved"])))
    user.settle(user.check(2), 2)

    def is_closed() -> bool:
        user.turn()
        return user.client.status().leases == 0

    eventually(is_closed)
    # Its row may have told of less by then: what was used of it is taken off.
    gone = f"the row {row['id']} of a slab of {SLAB.min_credits:g} credits is gone"
    eventually(lambda: gone in caplog.text)  # it is told once the slab is closed
    result = user.check(2)
    # Its own row, or that of a slab that was taken meanwhile.
    assert holds(redis_server), "it was served from the slab that is lost"
    user.settle(result, 2)


@pytest.mark.parametrize("ahead", [-100, 100])
def test_the_row_of_a_slab_lapses_by_the_clock_of_redis(redis_clock, ahead, emulator):
    at = int(time.time() + ahead) * 1000
    redis_clock.stand_at(at)
    with redis_clock.rules():
        server = RedisServer().start()
    user = User("sync", "sync", emulator, server.url, local_slab=SLAB)
    try:
        row = take_slab(user, server)
        assert int(row["expiresAt"]) == at + (SLAB.lifetime + 60 + 5) * 1000
    finally:
        user.close()
        server.remove()


@pytest.mark.parametrize("step", [-60.0, -3600.0])
def test_a_slab_ends_on_time_though_the_wall_clock_was_set_back(
    monkeypatch, emulator, redis_server, step
):
    """One second is waited for here: the clock that the slab goes by is the system's own."""
    wall = [0.0]

    def core(**settings: Any) -> Core:
        return Core(**settings, clock=lambda: time.time() + wall[0])

    monkeypatch.setattr("schematic_native.client.base.Core", core)
    slab = LocalSlab(min_credits=100, max_credits=1000, lifetime=1.0)
    leases = {"local_slab": slab, "sweep_interval": 3600.0, "default_reservation_ttl": 1.0}
    user = User("sync", "sync", emulator, redis_server.url, **leases)
    try:
        take_slab(user, redis_server)
        held = user.check(1)
        wall[0] = step
        before = remaining(redis_server)
        eventually(lambda: user.client.status().leases == 0)
        user.settle(user.check(1), 1)
        assert remaining(redis_server) < before, "it was served by Redis"
        user.settle(held, 1)
    finally:
        user.close()
    assert emulator.audit()["balanced"]


def test_a_small_lease_serves_checks_one_by_one(make_user, redis_server):
    user = make_user(local_slab=SLAB, default_lease_size=200)
    for _ in range(5):
        result = user.check(1)
        assert result.allowed
        user.settle(result, 1)
        user.turn()
    assert holds(redis_server) == []
