"""Leases in Redis: our clients and the published SDK in turns, on one server and one emulator.

All keys begin with a prefix of this run, and nothing else on the server is touched.
"""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from contextlib import AsyncExitStack, contextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, NamedTuple

import redis
import redis.asyncio

from schematic_native import (
    AsyncSchematic,
    AsyncSchematicConfig,
    CreditLeaseConfig,
    LocalSlab,
    Schematic,
    SchematicConfig,
)
from schematic_native.emulator import Emulator
from schematic_native.tools.bench.estimates import estimate, ratio
from schematic_native.tools.bench.rounds import measure
from schematic_native.tools.bench.subjects import (
    CHECK,
    SETTLE,
    Seconds,
    Subject,
    rest,
    settings,
)
from schematic_native.tools.bench.table import amount, interval
from schematic_native.tools.bench.worlds import (
    API_KEY,
    COMPANY,
    CREDIT,
    FLAG,
    LEASE_SIZE,
    USAGE,
    USED,
    world,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from schematic_native.tools.bench.series import Series

PAIR = "check + settle"
# Of this process, all threads: it does not depend on how long Redis takes, nor on who else uses the machine.
PROCESSOR = "check + settle, processor time"
HEADER = (
    f"{'call':<30} {'world':<8} {'subject':<30} {'median':>12}   {'95 % confidence':<22} "
    f"{'times as fast':>14}"
)
# The slabs are large enough that no sample waits for one.
SLAB = LocalSlab(min_credits=LEASE_SIZE / 100, max_credits=LEASE_SIZE / 10, lifetime=60.0)
# Calls of one sample in which each call goes to Redis, and calls before it.
MANY, FEW, WARM = 40, 10, range(3)
STARTED = 5.0  # seconds that a server may take to answer
SYNC, ASYNC = "Schematic, Redis", "AsyncSchematic, Redis"
SYNC_SLAB, ASYNC_SLAB = "Schematic, slab", "AsyncSchematic, slab"


async def calls(worlds: Sequence[str], rounds: int, url: str) -> list[Series]:
    """Measure each subject in each world.

    Args:
        worlds: "small", "big" or both.
        rounds: samples of each.
        url: of a Redis server.

    """
    measured: list[Series] = []
    for size in worlds:
        async with AsyncExitStack() as stack:
            emulator = stack.enter_context(Emulator(seed=world(size)))
            prefix = f"schematic-bench-{uuid.uuid4().hex}:"
            stack.callback(_forget, url, prefix)
            subjects = [
                subject
                for slab in (None, SLAB)
                for subject in (
                    await _sync_client(emulator.base_url, url, prefix, slab, stack),
                    await _async_client(emulator.base_url, url, prefix, slab, stack),
                )
            ]
            try:
                subjects.append(await _published(emulator.base_url, url, prefix, stack))
            except ImportError as error:
                print(f"the published SDK is left out: {error}", file=sys.stderr)
            measured += await measure(size, subjects, rounds)
            if not (await asyncio.to_thread(emulator.audit))["balanced"]:
                raise SystemExit("the emulator's book does not balance: the run is broken")
    return measured


def lines(series: Sequence[Series]) -> Iterator[str]:
    """Yield the table, with the speed of each subject as a multiple of the published SDK's."""
    yield HEADER
    peers = {(one.call, one.world): one for one in series if one.subject.startswith("schematichq")}
    for one in sorted(series, key=lambda one: (one.world != "small", one.call)):
        peer = peers.get((one.call, one.world))
        times = ""
        if peer is not None and peer is not one:
            times = f"{ratio(peer.values, one.values).median:,.1f}x"
        found = estimate(one.values)
        yield (
            f"{one.call:<30} {one.world:<8} {one.subject:<30} {amount(found.median, one.unit):>12}   "
            f"{interval(found, one.unit):<22} {times:>14}"
        ).rstrip()


@contextmanager
def own_server() -> Iterator[str]:
    """Run a Redis server that saves nothing, on a free port, and return its URL.

    Raises:
        FileNotFoundError: redis-server is not installed.

    """
    program = shutil.which("redis-server")
    if program is None:
        raise FileNotFoundError("redis-server is not installed: give --redis the URL of a server")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        command = [
            program,
            "--port",
            str(port),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--dir",
            folder,
        ]
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL)  # noqa: S603 - found above
        try:
            _await_server(f"redis://127.0.0.1:{port}/0")
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            server.terminate()
            server.wait()


def _await_server(url: str) -> None:
    """Wait until a server responds."""
    until = time.monotonic() + STARTED
    with redis.Redis.from_url(url) as client:
        while True:
            try:
                client.ping()
            except redis.ConnectionError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.01)
            else:
                return


def _forget(url: str, prefix: str) -> None:
    with redis.Redis.from_url(url) as client:
        for key in client.scan_iter(f"{prefix}*"):
            client.delete(key)


def _fields(url: str, redis_client: object, prefix: str, slab: LocalSlab | None) -> dict[str, Any]:
    leases = CreditLeaseConfig(
        mode="client",
        default_lease_size=LEASE_SIZE,
        redis_client=redis_client,
        redis_key_prefix=prefix,
        local_slab=slab,
    )
    return settings(url) | {"credit_leases": leases}


async def _sync_client(
    url: str, redis_url: str, prefix: str, slab: LocalSlab | None, stack: AsyncExitStack
) -> Subject:
    """Return our synchronous client, with a synchronous client of Redis."""
    redis_client = stack.enter_context(redis.Redis.from_url(redis_url))
    client = Schematic(API_KEY, SchematicConfig(**_fields(url, redis_client, prefix, slab)))
    stack.push_async_callback(asyncio.to_thread, client.shutdown)
    await asyncio.to_thread(client.initialize)
    await asyncio.to_thread(client.prewarm, COMPANY, [CREDIT])
    check, settle = client.check, client.track_with_reservation

    async def sample(count: int) -> Seconds:
        rounds = range(count)
        await rest(client)
        early = [check(FLAG, COMPANY, usage=USAGE) for _ in WARM]
        start = _Reading.now()
        results = [check(FLAG, COMPANY, usage=USAGE) for _ in rounds]
        checked = start.since()
        for result in early:
            settle(result.reservation, USED)
        start = _Reading.now()
        for result in results:
            settle(result.reservation, USED)
        settled = start.since()
        return _seconds(early + results, checked, settled)

    return Subject(SYNC_SLAB if slab else SYNC, sample, MANY, FEW)


async def _async_client(
    url: str, redis_url: str, prefix: str, slab: LocalSlab | None, stack: AsyncExitStack
) -> Subject:
    """Return our asynchronous client, with an asynchronous client of Redis."""
    redis_client = await stack.enter_async_context(redis.asyncio.Redis.from_url(redis_url))
    config = AsyncSchematicConfig(**_fields(url, redis_client, prefix, slab))
    client = await stack.enter_async_context(AsyncSchematic(API_KEY, config))
    await client.prewarm(COMPANY, [CREDIT])
    check, settle = client.check, client.track_with_reservation

    async def sample(count: int) -> Seconds:
        rounds = range(count)
        await rest(client)
        early = [await check(FLAG, COMPANY, usage=USAGE) for _ in WARM]
        start = _Reading.now()
        results = [await check(FLAG, COMPANY, usage=USAGE) for _ in rounds]
        checked = start.since()
        for result in early:
            await settle(result.reservation, USED)
        start = _Reading.now()
        for result in results:
            await settle(result.reservation, USED)
        settled = start.since()
        return _seconds(early + results, checked, settled)

    return Subject(ASYNC_SLAB if slab else ASYNC, sample, MANY, FEW)


async def _published(url: str, redis_url: str, prefix: str, stack: AsyncExitStack) -> Subject:
    """Return the published SDK, whose leases need an asynchronous client."""
    from schematic import client as peer  # noqa: PLC0415 - it may not be installed

    redis_client = await stack.enter_async_context(redis.asyncio.Redis.from_url(redis_url))
    leases = peer.CreditLeaseConfig(
        mode="client",
        default_lease_size=LEASE_SIZE,
        redis_client=redis_client,
        redis_key_prefix=prefix,
    )
    config = peer.AsyncSchematicConfig(
        base_url=url, event_capture_url=url, use_datastream=True, credit_leases=leases
    )
    client = await stack.enter_async_context(peer.AsyncSchematic(API_KEY, config))
    await client.prewarm(COMPANY, [CREDIT])
    options = peer.CheckOptions(usage=USAGE)

    async def sample(count: int) -> Seconds:
        rounds = range(count)
        early = [await client.check(FLAG, COMPANY, options=options) for _ in WARM]
        start = _Reading.now()
        results = [await client.check(FLAG, COMPANY, options=options) for _ in rounds]
        checked = start.since()
        for result in early:
            await client.track_with_reservation(result.reservation, USED)
        start = _Reading.now()
        for result in results:
            await client.track_with_reservation(result.reservation, USED)
        settled = start.since()
        # Otherwise its events would disturb the next subject.
        await asyncio.sleep(0.05)
        return _seconds(early + results, checked, settled)

    return Subject(f"schematichq {version('schematichq')}, Redis", sample, FEW, FEW)


class _Reading(NamedTuple):
    """What the clocks show, or the seconds between two readings."""

    elapsed: float
    processor: float

    @classmethod
    def now(cls) -> _Reading:
        return cls(time.perf_counter(), time.process_time())

    def since(self) -> _Reading:
        """Return the seconds since this reading."""
        now = _Reading.now()
        return _Reading(now.elapsed - self.elapsed, now.processor - self.processor)


def _seconds(results: Sequence[Any], checking: _Reading, settling: _Reading) -> Seconds:
    refused = next((result for result in results if result.reservation is None), None)
    if refused is not None:
        raise SystemExit(f"a check that should hold credits did not: {refused}")
    return {
        CHECK: checking.elapsed,
        SETTLE: settling.elapsed,
        PAIR: checking.elapsed + settling.elapsed,
        PROCESSOR: checking.processor + settling.processor,
    }
