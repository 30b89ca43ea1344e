"""How often and how long one client has waited for the service, by operation.

Nothing here reports the numbers: `client/metrics.py` and `telemetry.py` do.
"""

from __future__ import annotations

import contextlib
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

# Operations by the last part of their path; any other is named by the first part.
_ENDINGS = {
    "extend": "extend",
    "lease": "acquire",
    "check-and-reserve": "reserve",
    "check": "check",
}


@dataclass
class OperationTiming:
    """How an operation has gone so far. A call counts once, whatever its retries."""

    done: int = 0
    failed: int = 0
    seconds: float = 0.0


@dataclass
class Measurement:
    """One call, which may also fail without an exception."""

    has_failed: bool = False
    begun: float = field(default_factory=time.monotonic)


class Timings:
    """Counts and times the calls of one client, and traces each of them if a tracer is set."""

    def __init__(
        self, trace: Callable[[str], AbstractContextManager[object]] | None = None
    ) -> None:
        self.trace = trace
        self._operations: dict[str, OperationTiming] = {}

    def restarted(self) -> Timings:
        """Return new timings with the same tracer."""
        return Timings(self.trace)

    @property
    def by_operation(self) -> dict[str, OperationTiming]:
        """The timings so far, by operation."""
        return dict(self._operations)

    @contextlib.contextmanager
    def measure(self, operation: str) -> Iterator[Measurement]:
        """Time the body of a with statement. An exception is a failure; a cancelled call is not counted."""
        timing = self._operations.setdefault(operation, OperationTiming())
        measurement = Measurement()
        try:
            with contextlib.nullcontext() if self.trace is None else self.trace(operation):
                yield measurement
        except Exception:
            measurement.has_failed = True
            raise
        finally:
            if measurement.has_failed or sys.exc_info()[0] is None:
                timing.failed += measurement.has_failed
                timing.done += not measurement.has_failed
                timing.seconds += time.monotonic() - measurement.begun


def operation_of(path: str) -> str:
    """Return the operation that a path of the API stands for."""
    last = path.rpartition("/")[2]
    if last == "release":
        return "release_reservation" if "/reservations/" in path else "release"
    return _ENDINGS.get(last, path.partition("/")[0])
