"""Our clients beside the published SDK, in one run, on one emulator: the ratio is what counts.

In memory, client mode, events recorded, one caller. Each sample times a run of checks, then the settles of their
reservations; between two samples the events are let out, so that none times another's backlog.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schematic_native import (
    AsyncSchematic,
    AsyncSchematicConfig,
    CreditLeaseConfig,
    Schematic,
    SchematicConfig,
)
from schematic_native.bench.worlds import API_KEY, COMPANY, CREDIT, FLAG, LEASE_SIZE, world
from schematic_native.emulator import Emulator
from schematic_native.rulesengine import RulesEngine

if TYPE_CHECKING:
    import argparse
    from collections.abc import Awaitable, Callable

USAGE, USED = 10, 7
CALLS = ("check", "track_with_reservation")
SYNC, ASYNC, ENGINE, PEER = (
    "schematic_native Schematic",
    "schematic_native AsyncSchematic",
    "schematic_native RulesEngine",
    "schematichq 1.4.6",
)


@dataclass
class Sample:
    """Seconds that a run of checks took, and then a run of settles."""

    check: float
    settle: float


@dataclass
class Subject:
    """What is measured: a name, how to take a sample of so many calls, and how many are worth timing at once."""

    name: str
    sample: Callable[[int], Awaitable[Sample]]
    per_sample: int


@dataclass
class Figure:
    """Microseconds of one call: the median of the samples, and what 80 % of them lie between."""

    world: str
    subject: str
    call: str
    median: float
    low: float
    high: float


def _expect_held(results: list[Any]) -> None:
    refused = next((result for result in results if result.reservation is None), None)
    if refused is not None:
        raise SystemExit(f"a check that should hold credits did not: {refused}")


def _settings(url: str) -> dict[str, Any]:
    leases = CreditLeaseConfig(mode="client", default_lease_size=LEASE_SIZE)
    return {
        "base_url": url,
        "event_capture_url": url,
        "use_datastream": True,
        "credit_leases": leases,
    }


async def _let_events_out(client: Schematic | AsyncSchematic) -> None:
    # The queue has no event to wait on: that it never waits is its point.
    while client.status().queued_events > 0:  # noqa: ASYNC110
        await asyncio.sleep(0.01)


def _sync_subject(client: Schematic) -> Subject:
    async def sample(count: int) -> Sample:
        check, settle = client.check, client.track_with_reservation
        begun = time.perf_counter()
        results = [check(FLAG, COMPANY, usage=USAGE) for _ in range(count)]
        checked = time.perf_counter()
        for result in results:
            settle(result.reservation, USED)
        settled = time.perf_counter()
        _expect_held(results)
        await _let_events_out(client)
        return Sample(checked - begun, settled - checked)

    return Subject(SYNC, sample, per_sample=2000)


def _async_subject(client: AsyncSchematic) -> Subject:
    async def sample(count: int) -> Sample:
        check, settle = client.check, client.track_with_reservation
        begun = time.perf_counter()
        results = [await check(FLAG, COMPANY, usage=USAGE) for _ in range(count)]
        checked = time.perf_counter()
        for result in results:
            await settle(result.reservation, USED)
        settled = time.perf_counter()
        _expect_held(results)
        await _let_events_out(client)
        return Sample(checked - begun, settled - checked)

    return Subject(ASYNC, sample, per_sample=2000)


def _peer_subject(url: str) -> tuple[Any, Subject]:
    from schematic import client as peer  # noqa: PLC0415 - it may not be installed

    leases = peer.CreditLeaseConfig(mode="client", default_lease_size=LEASE_SIZE)
    config = peer.AsyncSchematicConfig(
        base_url=url, event_capture_url=url, use_datastream=True, credit_leases=leases
    )
    client = peer.AsyncSchematic(API_KEY, config)
    options = peer.CheckOptions(usage=USAGE)

    async def sample(count: int) -> Sample:
        begun = time.perf_counter()
        results = [await client.check(FLAG, COMPANY, options=options) for _ in range(count)]
        checked = time.perf_counter()
        for result in results:
            await client.track_with_reservation(result.reservation, USED)
        settled = time.perf_counter()
        _expect_held(results)
        await asyncio.sleep(0.1)
        return Sample(checked - begun, settled - checked)

    return client, Subject(PEER, sample, per_sample=50)


def _time(call: Callable[[], object], samples: int, per_sample: int) -> list[float]:
    """Return microseconds for one call, by sample."""
    times = []
    for _ in range(samples + 1):
        begun = time.perf_counter()
        for _ in range(per_sample):
            call()
        times.append((time.perf_counter() - begun) / per_sample * 1e6)
    return times[1:]


def _compare_engines(size: str, samples: int) -> list[Figure]:
    """Measure the engines alone: entities at hand, no client around them."""
    seed = world(size)
    engine = RulesEngine()
    flag = engine.load_flag(json.dumps(seed["flags"][0]))
    company = engine.load_company(json.dumps(seed["companies"][0]))
    ours = _time(lambda: engine.check_flag(flag, company), samples, 2000)
    figures = [_figure(size, ENGINE, "RulesEngine.check_flag", ours)]
    try:
        from schematic.datastream.rules_engine import RulesEngineClient  # noqa: PLC0415 - optional
        from schematic.types import RulesengineCompany, RulesengineFlag  # noqa: PLC0415
    except ImportError:
        return figures
    peer = RulesEngineClient()
    asyncio.run(peer.initialize())
    peer_flag = RulesengineFlag(**seed["flags"][0])
    peer_company = RulesengineCompany(**seed["companies"][0])
    theirs = _time(lambda: peer.check_flag(peer_flag, peer_company), samples, 50)
    return [*figures, _figure(size, PEER, "RulesEngine.check_flag", theirs)]


async def _measure(size: str, subject: Subject, samples: int) -> list[Figure]:
    await subject.sample(subject.per_sample)
    taken = [await subject.sample(subject.per_sample) for _ in range(samples)]
    checks = [sample.check / subject.per_sample * 1e6 for sample in taken]
    settles = [sample.settle / subject.per_sample * 1e6 for sample in taken]
    return [
        _figure(size, subject.name, call, times)
        for call, times in zip(CALLS, (checks, settles), strict=True)
    ]


def _figure(size: str, subject: str, call: str, times: list[float]) -> Figure:
    ordered = sorted(times)
    tenth = len(ordered) // 10
    return Figure(
        size, subject, call, statistics.median(ordered), ordered[tenth], ordered[-1 - tenth]
    )


async def _compare(size: str, samples: int) -> list[Figure]:
    figures: list[Figure] = []
    with Emulator(seed=world(size)) as emulator:
        url = emulator.base_url
        with Schematic(API_KEY, SchematicConfig(**_settings(url))) as client:
            await asyncio.to_thread(client.prewarm, COMPANY, [CREDIT])
            figures += await _measure(size, _sync_subject(client), samples)
        async with AsyncSchematic(API_KEY, AsyncSchematicConfig(**_settings(url))) as client:
            await client.prewarm(COMPANY, [CREDIT])
            figures += await _measure(size, _async_subject(client), samples)
        try:
            peer, subject = _peer_subject(url)
        except ImportError as error:
            print(f"the published SDK is left out: {error}", file=sys.stderr)
            return figures
        async with peer:
            await peer.prewarm(COMPANY, [CREDIT])
            figures += await _measure(size, subject, samples)
        if not emulator.audit()["balanced"]:
            raise SystemExit(
                "the emulator's book does not balance: the figures are of a broken run"
            )
    return figures


def _show(figures: list[Figure]) -> None:
    peers = {
        (figure.world, figure.call): figure.median for figure in figures if figure.subject == PEER
    }
    print(
        f"{'world':<6} {'call':<23} {'subject':<34} {'median':>11}   {'80 % of samples':<21} {'ratio':>7}"
    )
    for figure in sorted(figures, key=lambda figure: (figure.world != "small", figure.call)):
        peer = peers.get((figure.world, figure.call))
        ratio = f"{peer / figure.median:,.0f}x" if peer else ""
        spread = f"{figure.low:,.2f} to {figure.high:,.2f}"
        print(
            f"{figure.world:<6} {figure.call:<23} {figure.subject:<34} {figure.median:>8,.2f} us   "
            f"{spread:<21} {ratio:>7}"
        )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the subcommand's arguments."""
    parser.add_argument("--samples", type=int, default=30, help="samples of each (default: 30)")
    parser.add_argument(
        "--worlds",
        nargs="+",
        choices=("small", "big"),
        default=["small", "big"],
        help="a company with one entitlement, trait and metric, or with 25 of each (default: both)",
    )
    parser.add_argument(
        "--json", metavar="FILE", type=Path, help="also write the figures to this file"
    )


def run(arguments: argparse.Namespace) -> int:
    """Measure, show, and write JSON if asked to."""
    if arguments.samples < 1:
        print(
            f"schematic-native bench: --samples must be 1 or more, not {arguments.samples}",
            file=sys.stderr,
        )
        return 2
    figures = [
        figure
        for size in arguments.worlds
        for figure in (
            *_compare_engines(size, arguments.samples),
            *asyncio.run(_compare(size, arguments.samples)),
        )
    ]
    _show(figures)
    if arguments.json is not None:
        arguments.json.write_text(
            json.dumps([asdict(figure) for figure in figures], indent=1) + "\n"
        )
    return 0
