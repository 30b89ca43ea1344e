"""A block of metered work: `hold` beside `check` and `track_with_reservation`. It times calls, and decides nothing."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from schematic_native.tools.bench.worlds import COMPANY, FLAG, USAGE, USED

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from schematic_native import AsyncSchematic, Schematic

BLOCK = "a block: check, settle"
HELD = "a block: hold, use"


def paired(client: Schematic, rounds: range) -> float:
    """Return the seconds that so many checks and settles of the synchronous client take."""
    begun = time.perf_counter()
    for _ in rounds:
        result = client.check(FLAG, COMPANY, usage=USAGE)
        if result.allowed:
            client.track_with_reservation(result.reservation, USED)
    return time.perf_counter() - begun


def held(client: Schematic, rounds: range) -> float:
    """Return the seconds that so many holds of the synchronous client take."""
    begun = time.perf_counter()
    for _ in rounds:
        with client.hold(FLAG, COMPANY, usage=USAGE) as hold:
            if hold.allowed:
                hold.use(USED)
    return time.perf_counter() - begun


async def paired_async(client: AsyncSchematic, rounds: range) -> float:
    """Return the seconds that so many checks and settles of the asynchronous client take."""
    begun = time.perf_counter()
    for _ in rounds:
        result = await client.check(FLAG, COMPANY, usage=USAGE)
        if result.allowed:
            await client.track_with_reservation(result.reservation, USED)
    return time.perf_counter() - begun


async def held_async(client: AsyncSchematic, rounds: range) -> float:
    """Return the seconds that so many holds of the asynchronous client take."""
    begun = time.perf_counter()
    for _ in rounds:
        async with client.hold(FLAG, COMPANY, usage=USAGE) as hold:
            if hold.allowed:
                hold.use(USED)
    return time.perf_counter() - begun


async def of_published(
    check: Callable[[], Awaitable[Any]],
    settle: Callable[[Any, int], Awaitable[None]],
    rounds: range,
) -> dict[str, float]:
    """Return the seconds that so many blocks of the published SDK take: it has no holds."""
    begun = time.perf_counter()
    for _ in rounds:
        await settle(await check(), USED)
    return {BLOCK: time.perf_counter() - begun}
