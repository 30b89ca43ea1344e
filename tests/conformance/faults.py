"""Connections to Redis that fail where a vector says so."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from schematic_native.ground.store_errors import StoreError
from schematic_native.redis import scripts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from schematic_native.redis.commands import Batch, Replies
    from schematic_native.redis.connections import Answered, AsyncConnections, SyncConnections


class FaultScript:
    """The faults that are still to come, each at the next batch with the script it names.

    `how` is "unsent" (surely not carried out), "lost" (not carried out, though nobody knows),
    "unheard" (carried out, though nobody knows) or "cut" (carried out up to that script, as by a
    process that dies in the middle of the batch).
    """

    def __init__(self) -> None:
        self._faults: deque[Mapping[str, Any]] = deque()

    def extend(self, faults: Any) -> None:
        self._faults.extend(faults)

    def take(self, batch: Batch) -> tuple[str, Batch] | None:
        """Return how this batch fails and what of it is carried out; None if it does not fail."""
        if not self._faults:
            return None
        script = getattr(scripts, self._faults[0]["at"].upper())
        calls = [command.script for command in batch]
        if script not in calls:
            return None
        how = str(self._faults.popleft()["how"])
        done = {"unheard": batch, "cut": batch[: calls.index(script)]}
        return how, done.get(how, ())


def _fault(how: str) -> StoreError:
    return StoreError(f"scripted: {how}", lost=how != "unsent")


class FaultySyncConnections:
    """Connections for the calling thread."""

    def __init__(self, connections: SyncConnections) -> None:
        self._connections = connections
        self.script = FaultScript()

    def exchange(self, batch: Batch, deadline: float | None, *, in_full: bool) -> Replies:
        fault = self.script.take(batch)
        if fault is None:
            return self._connections.exchange(batch, deadline, in_full=in_full)
        how, done = fault
        if done:
            # In full, as a server may not know the scripts yet and then carries nothing out.
            self._connections.exchange(done, deadline, in_full=True)
        raise _fault(how)

    def close(self) -> None:
        self._connections.close()


class FaultyAsyncConnections:
    """Connections for the event loop."""

    def __init__(self, connections: AsyncConnections) -> None:
        self._connections = connections
        self.script = FaultScript()

    def ask(
        self, batch: Batch, deadline: float | None, answered: Answered, *, in_full: bool
    ) -> None:
        fault = self.script.take(batch)
        if fault is None:
            self._connections.ask(batch, deadline, answered, in_full=in_full)
            return
        how, done = fault
        if done:
            self._connections.ask(done, deadline, lambda _: answered(_fault(how)), in_full=True)
        else:
            answered(_fault(how))

    async def close(self) -> None:
        await self._connections.close()
