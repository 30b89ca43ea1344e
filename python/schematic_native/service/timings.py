"""How often and how long one client has waited for the service, by operation.

Nothing here reports the numbers: `client/metrics.py` and `telemetry.py` do.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from types import TracebackType

    from typing_extensions import Self

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


class Measurement:
    """One call, as the body of a with statement; it may also fail without an exception."""

    def __init__(
        self, timing: OperationTiming, span: AbstractContextManager[object] | None
    ) -> None:
        self.has_failed = False
        self._timing = timing
        self._span = span
        self._begun = time.monotonic()

    def __enter__(self) -> Self:
        if self._span is not None:
            self._span.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is not None and issubclass(kind, Exception):
            self.has_failed = True
        if self.has_failed or kind is None:
            self._timing.failed += self.has_failed
            self._timing.done += not self.has_failed
            self._timing.seconds += time.monotonic() - self._begun
        if self._span is not None:
            self._span.__exit__(kind, error, traceback)


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

    def measure(self, operation: str) -> Measurement:
        """Time the body of a with statement. An exception is a failure; a cancelled call is not counted."""
        timing = self._operations.get(operation)
        if timing is None:
            timing = self._operations[operation] = OperationTiming()
        return Measurement(timing, None if self.trace is None else self.trace(operation))


def operation_of(path: str) -> str:
    """Return the operation that a path of the API stands for."""
    last = path.rpartition("/")[2]
    if last == "release":
        return "release_reservation" if "/reservations/" in path else "release"
    return _ENDINGS.get(last, path.partition("/")[0])
