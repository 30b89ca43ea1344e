"""Calls under way: at most one of a kind for each slot, which concurrent callers wait for together.

A caller that stops waiting never cancels a call; only the end of the client does.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from schematic_native.ground.fault_log import FaultLog
    from schematic_native.ground.slots import Slot


class Calls:
    """The background tasks of one lease manager."""

    def __init__(self, faults: FaultLog) -> None:
        self._faults = faults
        self.tasks: dict[asyncio.Task[None], None] = {}

    def spawn(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        """Run work in the background; an exception that escapes it is reported."""
        task = asyncio.create_task(work)
        self.tasks[task] = None
        task.add_done_callback(self._end)
        return task

    async def drain(self, deadline: float) -> None:
        """Wait for what is under way until the deadline, then cancel the rest."""
        loop = asyncio.get_running_loop()
        while self.tasks and (left := deadline - loop.time()) > 0:
            await asyncio.wait(set(self.tasks), timeout=left)
        late = list(self.tasks)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)

    def _end(self, task: asyncio.Task[None]) -> None:
        self.tasks.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._faults.raised("credit leases", f"{type(error).__name__}: {error}")


class Flight:
    """One call that several callers wait for."""

    # Whether the service refused it because the company has too few credits.
    is_refused = False

    def __init__(self, asked: float, balance: float | None) -> None:
        self.asked = asked  # credits
        # The company's, as it was known before the service was asked.
        self.balance = balance
        self.task: asyncio.Task[None]

    async def join(self, deadline: float | None) -> bool:
        """Wait for the call until the deadline; tells whether it has ended."""
        timeout = None if deadline is None else deadline - asyncio.get_running_loop().time()
        if timeout is None or timeout > 0:
            await asyncio.wait({self.task}, timeout=timeout)
        return self.task.done()


class SingleFlight:
    """The calls of one kind, by slot."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self.by_slot: dict[Slot, Flight] = {}

    def start(
        self,
        slot: Slot,
        flight: Flight,
        call: Callable[[Flight], Coroutine[object, object, None]],
    ) -> Flight:
        """Start a call for a slot; it takes the place of one that is under way there."""

        def leave(_task: asyncio.Task[None]) -> None:
            if self.by_slot.get(slot) is flight:
                del self.by_slot[slot]

        flight.task = self._calls.spawn(call(flight))
        flight.task.add_done_callback(leave)
        self.by_slot[slot] = flight
        return flight
