"""How often and how long one store has waited for Redis, and how often that failed.

Counted for each exchange of a batch, not for each operation; nothing here reports the numbers.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from redis.exceptions import NoScriptError

from schematic_native.ground.store_errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

    from schematic_native.redis.commands import Replies


class ExchangeTimes:
    """Counts the exchanges of one store, from any thread.

    Takes no lock: an exception out of a signal handler, which may interrupt any line of a call, could
    leave one behind. Each thread has counts of its own, which no other thread writes.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._by_thread: dict[int, _Counts] = {}

    @property
    def done(self) -> int:
        """Exchanges that Redis replied to."""
        return sum(counts.done for counts in self._by_thread.copy().values())

    @property
    def failed(self) -> int:
        """Exchanges without a reply, or with a command that was refused."""
        return sum(counts.failed for counts in self._by_thread.copy().values())

    @property
    def seconds(self) -> float:
        """Seconds that all exchanges took."""
        return sum(counts.seconds for counts in self._by_thread.copy().values())

    def note(self, began: float, outcome: Replies | StoreError) -> None:
        """Count an exchange that began at that instant of the clock.

        It has failed if there were no replies, or if a command was refused.
        """
        seconds = self.clock() - began
        failed = isinstance(outcome, StoreError) or any(map(_is_refused, outcome))
        thread = threading.get_ident()
        counts = self._by_thread.get(thread) or self._by_thread.setdefault(thread, _Counts())
        counts.seconds += seconds
        counts.failed += failed
        counts.done += not failed


class _Counts:
    """The counts of one thread; the next thread with the same identifier goes on with them."""

    def __init__(self) -> None:
        self.done = 0
        self.failed = 0
        self.seconds = 0.0


def _is_refused(reply: object) -> bool:
    # A script that the server does not know yet is sent in full next.
    return isinstance(reply, Exception) and not isinstance(reply, NoScriptError)
