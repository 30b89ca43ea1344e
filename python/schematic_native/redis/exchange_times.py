"""How often and how long one store has waited for Redis, and how often in vain.

Counted for each exchange of a batch, not for each operation; nothing here reports the numbers.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from redis.exceptions import NoScriptError

from schematic_native.ground.store_errors import StoreError
from schematic_native.redis.commands import has_failed

if TYPE_CHECKING:
    from collections.abc import Callable

    from schematic_native.redis.commands import Replies


class ExchangeTimes:
    """Counts the exchanges of one store, from any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.done = 0
        self.failed = 0
        self.seconds = 0.0
        self._counting = threading.Lock()

    def note(self, began: float, outcome: Replies | StoreError) -> None:
        """Count an exchange that began at that instant of the clock.

        It has failed if there were no replies, or if a command was refused.
        """
        seconds = self.clock() - began
        failed = isinstance(outcome, StoreError) or any(map(_is_refused, outcome))
        with self._counting:
            self.seconds += seconds
            self.failed += failed
            self.done += not failed


def _is_refused(reply: object) -> bool:
    # A script that the server does not know yet is sent in full next.
    return has_failed(reply) and not isinstance(reply, NoScriptError)
