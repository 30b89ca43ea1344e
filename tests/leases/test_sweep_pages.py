"""How a sweep of the shared store goes through its pages of lapsed holds."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from tests.conftest import eventually_async
from tests.leases.gates import HELD, USED, USED_UNITS, books, core, gate, make_holds, shared

if TYPE_CHECKING:
    from schematic_native.redis import Late, Operation

__all__ = ["core", "gate", "shared"]


async def test_a_sweep_asks_the_store_once_if_nothing_has_lapsed(gate, shared):
    await make_holds(gate, 1)
    before = gate.answers
    await shared.sweep()
    assert gate.answers == before - 1
    assert await books(gate) == (1000 - HELD, HELD)


async def test_a_sweep_goes_on_page_by_page(gate, shared, monkeypatch):
    monkeypatch.setattr("schematic_native.redis.sweep_operations.PAGE", 2)
    await make_holds(gate, 5, expires_at=time.time())
    await shared.sweep()
    assert await books(gate) == (1000, 0)


async def test_a_sweep_stops_after_so_many_pages(gate, shared, monkeypatch):
    monkeypatch.setattr("schematic_native.redis.sweep_operations.PAGE", 1)
    monkeypatch.setattr("schematic_native.leases.shared_store.PAGES", 3)
    await make_holds(gate, 5, expires_at=time.time())
    await shared.sweep()
    assert await books(gate) == (1000 - 2 * HELD, 2 * HELD)
    await shared.sweep()
    assert await books(gate) == (1000, 0)


async def test_a_sweep_does_not_give_back_what_this_process_owes_a_claim(gate, core, shared):
    [owed] = await make_holds(gate, 1, expires_at=time.time())
    core.settle_shared(owed, USED_UNITS)
    gate.answers, gate.is_broken = 1, True
    await shared.sweep()
    assert await books(gate) == (1000 - HELD, HELD)
    await shared.sweep()
    assert await books(gate) == (1000 - USED, 0)


async def test_a_page_of_a_sweep_that_has_begun_is_finished(gate, shared):
    await make_holds(gate, 2, expires_at=time.time())
    gate.answers = 1
    sweep = asyncio.ensure_future(shared.sweep())
    await eventually_async(lambda: gate.waiting)
    sweep.cancel()
    await asyncio.wait({sweep})
    closing = asyncio.ensure_future(shared.close(5))
    gate.open()
    await closing
    assert gate.cut_short == 0
    assert await books(gate) == (1000, 0)


async def test_each_page_of_a_sweep_has_its_own_time(gate, shared, monkeypatch):
    monkeypatch.setattr("schematic_native.redis.sweep_operations.PAGE", 2)
    await make_holds(gate, 5, expires_at=time.time())
    given: list[float | None] = []
    run = gate.run

    async def watch(
        operation: Operation[Any], timeout: float | None = None, late: Late[Any] = None
    ) -> Any:
        given.append(timeout)
        return await run(operation, timeout, late)

    monkeypatch.setattr(gate, "run", watch)
    await shared.sweep()
    assert given == [1.0] * 4  # the clock, and three pages
    assert await books(gate) == (1000, 0)
