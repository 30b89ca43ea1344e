"""The flags of `bench`, and what it does with them: measure, show, compare and write."""

from __future__ import annotations

import asyncio
import re
import sys
from contextlib import AsyncExitStack, nullcontext
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import redis

from schematic_native.emulator import Emulator
from schematic_native.tools.bench import delivered, peers, scenarios, series, shared, subjects
from schematic_native.tools.bench.document import update
from schematic_native.tools.bench.page import render
from schematic_native.tools.bench.rounds import measure
from schematic_native.tools.bench.table import changes, lines
from schematic_native.tools.bench.worlds import world

if TYPE_CHECKING:
    import argparse
    from collections.abc import Awaitable

    from schematic_native.tools.bench.series import Series
    from schematic_native.tools.bench.subjects import Subject

# Of measurements that take a second per round with the published SDK.
FEWEST_ROUNDS = 5
# Where runs are saved by name, in the current directory.
SAVED = Path(".bench")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the subcommand's arguments."""
    parser.add_argument("--samples", type=int, default=30, help="rounds of samples (default: 30)")
    parser.add_argument(
        "--worlds",
        nargs="+",
        choices=("small", "big"),
        default=["small", "big"],
        help="a company with one entitlement, trait and metric, or with 25 of each (default: both)",
    )
    parser.add_argument(
        "--all",
        action="store_true",
        help="also measure what takes minutes: 100,000 companies, a million holds",
    )
    parser.add_argument(
        "--calls-only",
        action="store_true",
        help="only measure calls: leave out delivery of events, memory, import and the like",
    )
    parser.add_argument(
        "--redis",
        metavar="URL",
        nargs="?",
        const="",
        help="measure leases in Redis instead, on this server or on one that is started",
    )
    parser.add_argument("--save", metavar="NAME", help=f"keep the run as a baseline, in {SAVED}/")
    parser.add_argument(
        "--baseline", metavar="NAME", help="show what has changed since a saved run"
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="write every sample to this file")
    parser.add_argument(
        "--html", metavar="FILE", type=Path, help="write a report with distributions"
    )
    parser.add_argument(
        "--pyperf", metavar="FILE", type=Path, help="write the samples for pyperf's own tools"
    )
    parser.add_argument(
        "--document",
        metavar="FILE",
        nargs="+",
        type=Path,
        default=[],
        help="write the table of targets between the markers of these files",
    )


def run(arguments: argparse.Namespace) -> int:
    """Measure, show, compare and write."""
    wrong = _fault(arguments)
    if wrong is not None:
        print(f"schematic-native bench: {wrong}", file=sys.stderr)
        return 2
    before = (
        {one.name: one for one in series.read(_saved(arguments.baseline))}
        if arguments.baseline
        else {}
    )
    try:
        measured = _measured(arguments)
    except (FileNotFoundError, redis.RedisError) as error:
        print(f"schematic-native bench: --redis: {error}", file=sys.stderr)
        return 1
    show = lines if arguments.redis is None else shared.lines
    print("\n".join(show(measured)))
    if before:
        print(f"\nchanged from {arguments.baseline}:")
        print("\n".join(changes(measured, before)))
    _write(arguments, measured)
    return 0


def _measured(arguments: argparse.Namespace) -> list[Series]:
    """Measure what the flags ask for."""
    worlds, rounds = arguments.worlds, arguments.samples
    if arguments.redis is not None:
        server = nullcontext(arguments.redis) if arguments.redis else shared.own_server()
        with server as url:
            return asyncio.run(shared.calls(worlds, rounds, url))
    measured: list[Series] = []
    if not arguments.calls_only:
        # First, as it matters most to a program.
        few = max(FEWEST_ROUNDS, rounds // 10)
        measured += delivered.measure(worlds, few, _published_version())
        measured += delivered.at_work()
    measured += asyncio.run(_calls(worlds, rounds, sustained=not arguments.calls_only))
    if not arguments.calls_only:
        measured += scenarios.quick()
    if arguments.all:
        measured += scenarios.slow()
    return measured


def _published_version() -> str | None:
    try:
        return version(delivered.PUBLISHED)
    except PackageNotFoundError:
        print(f"{delivered.PUBLISHED} is left out: it is not installed", file=sys.stderr)
        return None


def _fault(arguments: argparse.Namespace) -> str | None:
    """Return what is wrong with the flags, before minutes are spent; None if nothing is."""
    if arguments.samples < 1:
        return f"--samples must be 1 or more, not {arguments.samples}"
    for name in (arguments.save, arguments.baseline):
        if name is not None and not re.fullmatch(r"[\w.-]+", name):
            return f"a baseline's name is of letters, digits, '.', '-' and '_', not {name!r}"
    if arguments.baseline is not None:
        try:
            series.read(_saved(arguments.baseline))
        except (OSError, ValueError) as error:
            return f"the baseline cannot be read: {error}"
    if arguments.pyperf is not None:
        try:
            import pyperf  # noqa: F401, PLC0415 - only for this
        except ImportError:
            return "--pyperf needs pyperf: pip install 'schematic-native[bench]'"
    return _redis_fault(arguments)


def _redis_fault(arguments: argparse.Namespace) -> str | None:
    if arguments.redis is not None and arguments.document:
        return "--document writes what is measured in memory: leave --redis out"
    if arguments.redis:
        try:
            redis.Redis.from_url(arguments.redis).close()
        except ValueError as error:
            return f"--redis must be the URL of a Redis server, not {arguments.redis!r}: {error}"
    return None


def _saved(name: str) -> Path:
    return SAVED / f"{name}.json"


def _write(arguments: argparse.Namespace, measured: list[Series]) -> None:
    files = [arguments.json] if arguments.json is not None else []
    if arguments.save is not None:
        files.append(_saved(arguments.save))
    for file in files:
        series.write(file, measured)
    if arguments.html is not None:
        arguments.html.write_text(render(measured))
    if arguments.pyperf is not None:
        from schematic_native.tools.bench.pyperf import export  # noqa: PLC0415 - it may not be installed

        export(arguments.pyperf, measured)
    for file in arguments.document:
        file.write_text(update(file.read_text(), measured))
    if arguments.html is not None:
        print(f"report: {arguments.html.resolve().as_uri()}")


async def _calls(worlds: list[str], rounds: int, *, sustained: bool) -> list[Series]:
    """Measure every subject that is installed, in each world."""
    measured: list[Series] = []
    for number, size in enumerate(worlds):
        async with AsyncExitStack() as stack:
            emulator = stack.enter_context(Emulator(seed=world(size)))
            client, ours = await subjects.sync_client(emulator.base_url, stack)
            taking_turns: list[Subject] = [
                ours,
                await subjects.async_client(emulator.base_url, stack),
                subjects.engine(world(size)),
            ]
            theirs: list[tuple[str, Awaitable[Subject]]] = [
                ("schematichq", peers.published(emulator.base_url, stack)),
                ("schematichq", peers.published_engine(world(size))),
            ]
            if number == 0:
                # Only once: worlds differ in companies and leases, which these do not have.
                taking_turns += subjects.floors(client)
                theirs += [(name, make(stack)) for name, make in peers.OTHERS.items()]
            for name, making in theirs:
                taking_turns += await _installed(name, making)
            measured += await measure(size, taking_turns, rounds)
            if sustained:
                measured.append(await subjects.sustained(size, client))
            if not (await asyncio.to_thread(emulator.audit))["balanced"]:
                raise SystemExit(
                    "the emulator's book does not balance: the figures are of a broken run"
                )
    return measured


async def _installed(name: str, making: Awaitable[Subject]) -> list[Subject]:
    try:
        return [await making]
    except ImportError as error:
        print(f"{name} is left out: {error}", file=sys.stderr)
        return []
