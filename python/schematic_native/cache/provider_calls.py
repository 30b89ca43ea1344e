"""Calls of a cache that a program has given us, whose methods may be synchronous or not.

What such a cache raises is never handled here.
"""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

# Calls that are under way at the same time.
_AT_ONCE = 50


async def result_of(call: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
    """Call a method of a cache; what it returns is awaited if need be.

    Called here and not before, so that a task that is cancelled before it starts has begun nothing.
    """
    value = call(*arguments, **keywords)
    return await value if inspect.isawaitable(value) else value


async def call_all(calls: list[Callable[[], Awaitable[object]]]) -> None:
    """Make many calls, some of them at the same time."""
    for start in range(0, len(calls), _AT_ONCE):
        await asyncio.gather(*(result_of(call) for call in calls[start : start + _AT_ONCE]))


def describe(error: BaseException) -> str:
    """Return what the log says of an error of a cache or the replicator."""
    text = "no answer in time" if isinstance(error, asyncio.TimeoutError) else str(error)
    return f"{type(error).__name__}: {text}"
