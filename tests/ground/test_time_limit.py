"""A time limit loses neither a cancellation nor an exception of the work."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from schematic_native.ground.time_limit import within


async def after(future: asyncio.Future[int]) -> int:
    return await future


@pytest.mark.parametrize("turns", range(5))
async def test_a_cancellation_at_the_moment_of_the_result_is_not_lost(turns: int) -> None:
    future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    reached = []

    async def service() -> None:
        while True:
            await within(after(future), 10)
            reached.append(True)
            await asyncio.Event().wait()

    task = asyncio.create_task(service())
    for _ in range(3):
        await asyncio.sleep(0)
    future.set_result(1)
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    done, _ = await asyncio.wait({task}, timeout=5)
    assert done
    assert task.cancelled()


async def test_results_errors_and_timeouts_are_passed_on() -> None:
    async def fails() -> int:
        raise ValueError("no")

    async def waits() -> int:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)
        return 0

    ended: list[bool] = []
    future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    future.set_result(7)
    assert await within(after(future), 10) == 7
    with pytest.raises(ValueError, match="no"):
        await within(fails(), 10)
    with pytest.raises(asyncio.TimeoutError):
        await within(waits(), 0.01)
    await asyncio.sleep(0)
    assert ended == [True]


async def test_work_that_fails_where_it_is_cancelled_is_not_logged_as_unheard() -> None:
    async def fails_late() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
            raise ValueError("its connection was lost at the same moment")

    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, told: complaints.append(told))
    ended = asyncio.Event()
    with pytest.raises(asyncio.TimeoutError):
        await within(fails_late(), 0.01)
    await ended.wait()
    for _ in range(3):
        await asyncio.sleep(0)
    gc.collect()
    assert complaints == []
