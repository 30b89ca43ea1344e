"""Limits of time, for work on an event loop."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable

T = TypeVar("T")


async def within(work: Awaitable[T], seconds: float) -> T:
    """Wait for work, so many seconds at most.

    Before Python 3.12, `asyncio.wait_for` forgets that it was cancelled if the work is done at the
    same moment: a service that loops over it would go on for ever.

    Raises:
        asyncio.TimeoutError: the work was not done in time; it is cancelled.

    """
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait({task}, timeout=seconds)
        if not task.done():
            raise asyncio.TimeoutError
        return task.result()
    finally:
        if not task.cancel() and not task.cancelled():
            task.exception()  # looked at, or the loop would complain
