"""Leases and holds in Redis while its clock, the service's and the program's differ."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import httpx
import pytest

from schematic_native._native import Core
from schematic_native.leases.shared_store import SharedStore
from schematic_native.redis import ThreadedStore, open_store
from tests.conftest import API_KEY
from tests.leases.users import User, holds, lease_row, make_user, patience, redis_clock, remaining
from tests.stores.servers import RedisServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from schematic_native.emulator import Emulator

__all__ = ["make_user", "patience", "redis_clock"]


@pytest.mark.parametrize("ahead", [-100, 100])
def test_a_hold_lapses_by_the_clock_of_redis(redis_clock, ahead, emulator, faults):
    at = int(time.time() + ahead) * 1000
    redis_clock.stand_at(at)
    with redis_clock.rules():
        server = RedisServer().start()
    user = User("sync", "sync", emulator, server.url, sweep_interval=3600.0)

    def sweep_by_a_process_with_a_fast_clock() -> None:
        fast = Core(api_key=API_KEY, shared=True, clock=lambda: time.time() + 10_000)
        store = ThreadedStore(open_store(user.redis, "schematic:"))
        asyncio.run(SharedStore(fast, store, faults).sweep())

    try:
        reservation = user.check(10).reservation
        assert reservation is not None
        [row] = holds(server)
        assert row["expiresAt"] == str(at + 60_000)
        assert reservation.expires_at.timestamp() == at / 1000 + 60
        redis_clock.stand_at(at + 59_999)
        sweep_by_a_process_with_a_fast_clock()
        assert len(holds(server)) == 1
        redis_clock.stand_at(at + 60_000)
        sweep_by_a_process_with_a_fast_clock()
        assert (holds(server), remaining(server)) == ([], 10_000)
    finally:
        user.close()
        server.remove()


def test_a_lease_that_has_ended_for_redis_alone_is_renewed_and_spent_on(
    redis_clock, emulator, monkeypatch
):
    """Redis' clock is ahead: until the service calls the lease ended too, it hands out no other."""
    # Nobody is waited for who might yet put the lease into its slot: it is there.
    monkeypatch.setattr("schematic_native.leases.manager.INSTALL_POLL_INTERVAL", 3600.0)
    redis_clock.stand_at(int(time.time()) * 1000)
    with redis_clock.rules():
        server = RedisServer().start()
    short = User("sync", "sync", emulator, server.url, default_lease_duration=30.0)
    long = User("sync", "sync", emulator, server.url, default_lease_duration=300.0)
    try:
        short.settle(short.check(10), 10)
        redis_clock.stand_at(int(time.time() + 31) * 1000)
        assert long.check(10, timeout=30).allowed
        requests = emulator.state()["requests"]
        assert (requests["acquire"], requests["extend"]) == (2, 1)
        assert float(lease_row(server)["grantedAmount"]) == 20_000
        assert remaining(server) == 20_000 - 40
        [lease] = emulator.state()["leases"].values()
        assert lease["granted"] == 20_000
    finally:
        short.close()
        long.close()
        server.remove()


@pytest.fixture
def redis_behind(redis_clock) -> Iterator[RedisServer]:
    """Redis, whose clock is a minute behind the service's."""
    redis_clock.stand_at(int(time.time() - 60) * 1000)
    with redis_clock.rules():
        server = RedisServer().start()
    yield server
    server.remove()


def spent(row: dict[str, str]) -> float:
    """Return the credits of a lease that were spent or are held."""
    return float(row["grantedAmount"]) - float(row["localRemainingCredits"])


def end_for_the_service(emulator: Emulator) -> None:
    """End all leases for the service alone; how they end makes no difference to who holds them."""
    for lease_id in emulator.state()["leases"]:
        answer = httpx.post(
            f"{emulator.base_url}/billing/credits/lease/{lease_id}/release",
            headers={"X-Schematic-Api-Key": API_KEY},
            timeout=60,
        )
        assert answer.status_code == 200


def test_a_lease_that_has_ended_for_the_service_alone_is_replaced(redis_behind, emulator):
    """Redis' clock is behind: it calls a lease live to which nothing can be added any more."""
    user = User("sync", "sync", emulator, redis_behind.url, default_lease_duration=8.0)
    try:
        held = user.check(10)
        before = lease_row(redis_behind)
        end_for_the_service(emulator)
        result = user.check(4_999, timeout=30)
        assert result.reservation is not None
        row = lease_row(redis_behind)
        assert row["leaseId"] == result.reservation.lease_id != before["leaseId"]
        assert spent(row) == 9_998
        user.settle(held, 0)
        assert spent(lease_row(redis_behind)) == 9_998, "a hold is refunded to its own lease alone"
    finally:
        user.close()


def hold_at_last(user: User) -> bool:
    """Check until credits are held: a sibling may take those that an extend was to bring."""
    return any(user.check(4_991, timeout=30).reservation is not None for _ in range(5))


def test_two_processes_replace_an_ended_lease_by_one_and_lend_it_once(redis_behind, emulator):
    short = {"default_lease_duration": 8.0}
    first = User("sync", "sync", emulator, redis_behind.url, **short)
    second = User("sync", "sync", emulator, redis_behind.url, **short)
    try:
        first.check(10)
        second.check(10)
        end_for_the_service(emulator)
        with ThreadPoolExecutor() as threads:
            held = list(threads.map(hold_at_last, (first, second)))
        assert all(held)
        row = lease_row(redis_behind)
        leases = emulator.state()["leases"].items()
        assert [lease_id for lease_id, lease in leases if lease["status"] == "active"] == [
            row["leaseId"]
        ]
        assert spent(row) >= 2 * 9_982
        granted = float(row["grantedAmount"])
        assert granted <= emulator.state()["leases"][row["leaseId"]]["granted"]
    finally:
        first.close()
        second.close()


@pytest.mark.parametrize(("duration", "asked"), [(8.0, 2), (300.0, 1)])
def test_an_extend_that_is_refused_leaves_a_lease_alone_that_is_live(
    make_user, emulator, redis_server, duration, asked
):
    user = make_user(default_lease_duration=duration)
    user.check(10)
    before = lease_row(redis_server)
    emulator.fail("status", on="extend", status=400, times=1)
    result = user.check(4_999)
    assert (result.allowed, result.error) == (False, "insufficient_lease_balance")
    assert lease_row(redis_server) == before
    assert emulator.state()["requests"]["acquire"] == asked
