"""Figures other than medians of interleaved calls: ingest, memory, import, tails, threads, and growth.

Other programs usually disturb a sample that lasts milliseconds, so that the processor time is measured wherever a
single thread works.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from typing import TYPE_CHECKING, Any

from schematic_native._native import Core, OpenHolds, Schematic
from schematic_native.config.defaults import SPOOL_BYTES
from schematic_native.tools.bench.series import Series
from schematic_native.tools.bench.worlds import API_KEY, COMPANY, CREDIT, FLAG, LEASE_SIZE, world

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MICROSECONDS, MILLISECONDS = 1e6, 1e3
CALLS = 2000
CALLS_PER_THREAD = 50_000
STREAMED_CHECKS = 100_000
MESSAGES_PER_SECOND = 1000
FAR = 86_400.0

INGEST_FULL, INGEST_PARTIAL, MEMORY = "ingest a company", "ingest a partial", "a cached company"
IMPORT, TAIL, THREADS = (
    "import + ready",
    "check, p99.9 while messages stream in",
    "check_flag, all threads",
)
COMPANIES, HOLDS, SWEEP, SPOOLED = (
    "check_flag by cached companies",
    "check by open holds",
    "sweep by open holds",
    "settle by spool",
)
US = "schematic_native"


def quick() -> Iterator[Series]:
    """Measure everything that takes a few seconds in all."""
    yield from ingest()
    yield memory(500)
    yield imports(7)
    yield tail(STREAMED_CHECKS)
    yield from threads((1, 2, 4), CALLS_PER_THREAD)
    yield from companies((1, 1000))
    yield from holds((1, 10_000))
    yield from spooled()


def slow() -> Iterator[Series]:
    """Measure everything that takes a minute and a gigabyte."""
    yield from companies((100_000,))
    yield from holds((1_000_000,))


def stocked(size: str, **settings: Any) -> Core:
    """Return a core that knows a world and holds a lease."""
    core = Core(api_key=API_KEY, lease_size=LEASE_SIZE, **settings)
    seed = world(size)
    core.ingest(message("Flags", "full", seed["flags"]))
    core.ingest(message("Company", "full", seed["companies"][0]))
    expires_at = time.time() + FAR
    core.install_lease("comp_acme", CREDIT, "lease_bench", LEASE_SIZE, expires_at)
    return core


def hot(core: Core, holds: OpenHolds | None = None) -> Schematic:
    """Return the native half of a client with this core, which has its public methods."""
    client = Schematic()
    client._take_core(core, holds)  # noqa: SLF001 - no client around it
    client._open(checking=True, leasing=True, settling=True)  # noqa: SLF001
    return client


def message(entity: str, kind: str, data: Any) -> bytes:
    """Return a DataStream message."""
    entity_id = data.get("id") if isinstance(data, dict) else None
    body = {"entity_type": f"rulesengine.{entity}", "message_type": kind, "entity_id": entity_id}
    return json.dumps(body | {"data": data}).encode()


def samples(call: Callable[[], object], rounds: int, calls: int) -> list[float]:
    """Return the seconds of one call, by round; the first round is a warm-up."""
    times = []
    for _ in range(rounds + 1):
        begun = time.thread_time()
        for _ in range(calls):
            call()
        times.append((time.thread_time() - begun) / calls)
    return times[1:]


def _us(seconds: list[float]) -> list[float]:
    return [each * MICROSECONDS for each in seconds]


def ingest() -> Iterator[Series]:
    """Ingest a company with 25 of each, and a partial update of its balance."""
    core = stocked("big")
    full = message("Company", "full", world("big")["companies"][0])
    partial = json.dumps(
        {
            "entity_type": "rulesengine.Company",
            "message_type": "partial",
            "entity_id": "comp_acme",
            "data": {"credit_balances": {CREDIT: 1e9}},
        }
    ).encode()
    for name, sent in ((INGEST_FULL, full), (INGEST_PARTIAL, partial)):
        values = samples(lambda sent=sent: core.ingest(sent), 20, 200)  # type: ignore[misc]
        yield Series(name, f"{len(full) / 1000:.0f} KB", US, "us", _us(values))


def memory(count: int) -> Series:
    """Measure the memory of one cached company, in a new interpreter."""
    program = f"""
from schematic_native.tools.bench.scenarios import message, resident, stocked
from schematic_native.tools.bench.worlds import world
core = stocked("big")
company = world("big")["companies"][0]
messages = [
    message("Company", "full", company | {{"id": f"comp_{{n}}", "keys": {{"id": f"key_{{n}}"}}}})
    for n in range({count})
]
before = resident()
for sent in messages:
    core.ingest(sent)
print((resident() - before) / {count} / 1000)
"""
    size = len(message("Company", "full", world("big")["companies"][0])) / 1000
    values = [float(_run(program)) for _ in range(3)]
    return Series(MEMORY, f"{size:.0f} KB of JSON", US, "KB", values)


def resident() -> int:
    """Return the memory of this process in bytes, or its maximum where only that is known."""
    try:
        with open("/proc/self/statm") as file:  # noqa: PTH123 - nothing more is loaded while memory is measured
            return int(file.read().split()[1]) * 4096
    except OSError:
        import resource  # noqa: PLC0415 - not on every system

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1000


def imports(rounds: int) -> Series:
    """Measure the time to the first result: import, compile a flag and a company, check."""
    seed = world("small")
    program = f"""
flag, company = {json.dumps(seed["flags"][0])!r}, {json.dumps(seed["companies"][0])!r}
import time
begun = time.perf_counter()
import schematic_native
from schematic_native.rulesengine import RulesEngine
engine = RulesEngine()
assert engine.check_flag(engine.load_flag(flag), engine.load_company(company)).value
print((time.perf_counter() - begun) * 1000)
"""
    # The first run writes the byte code, which an installation has.
    values = [float(_run(program)) for _ in range(rounds + 1)]
    return Series(IMPORT, "", US, "ms", values[1:])


def _run(program: str) -> str:
    environment = {**os.environ}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [sys.executable, "-c", program]
    done = subprocess.run(  # noqa: S603 - a program of our own
        command, capture_output=True, text=True, check=True, env=environment
    )
    return done.stdout


def tail(checks: int) -> Series:
    """Time each check and settle while another thread ingests messages."""
    core = stocked("big")
    sent = message("Company", "full", world("big")["companies"][0])
    ended = threading.Event()

    def stream() -> None:
        due = time.perf_counter()
        while not ended.is_set():
            core.ingest(sent)
            due += 1 / MESSAGES_PER_SECOND
            ended.wait(max(0.0, due - time.perf_counter()))

    streaming = threading.Thread(target=stream)
    streaming.start()
    client = hot(core)
    clock, check, settle = time.perf_counter, client.check, client.track_with_reservation
    values = []
    try:
        for _ in range(5):
            times = []
            for _ in range(checks // 5):
                begun = clock()
                answer = check(FLAG, COMPANY, usage=10)
                times.append(clock() - begun)
                settle(answer.reservation, 7)
            times.sort()
            values.append(times[int(len(times) * 0.999)] * MICROSECONDS)
            _drain(core)
    finally:
        ended.set()
        streaming.join()
    return Series(TAIL, f"{MESSAGES_PER_SECOND}/s", US, "us", values)


def threads(counts: tuple[int, ...], calls: int) -> Iterator[Series]:
    """Measure the checks of all threads together, in millions a second."""
    core = stocked("small")
    client = hot(core)

    def work() -> None:
        check_flag = client.check_flag
        for _ in range(calls):
            check_flag(FLAG, COMPANY)

    for count in counts:
        values = []
        for _ in range(6):
            workers = [threading.Thread(target=work) for _ in range(count)]
            begun = time.perf_counter()
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
            values.append(count * calls / (time.perf_counter() - begun) / 1e6)
            _drain(core)
        yield Series(THREADS, f"{count} threads", US, "M/s", values[1:])


def companies(counts: tuple[int, ...]) -> Iterator[Series]:
    """Check many companies, one after the other."""
    company = world("small")["companies"][0]
    for count in counts:
        core = stocked("small", max_companies=count + 1)
        for number in range(count):
            other = company | {"id": f"comp_{number}", "keys": {"id": f"key_{number}"}}
            core.ingest(message("Company", "full", other))
        # Jumps that the processor cannot predict, over the same keys whatever their number.
        asked = [{"id": f"key_{number * 7919 % count}"} for number in range(CALLS)]

        def ask(core: Core = core, asked: list[dict[str, str]] = asked) -> None:
            check_flag = hot(core).check_flag
            for keys in asked:
                check_flag(FLAG, keys)
            _drain(core)

        values = [each / CALLS for each in samples(ask, 15, 1)]
        yield Series(COMPANIES, f"{count:,}", US, "us", _us(values))


def holds(counts: tuple[int, ...]) -> Iterator[Series]:
    """Check and settle beside many open holds, and sweep as often as a client does."""
    for count in counts:
        now = [1_800_000_000.0]
        core = stocked("small", clock=lambda now=now: now[0], reservation_ttl=FAR)
        core.install_lease("comp_acme", CREDIT, "lease_bench", LEASE_SIZE, now[0] + 10 * FAR)
        check, settle = hot(core).check, hot(core).track_with_reservation
        for number in range(count):
            # The holds expire at times spread over a day, so that each second has its share.
            now[0] = 1_800_000_000.0 + number / count * FAR / 10
            check(FLAG, COMPANY, usage=1)
            if number % 5000 == 0:
                _drain(core)
        checks, sweeps = [], []
        for _ in range(16):
            begun = time.thread_time()
            for _ in range(CALLS):
                settle(check(FLAG, COMPANY, usage=1).reservation, 1)
            checks.append((time.thread_time() - begun) / CALLS)
            _drain(core)
            now[0] += 1
            begun = time.thread_time()
            core.sweep()
            sweeps.append(time.thread_time() - begun)
        yield Series(HOLDS, f"{count:,}", US, "us", _us(checks[1:]))
        yield Series(SWEEP, f"{count:,}", US, "us", _us(sweeps[1:]))


def spooled() -> Iterator[Series]:
    """Settle without a spool, with one that nobody syncs, and with one that is synced each second."""
    for name, fsync in (("none", False), ("never synced", None), ("synced each second", 1.0)):
        with tempfile.TemporaryDirectory() as directory:
            spool = (directory, SPOOL_BYTES, fsync)
            core = stocked("small", **({} if fsync is False else {"spool": spool}))
            core.start_spool()
            client, settles = hot(core), []
            for _ in range(16):
                holds = [client.check(FLAG, COMPANY, usage=1).reservation for _ in range(CALLS)]
                begun = time.thread_time()
                for hold in holds:
                    client.track_with_reservation(hold, 1)
                settles.append((time.thread_time() - begun) / CALLS)
                while (batch := core.take_batch()) is not None:
                    core.delivered(batch)
            core.close_spool([])
        yield Series(SPOOLED, name, US, "us", _us(settles[1:]))


def _drain(core: Core) -> None:
    """Empty the queue of events, so that every sample finds the same room."""
    while core.take_batch() is not None:
        pass
