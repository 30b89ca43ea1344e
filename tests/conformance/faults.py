"""Connections to Redis that fail where a vector says so."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from schematic_native.faults import StoreError
from schematic_native.redis import scripts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from schematic_native.redis.links import Answered, AsyncLinks, SyncLinks
    from schematic_native.redis.operations import Batch, Replies


class FaultScript:
    """The faults that are still to come, each at the next batch with the script it names.

    `how` is "unsent" (surely not carried out), "lost" (not carried out, though nobody knows) or
    "unheard" (carried out, though nobody knows).
    """

    def __init__(self) -> None:
        self._faults: deque[Mapping[str, Any]] = deque()

    def extend(self, faults: Any) -> None:
        self._faults.extend(faults)

    def take(self, batch: Batch) -> str | None:
        """Return how this batch fails, None if it does not."""
        if not self._faults:
            return None
        script = getattr(scripts, self._faults[0]["at"].upper())
        if all(command.script is not script for command in batch):
            return None
        return str(self._faults.popleft()["how"])


def _fault(how: str) -> StoreError:
    return StoreError(f"scripted: {how}", lost=how != "unsent")


class FaultySyncLinks:
    """Connections for the calling thread."""

    def __init__(self, links: SyncLinks) -> None:
        self._links = links
        self.script = FaultScript()

    def exchange(self, batch: Batch, deadline: float | None, *, in_full: bool) -> Replies:
        how = self.script.take(batch)
        if how is None:
            return self._links.exchange(batch, deadline, in_full=in_full)
        if how == "unheard":
            # In full, as a server may not know the scripts yet and then carries nothing out.
            self._links.exchange(batch, deadline, in_full=True)
        raise _fault(how)

    def close(self) -> None:
        self._links.close()


class FaultyAsyncLinks:
    """Connections for the event loop."""

    def __init__(self, links: AsyncLinks) -> None:
        self._links = links
        self.script = FaultScript()

    def ask(
        self, batch: Batch, deadline: float | None, answered: Answered, *, in_full: bool
    ) -> None:
        how = self.script.take(batch)
        if how is None:
            self._links.ask(batch, deadline, answered, in_full=in_full)
        elif how == "unheard":
            self._links.ask(batch, deadline, lambda _: answered(_fault(how)), in_full=True)
        else:
            answered(_fault(how))

    async def close(self) -> None:
        await self._links.close()
