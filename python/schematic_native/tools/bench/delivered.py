"""Measures the processor time of a check and a settle, including the delivery of their events.

Each client has a process of its own and sends its events to a sink in another process, so that the processor time
includes everything that the client does and nothing else. The parent has it make pairs of check and settle, waits
until the sink has received their events, and asks how much processor time that took.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from schematic_native import (
    AsyncSchematic,
    AsyncSchematicConfig,
    CreditLeaseConfig,
    Schematic,
    SchematicConfig,
)
from schematic_native.emulator import Emulator
from schematic_native.tools.bench import sink
from schematic_native.tools.bench.scenarios import hot, stocked
from schematic_native.tools.bench.series import Series
from schematic_native.tools.bench.subjects import ASYNC, SYNC
from schematic_native.tools.bench.worlds import (
    API_KEY,
    COMPANY,
    CREDIT,
    EVENT,
    FLAG,
    LEASE_SIZE,
    USAGE,
    USED,
    world,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from schematic_native._native import Schematic as Synchronous

PAIR = "check + settle, until delivered"
DELIVERY = "an event, from the queue to the service"
TAIL = "check, p99.9 at a steady pace"
# Without the first check after each sleep, which finds the machine's caches as other programs left them.
AWAKE_TAIL = "check, p99.9 at a steady pace, but for the first after a sleep"
SUSTAINED = "check + settle, sustained"
FAR = "events delivered far away"
PUBLISHED = "schematichq"
ALONE = "no sender"

# Pairs of one sample: their events fill whole batches, so that none waits for the next flush.
OUR_PAIRS, THEIR_PAIRS = 4000, 50
# Pairs before a sample: caches are cold, as the published SDK takes a second in between.
WARM_PAIRS = 500
# Pairs a second at a steady pace, seconds of a sample, and number of samples.
PACED, PACED_SECONDS, SAMPLES = 20_000, 1.0, 5
# Seconds that a response of a distant service takes, and how many events are queued at once.
ROUND_TRIP, EVENTS = 0.1, 50_000
# Rates to try in turn, in pairs a second, and for how many seconds each.
RATES, RATE_SECONDS = (60_000, 120_000, 180_000), 2.0
# A rate is sustained if this share of it is reached.
KEPT = 0.99
# Seconds between two bursts at a steady pace, and after which events count as lost.
TICK, PATIENCE = 0.001, 60.0
# Seconds between two flushes, which deliver what does not fill a batch.
PERIOD = 1


class Driven(Protocol):
    """A client in the process that is measured."""

    async def pairs(self, count: int) -> None:
        """Check and settle so many times."""
        ...


class _Sync:
    def __init__(self, client: Schematic) -> None:
        self._client = client

    async def pairs(self, count: int) -> None:
        check, settle = self._client.check, self._client.track_with_reservation
        for _ in range(count):
            settle(check(FLAG, COMPANY, usage=USAGE).reservation, USED)


class _Async:
    def __init__(self, client: AsyncSchematic) -> None:
        self._client = client

    async def pairs(self, count: int) -> None:
        check, settle = self._client.check, self._client.track_with_reservation
        for _ in range(count):
            await settle((await check(FLAG, COMPANY, usage=USAGE)).reservation, USED)


class _Published:
    def __init__(self, client: Any, options: Any) -> None:
        self._client, self._options = client, options

    async def pairs(self, count: int) -> None:
        for _ in range(count):
            result = await self._client.check(FLAG, COMPANY, options=self._options)
            await self._client.track_with_reservation(result.reservation, USED)


class Spent(NamedTuple):
    """Microseconds of processor time: of a pair with its events, and of one event apart from the calls."""

    pair: float
    event: float


class Child:
    """A client in a process of its own."""

    def __init__(self, subject: str, api: str, events: sink.Sink, stack: ExitStack) -> None:
        self.subject = subject
        self._events = events
        command = [sys.executable, "-m", "schematic_native.tools.bench.delivered"]
        self._process = stack.enter_context(
            subprocess.Popen(  # noqa: S603 - a module of our own
                [*command, subject, api, events.url],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        )
        stack.callback(self._process.kill)
        self._read()

    def sample(self) -> Spent:
        """Warm up and take a sample."""
        if self.subject == PUBLISHED:
            return self.pairs(THEIR_PAIRS)
        self.pairs(WARM_PAIRS)
        return self.pairs(OUR_PAIRS)

    def pairs(self, count: int) -> Spent:
        """Make pairs, and wait until their events are delivered."""
        before = self._events.taken()
        self._write("pairs", count)
        self._wait_for(before + 2 * count)
        all_in, caller = self._ask("spent")
        return Spent(all_in / count * 1e6, (all_in - caller) / (2 * count) * 1e6)

    def alone(self) -> dict[str, float]:
        """Do the same with a core that has no client: the tails that the machine itself causes."""
        figures: dict[str, float] = self._ask("alone", PACED, PACED_SECONDS)
        return figures

    def paced(self, rate: int, seconds: float) -> dict[str, float]:
        """Make pairs at a steady rate; return the figures."""
        before = self._events.taken()
        figures: dict[str, float] = self._ask("paced", rate, seconds)
        self._wait_for(before + 2 * figures["pairs"] - figures["dropped"])
        return figures

    def track(self, count: int) -> float:
        """Queue so many events at once; return how many were delivered per second."""
        before = self._events.taken()
        self._write("track", count)
        begun = time.perf_counter()
        self._wait_for(before + count)
        return count / (time.perf_counter() - begun)

    def _wait_for(self, taken: float) -> None:
        end = time.monotonic() + PATIENCE
        while self._events.taken() < taken:
            if time.monotonic() > end:
                raise SystemExit(f"{self.subject} has not delivered its events: no figure is true")
            time.sleep(0.002)

    def _ask(self, *words: object) -> Any:
        self._write(*words)
        return self._read()

    def _write(self, *words: object) -> None:
        if self._process.stdin is None:
            raise RuntimeError("the client has no input")
        print(*words, file=self._process.stdin, flush=True)

    def _read(self) -> Any:
        line = self._process.stdout.readline() if self._process.stdout is not None else ""
        if not line:
            raise ImportError(f"{self.subject} could not be started")
        return json.loads(line)


def measure(worlds: Sequence[str], rounds: int, published: str | None) -> Iterator[Series]:
    """Measure every client in each world, in turns; `published` is the published SDK's version, None without it."""
    for size in worlds:
        with ExitStack() as stack:
            emulator = stack.enter_context(Emulator(seed=world(size)))
            events = stack.enter_context(sink.running())
            subjects = [SYNC, ASYNC] + ([] if published is None else [PUBLISHED])
            turns = [Child(each, emulator.base_url, events, stack) for each in subjects]
            values: dict[str, list[Spent]] = {subject: [] for subject in subjects}
            for child in turns:
                child.sample()
            for _ in range(rounds):
                for child in turns:
                    values[child.subject].append(child.sample())
                turns = [*turns[1:], turns[0]]
            for subject, found in values.items():
                name = f"{PUBLISHED} {published}" if subject == PUBLISHED else subject
                yield Series(PAIR, size, name, "us", [spent.pair for spent in found])
            # The other clients send from where they make their calls: the two cannot be figures apart.
            events_alone = [spent.event for spent in values[SYNC]]
            yield Series(DELIVERY, size, SYNC, "us", events_alone)


def at_work() -> Iterator[Series]:
    """Measure our client while its sender is busy: tails, the sustained rate, and a distant service."""
    with ExitStack() as stack:
        emulator = stack.enter_context(Emulator(seed=world("small")))
        near = Child(SYNC, emulator.base_url, stack.enter_context(sink.running()), stack)
        far = Child(SYNC, emulator.base_url, stack.enter_context(sink.running(ROUND_TRIP)), stack)
        near.pairs(OUR_PAIRS)
        tails = [(near.paced(PACED, PACED_SECONDS), near.alone()) for _ in range(SAMPLES)]
        for call, figure in ((TAIL, "p99.9"), (AWAKE_TAIL, "p99.9 awake")):
            for subject, at in ((SYNC, 0), (ALONE, 1)):
                values = [tail[at][figure] for tail in tails]
                yield Series(call, f"{PACED:,} pairs/s", subject, "us", values)
        sustained = [_sustained(near) for _ in range(2)]
        yield Series(SUSTAINED, "", SYNC, "/s", sustained)
        far.track(EVENTS)
        reached = [far.track(EVENTS) for _ in range(2)]
        yield Series(FAR, f"{ROUND_TRIP * 1000:.0f} ms", SYNC, "/s", reached)


def _sustained(child: Child) -> float:
    """Return the highest rate at which nothing was dropped."""
    sustained = 0.0
    for rate in RATES:
        figures = child.paced(rate, RATE_SECONDS)
        if figures["dropped"] or figures["rate"] < KEPT * rate:
            break
        sustained = figures["rate"]
    return sustained


# In the process of the client


async def _drive(subject: str, api: str, events: str) -> None:
    fields = {
        "base_url": api,
        "event_capture_url": events,
        "use_datastream": True,
        "event_buffer_period": PERIOD,
    }
    if subject == SYNC:
        leases = CreditLeaseConfig(mode="client", default_lease_size=LEASE_SIZE)
        config = SchematicConfig(**fields, credit_leases=leases)  # type: ignore[arg-type]
        with Schematic(API_KEY, config) as client:
            client.initialize()
            client.prewarm(COMPANY, [CREDIT])
            await _obey(_Sync(client), client)
    elif subject == ASYNC:
        leases = CreditLeaseConfig(mode="client", default_lease_size=LEASE_SIZE)
        async_config = AsyncSchematicConfig(**fields, credit_leases=leases)  # type: ignore[arg-type]
        async with AsyncSchematic(API_KEY, async_config) as async_client:
            await async_client.prewarm(COMPANY, [CREDIT])
            await _obey(_Async(async_client))
    else:
        from schematic import client as peer  # noqa: PLC0415 - it may not be installed

        peer_leases = peer.CreditLeaseConfig(mode="client", default_lease_size=LEASE_SIZE)
        peer_config = peer.AsyncSchematicConfig(
            base_url=api,
            event_capture_url=events,
            event_buffer_period=PERIOD,
            use_datastream=True,
            credit_leases=peer_leases,
        )
        async with peer.AsyncSchematic(API_KEY, peer_config) as other:
            await other.prewarm(COMPANY, [CREDIT])
            await _obey(_Published(other, peer.CheckOptions(usage=USAGE)))


async def _obey(driven: Driven, client: Schematic | None = None) -> None:
    """Carry out the commands of the input, one per line."""
    _reply("ready")
    begun = called = 0.0
    while True:
        words = (await asyncio.to_thread(sys.stdin.readline)).split()
        match words:
            case ["pairs", count]:
                begun, start = time.process_time(), time.thread_time()
                await driven.pairs(int(count))
                called = time.thread_time() - start
            case ["track", count] if client is not None:
                for _ in range(int(count)):
                    client.track(EVENT, COMPANY, quantity=USED)
            case ["paced", rate, seconds] if client is not None:
                before = client.status().dropped_events
                figures = _pace(client, int(rate), float(seconds))
                _reply(figures | {"dropped": client.status().dropped_events - before})
            case ["alone", rate, seconds]:
                _reply(_pace(hot(stocked("small")), int(rate), float(seconds)))
            case ["spent"]:
                _reply([time.process_time() - begun, called])
            case _:
                return


def _pace(client: Synchronous, rate: int, seconds: float) -> dict[str, float]:
    """Make pairs at a steady rate, in a burst for each tick."""
    check, settle, clock = client.check, client.track_with_reservation, time.perf_counter
    times: list[float] = []
    firsts: set[int] = set()
    count, begun = int(rate * seconds), clock()
    while (made := len(times)) < count:
        due = min(count, int((clock() - begun) * rate) + 1)
        firsts.add(made)
        for _ in range(due - made):
            start = clock()
            result = check(FLAG, COMPANY, usage=USAGE)
            times.append(clock() - start)
            settle(result.reservation, USED)
        time.sleep(TICK)
    took = clock() - begun
    awake = [seconds for at, seconds in enumerate(times) if at not in firsts]
    return {
        "pairs": count,
        "rate": count / took,
        "p99.9": _tail(times),
        "p99.9 awake": _tail(awake),
    }


def _tail(seconds: Sequence[float]) -> float:
    """Return the 99.9th percentile in microseconds; 0 of nothing."""
    ordered = sorted(seconds)
    return ordered[int(len(ordered) * 0.999)] * 1e6 if ordered else 0.0


def _reply(what: object) -> None:
    sys.stdout.write(f"{json.dumps(what)}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(_drive(*sys.argv[1:]))
