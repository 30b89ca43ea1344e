"""What schedules have reached: faults by operation, places at which pods died, states that must come up."""

from __future__ import annotations

import ast
from collections import Counter
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import schematic_native

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterable, Iterator

ROOT = Path(schematic_native.__file__).parent
ROOMS = ("cache", "client", "leases", "redis", "service")
# What is for the synchronous client, or for what no schedule has: clusters, caches with a DataStream, REST resources.
OUTSIDE = (
    "cluster", "connections", "entities", "flag_checks", "http_sender", "loop_thread", "management",
    "resources", "session", "streams", "synchronous", "sync_", "threaded_store", "transport",
)  # fmt: skip

# States that are worth nothing if no schedule reaches them.
SOMETIMES = (
    "a settle was cancelled",
    "a check was cancelled",
    "a check was denied for want of credits",
    "a check was let through without its hold",
    "a hold lapsed that was never settled",
    "a hold lapsed while its settle was under way",
    "a settle began after its hold had lapsed",
    "a settle was repeated with other units",
    "a hold was settled in another process",
    "a lease was extended after it had ended",
    "a lease was put into Redis anew, with nothing to spend",
    "a lease was released",
    "a pod died with usage that was not delivered",
    "a pod died with usage that is on its disk",
    "a full spool refused usage",
    "a pod shut down with usage that was not delivered",
    "an event was taken twice",
    "two pods held credits of one lease",
    "two pods put a lease into Redis at the same time",
    "a slab was closed",
    "a check of a flag could not be decided",
    "a check of a flag waited for several reads",
    "Redis refused to note what was used of a slab",
    "usage was put aside that was too old to be sent",
    "a sweep ended the hold of another pod",
)


def waiting_at(tasks: Iterable[asyncio.Task[Any]]) -> Iterator[str]:
    """Name each place of the package at which a task waits, from the outermost to the innermost."""
    for task in tasks:
        yield from _places(task.get_coro())


def _places(coroutine: Any) -> Iterator[str]:
    while coroutine is not None:
        frame = getattr(coroutine, "cr_frame", None)
        if frame is None:
            break
        name = _name_of(frame.f_code.co_filename)
        if name is not None and frame.f_lineno is not None:
            yield f"{name}:{frame.f_lineno}"
        coroutine = coroutine.cr_await


@lru_cache
def _name_of(file: str) -> str | None:
    """Name a file of the package; None for any other."""
    path = Path(file)
    return str(path.relative_to(ROOT)) if ROOT in path.parents else None


@lru_cache
def awaits() -> dict[str, tuple[int, int]]:
    """Return each statement that awaits something: its first and last line, by file and first line."""
    found: dict[str, tuple[int, int]] = {}
    paths = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]
    for path in paths:
        if path.name == "async_connections.py" or not path.stem.startswith(OUTSIDE):
            name = str(path.relative_to(ROOT))
            tree = ast.parse(path.read_text(encoding="utf-8"))
            found |= {f"{name}:{first}": (first, last) for first, last in _awaits_in(tree)}
    return found


def _awaits_in(tree: ast.AST) -> Iterator[tuple[int, int]]:
    """Yield the first and the last line of each statement that awaits something."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.Await, ast.AsyncWith)):
            last = node.end_lineno if isinstance(node, ast.Await) else node.lineno
            yield node.lineno, last or node.lineno


class Report:
    """What many schedules have come to."""

    def __init__(self) -> None:
        self.hits: Counter[tuple[str, str]] = Counter()
        self.deaths: Counter[str] = Counter()
        self.seen: Counter[str] = Counter()

    def add(self, hits: Counter[tuple[str, str]], deaths: Counter[str], seen: Counter[str]) -> None:
        """Add one schedule."""
        self.hits += hits
        self.deaths += deaths
        self.seen += seen

    def never(self) -> list[str]:
        """Return the states that must come up and have not."""
        return [state for state in SOMETIMES if not self.seen[state]]

    def lines(self) -> Iterator[str]:
        """Tell it."""
        yield "faults by the operation that they struck:"
        kinds: dict[str, list[str]] = {}
        for (kind, operation), times in sorted(self.hits.items()):
            kinds.setdefault(kind, []).append(f"{operation} {times}")
        for kind, struck in kinds.items():
            yield f"  {kind}: {', '.join(struck)}"
        died = {place for place in awaits() if self._has_died_at(place)}
        yield f"pods died at {len(died)} of {len(awaits())} awaits; never at:"
        missed: dict[str, list[int]] = {}
        for place in awaits().keys() - died:
            name, _, line = place.rpartition(":")
            missed.setdefault(name, []).append(int(line))
        for name, lines in sorted(missed.items()):
            yield f"  {name}: {' '.join(map(str, sorted(lines)))}"
        yield "states that came up:"
        yield from (f"  {state}: {times}" for state, times in sorted(self.seen.items()))
        yield from (f"  NEVER: {state}" for state in self.never())

    def _has_died_at(self, place: str) -> bool:
        name, (first, last) = place.rpartition(":")[0], awaits()[place]
        return any(self.deaths[f"{name}:{line}"] for line in range(first, last + 1))
