"""How long a failing Redis is left alone before it is asked again.

The pauses and what counts as a failure are set here and nowhere else; what users are told of them is in
docs/redis.md. What completes a debit or a claim is never held back.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from schematic_native.ground.store_errors import StoreError
from schematic_native.redis.failures import TIMEOUTS

if TYPE_CHECKING:
    from collections.abc import Callable

# Seconds that a server is left alone: after its first failure, and at most.
FIRST_PAUSE = 0.05
LONGEST_PAUSE = 1.0
# Seconds without a reply after which a server counts as failed. A caller with less time learns nothing
# about the server: another caller may have more.
PATIENCE = 0.25


class CircuitBreaker:
    """Fails calls at once for a while after a failure, so that not every caller waits for its own.

    Args:
        clock: seconds, never going back.

    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._length = 0.0
        self._until = float("-inf")
        self._why = ""

    def begin(self, *, is_owed: bool = False) -> float:
        """Return the instant at which a call begins.

        Args:
            is_owed: the call completes a debit or a claim, so it is made in a pause, too.

        Raises:
            StoreError: the server failed a moment ago.

        """
        now = self._clock()
        if now < self._until and not is_owed:
            raise StoreError(f"{self._why}; asked again in a moment", lost=False)
        return now

    def failed(self, failure: StoreError, error: BaseException, began: float) -> None:
        """Pause after the failure of a call that began at that instant, twice as long after each."""
        now = self._clock()
        if isinstance(error, TIMEOUTS) and now - began < PATIENCE:
            return
        self._length = min(max(self._length * 2, FIRST_PAUSE), LONGEST_PAUSE)
        self._until, self._why = now + self._length, str(failure)

    def succeeded(self) -> None:
        """Begin with the shortest pause again after the next failure."""
        self._length = 0.0
