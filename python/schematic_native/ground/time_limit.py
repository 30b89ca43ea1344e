"""Limits the time of work on an event loop, without ever losing a cancellation."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable

T = TypeVar("T")


async def before(deadline: float, work: Awaitable[T]) -> T:
    """Wait for work, until an instant of the loop's clock.

    Raises:
        asyncio.TimeoutError: as `within` does.

    """
    return await within(work, max(0.0, deadline - asyncio.get_running_loop().time()))


async def within(work: Awaitable[T], seconds: float) -> T:
    """Wait for work, at most so many seconds.

    Before Python 3.12, `asyncio.wait_for` loses a cancellation if the work is done at the same moment:
    a task that calls it in a loop would never end.

    Raises:
        asyncio.TimeoutError: the work took longer; it is cancelled.

    """
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait({task}, timeout=seconds)
        if not task.done():
            raise asyncio.TimeoutError
        return task.result()
    finally:
        if task.cancel():
            # It may fail even so, if what it waits for fails at the same moment.
            task.add_done_callback(_retrieve)
        else:
            _retrieve(task)


def _retrieve(task: asyncio.Future[T]) -> None:
    """Mark a failure as retrieved, or the loop would log it."""
    if not task.cancelled():
        task.exception()
