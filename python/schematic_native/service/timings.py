"""How often and how long one client has waited for the service, by what for."""

from __future__ import annotations

import contextlib
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

# What a path of the API is about, by how it ends; any other is named by its first word.
_ENDINGS = {
    "extend": "extend",
    "lease": "acquire",
    "check-and-reserve": "reserve",
    "check": "check",
}


@dataclass
class Waits:
    """What has been waited for so far; a request and its retries are one."""

    done: int = 0
    failed: int = 0
    seconds: float = 0.0


@dataclass
class Wait:
    """One wait, which may also fail without an exception."""

    has_failed: bool = False
    begun: float = field(default_factory=time.monotonic)


class Tally:
    """Counts requests, and has each followed by whoever traces them."""

    def __init__(
        self, trace: Callable[[str], AbstractContextManager[object]] | None = None
    ) -> None:
        self.trace = trace
        self._waits: dict[str, Waits] = {}

    def emptied(self) -> Tally:
        """Return one that starts from nothing and is traced as this one is."""
        return Tally(self.trace)

    @property
    def waits(self) -> dict[str, Waits]:
        """What has been waited for, by operation."""
        return dict(self._waits)

    @contextlib.contextmanager
    def waiting(self, operation: str) -> Iterator[Wait]:
        """Count the time within; an exception is a failure, and a cancelled wait is not counted."""
        waits = self._waits.setdefault(operation, Waits())
        wait = Wait()
        try:
            with contextlib.nullcontext() if self.trace is None else self.trace(operation):
                yield wait
        except Exception:
            wait.has_failed = True
            raise
        finally:
            if wait.has_failed or sys.exc_info()[0] is None:
                waits.failed += wait.has_failed
                waits.done += not wait.has_failed
                waits.seconds += time.monotonic() - wait.begun


def operation_of(path: str) -> str:
    """Name what a request to the API is for."""
    last = path.rpartition("/")[2]
    if last == "release":
        return "release_reservation" if "/reservations/" in path else "release"
    return _ENDINGS.get(last, path.partition("/")[0])
