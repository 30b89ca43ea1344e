"""The pauses between background extends of a slot whose extends fail.

Without them every check of a lease that runs low would ask the service again. A check that waits for an
extend is never held up by them.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from schematic_native.ground.slots import Slot

# Seconds: after the first failure, and at most.
FIRST_PAUSE = 1.0
LONGEST_PAUSE = 30.0


class ExtendBackoff:
    """When a slot may be extended in the background again.

    Args:
        jitter: returns a number from 0 to 1.

    """

    def __init__(self, jitter: Callable[[], float]) -> None:
        self._jitter = jitter
        # Until when, by the loop's clock, and after how many failures.
        self._pauses: dict[Slot, tuple[float, int]] = {}

    def is_paused(self, slot: Slot) -> bool:
        """Tell whether the slot's extends failed a moment ago."""
        pause = self._pauses.get(slot)
        return pause is not None and pause[0] > asyncio.get_running_loop().time()

    def failed(self, slot: Slot) -> None:
        """Pause after a failure, twice as long after each."""
        failures = self._pauses.get(slot, (0.0, 0))[1]
        length = min(LONGEST_PAUSE, FIRST_PAUSE * 2**failures)
        until = asyncio.get_running_loop().time() + length * (0.5 + 0.5 * self._jitter())
        self._pauses[slot] = (until, min(failures + 1, 16))

    def succeeded(self, slot: Slot) -> None:
        """End the slot's pauses."""
        self._pauses.pop(slot, None)
