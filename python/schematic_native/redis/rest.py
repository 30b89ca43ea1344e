"""A pause between attempts to reach a server."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from schematic_native.faults import StoreError
from schematic_native.redis.faults import TIMEOUTS

if TYPE_CHECKING:
    from collections.abc import Callable

FIRST_REST = 0.05
LONGEST_REST = 1.0


class Rest:
    """Tells whether a server that could not be reached is to be tried again yet.

    It is told of connecting alone, so that each check need not find out anew that nobody is there.
    Connections that are open go on: to stop a settle in its middle would lose its refund.

    Args:
        clock: seconds, never going back.

    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._length = 0.0
        self._until = float("-inf")
        self._why = ""

    def check(self) -> None:
        """Raise `StoreError` while the server is left alone."""
        if self._clock() < self._until:
            raise StoreError(f"{self._why}; asked again in a moment", lost=False)

    def note(self, cause: BaseException, error: StoreError) -> StoreError:
        """Rest after a failure to connect, longer after each; returns the failure.

        Not after a time that was up: another caller may have more of it.
        """
        if not isinstance(cause, TIMEOUTS):
            self._length = min(max(self._length * 2, FIRST_REST), LONGEST_REST)
            self._until, self._why = self._clock() + self._length, str(error)
        return error

    def end(self) -> None:
        """Note that a connection was made."""
        self._length = 0.0
