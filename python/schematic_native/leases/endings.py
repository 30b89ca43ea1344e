"""Leases that others spend as well, and that may have been released by one of them: whether they still live.

The service is asked once in a while at most, and only about leases that are known to be shared.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from schematic_native.ground.slots import Slot
    from schematic_native.leases.flights import Calls

# Seconds between two questions about one slot.
PAUSE = 1.0


class Endings:
    """Asks about leases that may have ended.

    Args:
        calls: where the questions run.
        replace: asks about the lease of a slot, and replaces it if it has ended.

    """

    def __init__(
        self, calls: Calls, replace: Callable[[Slot, str], Awaitable[None]], pause: float = PAUSE
    ) -> None:
        self._calls = calls
        self._replace = replace
        self._pause = pause
        # The lease to ask about when the pause is over, by the slots that were asked about lately.
        self._asked: dict[Slot, str | None] = {}

    def suspect(self, slot: Slot, lease_id: str) -> None:
        """Ask whether a lease still lives, now or when the pause is over."""
        if slot in self._asked:
            self._asked[slot] = lease_id
            return
        self._asked[slot] = None
        self._calls.spawn(self._ask(slot, lease_id))

    def confirm(self, slot: Slot, lease_id: str, is_told: Callable[[Slot], bool]) -> None:
        """Ask about a lease that was joined if nothing has been told of it within the pause.

        One that its owner gave back in the same moment may have come and gone between two pushes.
        """
        loop = asyncio.get_running_loop()
        loop.call_later(self._pause, self._ask_unless_told, slot, lease_id, is_told)

    def _ask_unless_told(self, slot: Slot, lease_id: str, is_told: Callable[[Slot], bool]) -> None:
        if not is_told(slot):
            self.suspect(slot, lease_id)

    async def _ask(self, slot: Slot, lease_id: str) -> None:
        try:
            await self._replace(slot, lease_id)
        finally:
            asyncio.get_running_loop().call_later(self._pause, self._go_on, slot)

    def _go_on(self, slot: Slot) -> None:
        again = self._asked.pop(slot, None)
        if again is not None:
            self.suspect(slot, again)
