"""The log of every event that was posted, and the idempotency keys that mark a repeat.

An event is kept in the bytes of the request it came in; nothing here is billed.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Any, NamedTuple

from schematic_native.emulator.credits.ledger import REPEAT_WINDOW
from schematic_native.ground import json_text

if TYPE_CHECKING:
    from collections.abc import Iterator

Entity = dict[str, Any]


class Batch(NamedTuple):
    """One posted batch: when, what, and what was found of its events, by their place in it."""

    at: float
    body: bytes
    duplicates: frozenset[int]
    anomalies: dict[int, str]


class LoggedEvent(NamedTuple):
    """One event of the log, with its number and what became of it."""

    number: int
    at: float
    event: Entity
    duplicate: bool
    anomaly: str | None


class EventLog:
    """Every event in the order in which it came."""

    def __init__(self) -> None:
        self.count = 0
        self._batches: list[Batch] = []
        self._starts: list[int] = []
        self._first_seen: dict[str, float] = {}

    def is_duplicate(self, at: float, key: str | None) -> bool:
        """Tell whether an idempotency key came within the last day; remember one that did not."""
        if not key:
            return False
        first = self._first_seen.get(key)
        if first is not None and at - first < REPEAT_WINDOW:
            return True
        self._first_seen.pop(key, None)  # so that the oldest keys stay in front
        self._first_seen[key] = at
        return False

    def add(self, batch: Batch, size: int) -> None:
        """Keep a batch of `size` events."""
        self._batches.append(batch)
        self._starts.append(self.count)
        self.count += size
        self._forget_keys(batch.at)

    def _forget_keys(self, at: float) -> None:
        seen = self._first_seen
        while seen and at - seen[oldest := next(iter(seen))] >= REPEAT_WINDOW:
            del seen[oldest]

    def read(self, after: int = 0) -> Iterator[LoggedEvent]:
        """Yield events from number `after` on; the first event has number 0."""
        first = max(bisect_right(self._starts, after) - 1, 0)
        for index in range(first, len(self._batches)):
            start, batch = self._starts[index], self._batches[index]
            for place, event in enumerate(json_text.read(batch.body)["events"]):
                if start + place >= after:
                    yield LoggedEvent(
                        start + place,
                        batch.at,
                        event,
                        place in batch.duplicates,
                        batch.anomalies.get(place),
                    )
