"""A shared store behind a gate that the test opens and closes, and the books of its lease."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pytest
import redis
import redis.asyncio

from schematic_native._native import Core
from schematic_native.ground.store_errors import StoreError
from schematic_native.leases.shared_store import SharedStore
from schematic_native.redis import open_store
from tests.conftest import API_KEY, PATIENCE
from tests.stores.callers import LEASE, SLOT, hold

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from schematic_native import Reservation
    from schematic_native.ground.fault_log import FaultLog
    from schematic_native.redis import Late, Operation
    from tests.stores.servers import RedisServer


YEAR_2100 = 4_102_444_800.0
HELD, USED, USED_UNITS = 20.0, 6.0, 3.0


class Gate:
    """A store that answers as many operations as it is told to, and then none, or with a fault."""

    def __init__(self, store: Any) -> None:
        self.operations = store.operations
        self._store = store
        self.answers = 1000
        self.is_broken = False
        self.waiting = 0
        self.cut_short = 0
        self.opened = asyncio.Event()

    async def run(
        self, operation: Operation[Any], timeout: float | None = None, late: Late[Any] = None
    ) -> Any:
        if not self.answers and self.is_broken:
            operation.close()
            raise StoreError("broken", lost=False)
        while not self.answers:
            self.waiting += 1
            try:
                await self.opened.wait()
            except asyncio.CancelledError:
                self.cut_short += 1
                operation.close()
                if late is not None:
                    late(None)
                raise
        self.answers -= 1
        return await self._store.run(operation, timeout, late)

    def open(self) -> None:
        self.answers = 1000
        self.opened.set()

    async def close(self) -> None:
        await self._store.close()


@pytest.fixture
async def gate(redis_server: RedisServer) -> AsyncIterator[Gate]:
    async with redis.asyncio.Redis.from_url(redis_server.url) as client:
        gate = Gate(open_store(client, "schematic:"))
        await gate.run(gate.operations.install(SLOT, "lease_1", 1000.0, YEAR_2100))
        yield gate
        await gate.close()


@pytest.fixture
def core() -> Core:
    return Core(api_key=API_KEY, shared=True, slabs=(100.0, 200.0, 10.0))


@pytest.fixture
def shared(gate: Gate, core: Core, faults: FaultLog) -> SharedStore:
    return SharedStore(core, gate, faults)


async def make_holds(gate: Gate, count: int, expires_at: float = YEAR_2100) -> list[Reservation]:
    holds = [hold(f"hold_{at}", expires_at=expires_at) for at in range(count)]
    for one in holds:
        await gate.run(gate.operations.try_reserve(SLOT, HELD))
        await gate.run(gate.operations.add(one))
    return holds


async def books(gate: Gate) -> tuple[float, float]:
    """Return what the lease has left, and what is held of it."""
    gate.open()
    lease = await gate.run(gate.operations.lease(SLOT))
    return lease.remaining, await gate.run(gate.operations.reserved_credits(SLOT))


async def settled(gate: Gate, shared: SharedStore) -> None:
    """Wait until the lease is whole: what goes on without its caller has ended, and is claimed."""
    until = time.monotonic() + PATIENCE
    while await books(gate) != (1000, 0):
        assert time.monotonic() < until, "credits are missing"
        await shared.sweep()


def left_of_lease(server: RedisServer) -> float:
    return float(server.command("HGET", LEASE, "localRemainingCredits"))
