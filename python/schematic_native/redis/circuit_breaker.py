"""When a server that failed lately is asked again."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from schematic_native.ground.store_errors import StoreError
from schematic_native.redis.failures import TIMEOUTS

if TYPE_CHECKING:
    from collections.abc import Callable

# Seconds of rest: after the first fault, and at most.
FIRST_REST = 0.05
LONGEST_REST = 1.0
# Seconds after which a server that has said nothing counts as failed. To have been given less says
# nothing about the server: another caller may have more time.
PATIENCE = 0.25


class Rest:
    """Spares callers a server that failed lately, so that each need not find it out anew.

    Args:
        clock: seconds, never going back.

    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._length = 0.0
        self._until = float("-inf")
        self._why = ""

    def begin(self, *, is_owed: bool = False) -> float:
        """Return the instant at which the server is asked.

        Args:
            is_owed: what is asked must be asked now or never.

        Raises:
            StoreError: it rests.

        """
        now = self._clock()
        if now < self._until and not is_owed:
            raise StoreError(f"{self._why}; asked again in a moment", lost=False)
        return now

    def note(self, failure: StoreError, error: BaseException, began: float) -> None:
        """Rest after a fault of what began at that instant, longer after each."""
        now = self._clock()
        if isinstance(error, TIMEOUTS) and now - began < PATIENCE:
            return
        self._length = min(max(self._length * 2, FIRST_REST), LONGEST_REST)
        self._until, self._why = now + self._length, str(failure)

    def end(self) -> None:
        """Note that the server answers."""
        self._length = 0.0
