"""A store that is asked on the calling thread.

An operation ends with its caller; what an exception interrupts is never sent again.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

from schematic_native.ground.store_errors import StoreError
from schematic_native.redis.exchange_times import ExchangeTimes
from schematic_native.redis.exchanges import exchanges

if TYPE_CHECKING:
    from schematic_native.redis.commands import Batch, Operation, Replies
    from schematic_native.redis.connections import SyncConnections
    from schematic_native.redis.operations import Operations

T = TypeVar("T")


class SyncStore:
    """A store for threads.

    Args:
        operations: what it can do.
        connections: exchange batches with the server or servers.

    """

    def __init__(self, operations: Operations, connections: SyncConnections) -> None:
        self.operations = operations
        self.times = ExchangeTimes()
        self._connections = connections

    def run(self, operation: Operation[T], timeout: float | None = None) -> T:
        """Run an operation within so many seconds.

        Raises:
            StoreError: the store failed, and the operation does not handle that.

        """
        deadline = None if timeout is None else time.monotonic() + timeout
        running = exchanges(operation, deadline, time.monotonic)
        try:
            batch, limit, in_full = next(running)
            while True:
                replies = self._exchange(batch, limit, in_full=in_full)
                batch, limit, in_full = running.send(replies)
        except StopIteration as stop:
            result: T = stop.value
            return result

    def close(self) -> None:
        """Close this store's connections; the user's client stays open."""
        self._connections.close()

    def _exchange(
        self, batch: Batch, deadline: float | None, *, in_full: bool
    ) -> Replies | StoreError:
        began = self.times.clock()
        try:
            outcome: Replies | StoreError = self._connections.exchange(
                batch, deadline, in_full=in_full
            )
        except StoreError as error:
            outcome = error
        self.times.note(began, outcome)
        return outcome
