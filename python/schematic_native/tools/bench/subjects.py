"""The subjects of the benchmark: our clients, and the cheapest possible calls from Python.

A sample is a coroutine: it makes so many calls of each kind and returns how many seconds they took. A run of calls
stays below a full batch of events and is followed by a pause, so that the sender, which shares the interpreter, works
between the runs. `delivered` measures calls while the sender is busy.
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from schematic_native import (
    AsyncSchematic,
    AsyncSchematicConfig,
    CreditLeaseConfig,
    Schematic,
    SchematicConfig,
)
from schematic_native.rulesengine import RulesEngine
from schematic_native.tools.bench import blocks
from schematic_native.tools.bench.series import Series
from schematic_native.tools.bench.worlds import (
    API_KEY,
    COMPANY,
    CREDIT,
    FLAG,
    LEASE_SIZE,
    USAGE,
    USED,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AsyncExitStack

    from schematic_native import CheckResult, Reservation

CHECK_FLAG, CHECK, SETTLE, EVALUATE = (
    "check_flag",
    "check",
    "track_with_reservation",
    "RulesEngine.check_flag",
)
SYNC, ASYNC, ENGINE = "Schematic", "AsyncSchematic", "RulesEngine"
DICT, NO_OP, COROUTINE = "a dict", "an empty extension call", "an empty coroutine"

# Calls in a run: together with the warm-up, too few to wake the sender.
RUN, WARM = 80, range(15)
# Seconds between two flushes of an incomplete batch: a pause is short.
BUFFER_PERIOD = 0.01

SUSTAINED = "check + settle, sender at work"
SUSTAINED_ROUNDS, SUSTAINED_PAIRS = 7, 5000

Seconds = dict[str, float]


@dataclass(frozen=True)
class Subject:
    """A library or client that is measured.

    Attributes:
        name: shown, and kept in baselines.
        sample: makes so many calls of each kind; returns the seconds that they took, by kind.
        most: the most calls of each kind in one sample.
        least: and the fewest.

    """

    name: str
    sample: Callable[[int], Awaitable[Seconds]]
    most: int = 1000
    least: int = 1


def timed(
    name: str, call_kind: str, call: Callable[[], object], most: int = 1000, least: int = 1
) -> Subject:
    """Return a subject with a single call, without arguments."""

    async def sample(count: int) -> Seconds:
        rounds = range(count)
        call()
        begun = time.perf_counter()
        for _ in rounds:
            call()
        return {call_kind: time.perf_counter() - begun}

    return Subject(name, sample, most, least)


def floors(client: Schematic) -> list[Subject]:
    """Return the cheapest possible calls."""
    flags = {FLAG: True}
    nothing = client._core.has_flags  # noqa: SLF001 - the smallest call into the extension

    async def empty() -> None: ...

    async def sample(count: int) -> Seconds:
        rounds = range(count)
        begun = time.perf_counter()
        for _ in rounds:
            await empty()
        return {CHECK_FLAG: time.perf_counter() - begun}

    return [
        timed(DICT, CHECK_FLAG, lambda: flags[FLAG]),
        timed(NO_OP, CHECK_FLAG, nothing),
        Subject(COROUTINE, sample),
    ]


def engine(world: dict[str, Any]) -> Subject:
    """Return the rules engine alone, without a client."""
    alone = RulesEngine()
    flag = alone.load_flag(json.dumps(world["flags"][0]))
    company = alone.load_company(json.dumps(world["companies"][0]))
    return timed(ENGINE, EVALUATE, lambda: alone.check_flag(flag, company))


async def sync_client(url: str, stack: AsyncExitStack) -> tuple[Schematic, Subject]:
    """Return a synchronous client of the service at `url`, with its lease."""
    client = Schematic(API_KEY, SchematicConfig(**settings(url)))
    stack.push_async_callback(asyncio.to_thread, client.shutdown)
    await asyncio.to_thread(client.initialize)
    await asyncio.to_thread(client.prewarm, COMPANY, [CREDIT])
    check_flag, check, settle = client.check_flag, client.check, client.track_with_reservation

    async def sample(count: int) -> Seconds:
        rounds = range(count)
        await rest(client)
        for _ in WARM:
            check_flag(FLAG, COMPANY)
        start = time.perf_counter()
        for _ in rounds:
            check_flag(FLAG, COMPANY)
        flagged = time.perf_counter() - start
        await rest(client)
        for _ in WARM:
            check(FLAG, COMPANY, usage=USAGE)
        start = time.perf_counter()
        results = [check(FLAG, COMPANY, usage=USAGE) for _ in rounds]
        checked = time.perf_counter() - start
        holds = [_held(result) for result in results]
        await rest(client)
        for _ in WARM:
            settle(holds.pop(), USED)
        start = time.perf_counter()
        for hold in holds:
            settle(hold, USED)
        settled = (time.perf_counter() - start) / len(holds) * count
        # A block sends two events: half as many blocks stay below a full batch.
        half = range(0, count, 2)
        await rest(client)
        paired = blocks.paired(client, half) / len(half) * count
        await rest(client)
        held = blocks.held(client, half) / len(half) * count
        single = {CHECK_FLAG: flagged, CHECK: checked, SETTLE: settled}
        return {**single, blocks.BLOCK: paired, blocks.HELD: held}

    return client, Subject(SYNC, sample, RUN, RUN)


async def async_client(url: str, stack: AsyncExitStack) -> Subject:
    """Return an asynchronous client of the service at `url`, with its lease."""
    client = AsyncSchematic(API_KEY, AsyncSchematicConfig(**settings(url)))
    await stack.enter_async_context(client)
    await client.prewarm(COMPANY, [CREDIT])
    check_flag, check, settle = client.check_flag, client.check, client.track_with_reservation

    async def sample(count: int) -> Seconds:
        rounds = range(count)
        await rest(client)
        for _ in WARM:
            await check_flag(FLAG, COMPANY)
        start = time.perf_counter()
        for _ in rounds:
            await check_flag(FLAG, COMPANY)
        flagged = time.perf_counter() - start
        await rest(client)
        for _ in WARM:
            await check(FLAG, COMPANY, usage=USAGE)
        start = time.perf_counter()
        results = [await check(FLAG, COMPANY, usage=USAGE) for _ in rounds]
        checked = time.perf_counter() - start
        holds = [_held(result) for result in results]
        await rest(client)
        for _ in WARM:
            await settle(holds.pop(), USED)
        start = time.perf_counter()
        for hold in holds:
            await settle(hold, USED)
        settled = (time.perf_counter() - start) / len(holds) * count
        half = range(0, count, 2)
        await rest(client)
        paired = await blocks.paired_async(client, half) / len(half) * count
        await rest(client)
        held = await blocks.held_async(client, half) / len(half) * count
        single = {CHECK_FLAG: flagged, CHECK: checked, SETTLE: settled}
        return {**single, blocks.BLOCK: paired, blocks.HELD: held}

    return Subject(ASYNC, sample, RUN, RUN)


def settings(url: str) -> dict[str, Any]:
    """Return the configuration of our clients."""
    leases = CreditLeaseConfig(mode="client", default_lease_size=LEASE_SIZE)
    return {
        "base_url": url,
        "event_capture_url": url,
        "use_datastream": True,
        "credit_leases": leases,
        "event_buffer_period": BUFFER_PERIOD,
    }


async def sustained(world: str, client: Schematic) -> Series:
    """Measure checks and settles, one after the other, while the sender delivers their events."""
    values = []
    for _ in range(SUSTAINED_ROUNDS):
        begun = time.perf_counter()
        for _ in range(SUSTAINED_PAIRS):
            hold = _held(client.check(FLAG, COMPANY, usage=USAGE))
            client.track_with_reservation(hold, USED)
        values.append((time.perf_counter() - begun) / SUSTAINED_PAIRS * 1e6)
        await rest(client)
    return Series(SUSTAINED, world, SYNC, "us", values)


async def rest(client: Schematic | AsyncSchematic) -> None:
    """Wait until the events are delivered."""
    # The queue has nothing to wait for: callers never have to.
    while client.status().queued_events > 0:  # noqa: ASYNC110
        await asyncio.sleep(0.005)


def _held(result: CheckResult) -> Reservation:
    if result.reservation is None:
        raise SystemExit(f"a check that should hold credits did not: {result}")
    return result.reservation
