"""How long to wait before the DataStream connects again: a backoff with jitter.

REST calls and events are retried by their own rules (`rest_retries.py`, `event_retries.py`). To change the
delays, change them here and in tests/service/test_datastream.py.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

# Seconds.
FIRST_DELAY = 1.0
LONGEST_DELAY = 30.0
# A connection that has lasted this long counts as a success, even if it was silent.
STABLE_AFTER = 30.0


class Backoff:
    """The delay before the next attempt: random, from 1 s to a ceiling that doubles up to 30 s."""

    def __init__(self, jitter: Callable[[], float] = random.random) -> None:
        self._jitter = jitter
        self._failures = 0

    def next(self) -> float:
        """Return how many seconds to wait."""
        self._failures = min(self._failures + 1, 16)
        ceiling = min(LONGEST_DELAY, FIRST_DELAY * float(2**self._failures))
        return FIRST_DELAY + (ceiling - FIRST_DELAY) * self._jitter()

    def clear(self) -> None:
        """Start again at the shortest delay."""
        self._failures = 0
