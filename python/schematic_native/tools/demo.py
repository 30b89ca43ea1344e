"""`schematic-native demo`: check, work and settle, end to end, on the embedded emulator.

The client connects over real sockets, and worker threads (or tasks) check and settle as fast as they can. At the
end, the emulator's ledger is compared with the program's own count. It never reaches the public service.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys
import threading
import time
from array import array
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from schematic_native import (
    AsyncSchematic,
    AsyncSchematicConfig,
    CreditLeaseConfig,
    Schematic,
    SchematicConfig,
)
from schematic_native.emulator import Emulator, SeedError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator

    from schematic_native import CheckResult

FLAG = "inference"
EVENT = "inference_tokens"
# Credits of a lease: enough that a hot loop rarely waits for the service.
LEASE_SIZE = 500_000
# Seconds that a check may wait for the service.
TIMEOUT = 1.0
# The workers pause while more events than that wait to be sent, so that the last are delivered soon.
MOST_QUEUED = 20_000
# Seconds that the last of them may take before the client is shut down, which gives them only a few.
DELIVERY = 60.0
# Seconds until an interrupt is noticed, at most.
INTERRUPT_POLL = 0.5
# The most workers, and the longest run and outage in seconds.
MOST_THREADS = 1000
LONGEST = 86_400.0
# Pairs of check and settle between two looks at the clock and the queue.
STRIDE = 64


@dataclass
class Tally:
    """What one worker has counted."""

    allowed: int = 0
    denied: Counter[str] = field(default_factory=Counter)
    # Whole units settled, by company.
    units: Counter[str] = field(default_factory=Counter)
    credits: float = 0.0
    settles: int = 0
    # Seconds that the worker paused, for events to be delivered.
    waited: float = 0.0
    # Nanoseconds that each check and each settle took.
    check_times: array[int] = field(default_factory=lambda: array("Q"))
    settle_times: array[int] = field(default_factory=lambda: array("Q"))

    def add(self, other: Tally) -> None:
        """Add what another worker counted."""
        self.allowed += other.allowed
        self.denied += other.denied
        self.units += other.units
        self.credits += other.credits
        self.settles += other.settles
        self.waited += other.waited
        self.check_times.extend(other.check_times)
        self.settle_times.extend(other.settle_times)

    @property
    def checks(self) -> int:
        """Checks made."""
        return len(self.check_times)

    def note(self, result: CheckResult, nanoseconds: int) -> None:
        """Count a check."""
        self.check_times.append(nanoseconds)
        if result.allowed:
            self.allowed += 1
        else:
            self.denied[result.error or result.reason] += 1

    def settled(self, result: CheckResult, units: int, nanoseconds: int) -> None:
        """Count a settle."""
        reservation = result.reservation
        if reservation is not None:
            self.settle_times.append(nanoseconds)
            self.settles += 1
            self.units[reservation.company_id] += units
            self.credits += units * reservation.consumption_rate


def _requests(seed: int) -> Iterator[tuple[dict[str, str], int, int]]:
    """Yield (company, tokens asked for, tokens used) for ever; most of them for one company."""
    generator = random.Random(seed)  # noqa: S311 - traffic, not secrets
    companies = [{"id": "acme"}] * 1996 + [
        {"id": name} for name in ("few", "none", "over", "override")
    ]
    generator.shuffle(companies)
    while True:
        for company in companies:
            asked = generator.randint(1, 16)
            yield company, asked, generator.randint(0, asked)


def _run_threads(url: str, api_key: str, threads: int, seconds: float, watch: Watch) -> Tally:
    config = SchematicConfig(
        base_url=url,
        event_capture_url=url,
        use_datastream=True,
        timeout=TIMEOUT,
        credit_leases=CreditLeaseConfig(mode="client", default_lease_size=LEASE_SIZE),
    )
    tallies = [Tally() for _ in range(threads)]
    with Schematic(api_key, config) as client:
        client.prewarm({"id": "acme"}, ["credit_inference"])
        watch.begin(tallies, lambda: client.status().queued_events)
        workers = [
            threading.Thread(
                target=_work, args=(client, number, tally, watch), name=f"worker-{number}"
            )
            for number, tally in enumerate(tallies)
        ]
        for worker in workers:
            worker.start()
        watch.until(time.monotonic() + seconds)
        for worker in workers:
            worker.join()
        watch.wait_for_delivery()
    return _sum(tallies)


def _work(client: Schematic, number: int, tally: Tally, watch: Watch) -> None:
    clock = time.perf_counter_ns
    traffic = _requests(number)
    while not watch.over.is_set():
        tally.waited += watch.wait_for_room()
        for _, (company, asked, used) in zip(range(STRIDE), traffic, strict=False):
            begun = clock()
            result = client.check(FLAG, company, usage=asked)
            checked = clock()
            tally.note(result, checked - begun)
            if result.reservation is not None:
                checked = clock()
                client.track_with_reservation(result.reservation, used)
                tally.settled(result, used, clock() - checked)


async def _run_tasks(url: str, api_key: str, tasks: int, seconds: float, watch: Watch) -> Tally:
    config = AsyncSchematicConfig(
        base_url=url,
        event_capture_url=url,
        use_datastream=True,
        timeout=TIMEOUT,
        credit_leases=CreditLeaseConfig(mode="client", default_lease_size=LEASE_SIZE),
    )
    tallies = [Tally() for _ in range(tasks)]
    async with AsyncSchematic(api_key, config) as client:
        await client.prewarm({"id": "acme"}, ["credit_inference"])
        watch.begin(tallies, lambda: client.status().queued_events)
        workers = [
            _work_async(client, number, tally, watch) for number, tally in enumerate(tallies)
        ]
        watching = asyncio.to_thread(watch.until, time.monotonic() + seconds)
        await asyncio.gather(watching, *workers)
        await asyncio.to_thread(watch.wait_for_delivery)
    return _sum(tallies)


async def _work_async(client: AsyncSchematic, number: int, tally: Tally, watch: Watch) -> None:
    clock = time.perf_counter_ns
    traffic = _requests(number)
    while not watch.over.is_set():
        # Nothing on the fast path waits, so the event loop gets its turn here.
        await asyncio.sleep(0)
        begun = clock()
        while watch.is_full():  # noqa: ASYNC110 - shared with threads
            await asyncio.sleep(0.005)
        tally.waited += (clock() - begun) / 1e9
        for _, (company, asked, used) in zip(range(STRIDE), traffic, strict=False):
            begun = clock()
            result = await client.check(FLAG, company, usage=asked)
            checked = clock()
            tally.note(result, checked - begun)
            if result.reservation is not None:
                checked = clock()
                await client.track_with_reservation(result.reservation, used)
                tally.settled(result, used, clock() - checked)


def _sum(tallies: list[Tally]) -> Tally:
    total = Tally()
    for tally in tallies:
        total.add(tally)
    return total


class Watch:
    """Shows the progress, pauses the workers while events queue up, and ends the run."""

    def __init__(self, emulator: Emulator, outage: float | None) -> None:
        self.over = threading.Event()
        self.seconds = 0.0
        self._emulator = emulator
        self._outage = outage
        self._tallies: list[Tally] = []
        self._queued: Callable[[], int] = int
        self._terminal = sys.stdout.isatty()

    def begin(self, tallies: list[Tally], queued: Callable[[], int]) -> None:
        """Watch the counts of these workers."""
        self._tallies = tallies
        self._queued = queued

    def is_full(self) -> bool:
        """Tell whether so many events wait to be sent that the workers should pause."""
        return not self.over.is_set() and self._queued() > MOST_QUEUED

    def wait_for_room(self) -> float:
        """Wait until fewer events wait to be sent; return how many seconds that took."""
        begun = time.monotonic()
        while self.is_full():
            self.over.wait(0.005)
        return time.monotonic() - begun

    def wait_for_delivery(self) -> None:
        """Wait until the service has every event: one that comes after its lease was released is no part of it."""
        end, pause = time.monotonic() + DELIVERY, threading.Event()
        while self._queued() and time.monotonic() < end:
            pause.wait(0.005)

    def until(self, end: float) -> None:
        """Show the progress until `end` of the monotonic clock, with an outage on the way if there is to be one."""
        begun = time.monotonic()
        middle = begun + (end - begun) / 3
        try:
            while (now := time.monotonic()) < end:
                if self._outage is not None and now >= middle:
                    self._fail(self._outage)
                    self._outage = None
                self._show(now - begun)
                self.over.wait(min(0.2 if self._terminal else 1.0, max(end - now, 0.0)))
        finally:
            self.seconds = time.monotonic() - begun
            self.over.set()
        self._show(self.seconds, last=True)

    def _fail(self, seconds: float) -> None:
        print(
            f"\n  kill -9 of the emulator (process {self._emulator.pid}); it is back in {seconds:g} s"
        )
        self._emulator.kill()
        time.sleep(seconds)
        self._emulator.restart(keep_state=True)
        print("  the emulator is back")

    def _show(self, seconds: float, *, last: bool = False) -> None:
        checks = sum(tally.checks for tally in self._tallies)
        settles = sum(tally.settles for tally in self._tallies)
        line = f"  {seconds:4.1f} s  {checks:>10,} checks  {settles:>10,} settles  {self._queued():>7,} events queued"
        if self._terminal:
            print(f"\r{line}", end="\n" if last else "", flush=True)
        else:
            print(line, flush=True)


def _percentile(times: array[int], share: float) -> str:
    if not times:
        return "-"
    ordered = sorted(times)
    return f"{ordered[min(int(len(ordered) * share), len(ordered) - 1)] / 1000:,.2f} us"


def _report(
    tally: Tally, state: dict[str, Any], seconds: float, workers: int, processor: float
) -> None:
    requests = state["requests"]
    leases = state["leases"].values()
    wire = sum(requests.get(kind, 0) for kind in ("acquire", "extend", "release", "check"))
    rows = [
        ("checks", f"{tally.checks:,} ({tally.checks / seconds:,.0f} a second)"),
        ("allowed", f"{tally.allowed:,}"),
        *((f"denied: {reason}", f"{count:,}") for reason, count in tally.denied.most_common()),
        ("settled", f"{tally.settles:,} reservations, {sum(tally.units.values()):,} tokens"),
        ("credits consumed", f"{tally.credits:,.15g}"),
        ("leases acquired", f"{len(leases):,}"),
        ("leases extended", f"{requests.get('extend', 0):,} requests"),
        ("lease calls", f"{1000 * wire / max(tally.checks, 1):.2f} per 1000 checks"),
        ("events delivered", f"{state['events']:,} in {requests.get('capture', 0):,} requests"),
        (
            "processor time",
            f"{processor / max(tally.checks, 1) * 1e6:.2f} us a check, with its settle and its events delivered",
        ),
        (
            "held back",
            f"{tally.waited / (seconds * workers):.0%} of the time, until events were delivered",
        ),
        (
            "check",
            f"p50 {_percentile(tally.check_times, 0.5)}, p99 {_percentile(tally.check_times, 0.99)}",
        ),
        (
            "settle",
            f"p50 {_percentile(tally.settle_times, 0.5)}, p99 {_percentile(tally.settle_times, 0.99)}",
        ),
    ]
    width = max(len(name) for name, _ in rows)
    print()
    for name, value in rows:
        print(f"  {name:<{width}}  {value}")


def audit(tally: Tally, state: dict[str, Any], book: dict[str, Any]) -> bool:
    """Compare the emulator's ledger with the program's own count; return whether they agree."""
    billed = {company: events.get(EVENT, 0) for company, events in state["billed"].items()}
    billed = {company: units for company, units in billed.items() if units}
    settled = {company: units for company, units in tally.units.items() if units}
    leases = state["leases"]
    granted = sum(lease["granted"] for lease in leases.values())
    consumed = sum(lease["tracked"] for lease in leases.values())
    ended = [lease for lease in leases.values() if lease["released_at"] is not None]
    released = sum(lease["granted"] - lease["tracked"] for lease in ended)
    claims = [
        (
            billed == settled,
            f"billed {sum(billed.values()):,} tokens = settled {sum(settled.values()):,} tokens",
        ),
        (
            granted == consumed + released,
            f"granted {granted:,.15g} = consumed {consumed:,.15g} + released {released:,.15g} credits",
        ),
        (
            consumed == tally.credits,
            f"consumed {consumed:,.15g} = the program's own {tally.credits:,.15g} credits",
        ),
        (book["balanced"], "the emulator's book balances: nothing minted, nothing lost"),
    ]
    print("\n  audit")
    for holds, claim in claims:
        print(f"    {'ok  ' if holds else 'FAIL'}  {claim}")
    for problem in book["problems"]:
        print(f"          {problem}")
    return all(holds for holds, _ in claims)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the subcommand's arguments."""
    parser.add_argument("--seconds", type=float, default=5.0, help="how long to run (default: 5)")
    parser.add_argument(
        "--threads", type=int, default=2, help="worker threads, or tasks with --async (default: 2)"
    )
    parser.add_argument("--async", dest="use_async", action="store_true", help="use AsyncSchematic")
    parser.add_argument(
        "--seed", metavar="FILE", help="what the emulator knows (default: the packaged example)"
    )
    parser.add_argument(
        "--stay",
        action="store_true",
        help="keep the emulator at the end, for a look at its dashboard, until interrupted",
    )
    parser.add_argument(
        "--outage",
        type=float,
        metavar="SECONDS",
        help="kill -9 the emulator a third of the way in and start it again after so many seconds",
    )


def run(arguments: argparse.Namespace) -> int:
    """Run the demo; 0 only if credits were held and the audit balances."""
    numbers = (
        ("--seconds", arguments.seconds, LONGEST),
        ("--threads", arguments.threads, MOST_THREADS),
        ("--outage", arguments.outage, LONGEST),
    )
    for name, value, most in numbers:
        if value is not None and not 0 < value <= most:
            print(
                f"schematic-native demo: {name} must be more than 0 and at most {most:,.0f}, not {value}",
                file=sys.stderr,
            )
            return 2
    try:
        emulator = Emulator(seed=arguments.seed, journal=arguments.outage is not None)
    except (OSError, SeedError) as error:
        print(f"schematic-native demo: {error}", file=sys.stderr)
        return 1
    with emulator:
        return _run(emulator, arguments)


def _run(emulator: Emulator, arguments: argparse.Namespace) -> int:
    kind = "AsyncSchematic" if arguments.use_async else "Schematic"
    print(
        f"emulator at {emulator.base_url} (process {emulator.pid}), {kind}, {arguments.threads} workers"
    )
    watch = Watch(emulator, arguments.outage)
    begun = time.process_time()
    parameters = emulator.base_url, emulator.api_key, arguments.threads, arguments.seconds, watch
    tally = (
        asyncio.run(_run_tasks(*parameters)) if arguments.use_async else _run_threads(*parameters)
    )
    processor = time.process_time() - begun
    state = emulator.state()
    _report(tally, state, watch.seconds, arguments.threads, processor)
    balances = audit(tally, state, emulator.audit())
    if not tally.settles:
        # A ledger in which nothing happened balances, too.
        print(
            f"schematic-native demo: no check held credits: the seed needs a flag {FLAG!r} "
            "that is paid in credits, and a company with the key id=acme that has some",
            file=sys.stderr,
        )
        return 1
    _show_page(emulator, stay=arguments.stay)
    return 0 if balances else 1


def _show_page(emulator: Emulator, *, stay: bool) -> None:
    """Say where the dashboard with what happened is, and wait while somebody looks at it."""
    if not stay:
        print("\nThe emulator ends now: --stay keeps it, and its dashboard with this ledger.")
        return
    with contextlib.suppress(KeyboardInterrupt):
        print(f"\ndashboard: {emulator.base_url}/  (Ctrl-C ends it)", flush=True)
        while True:
            # A signal that arrives just before the wait begins does not interrupt it.
            time.sleep(INTERRUPT_POLL)
