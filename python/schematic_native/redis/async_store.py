"""A store that is asked on the event loop.

An operation goes on when its caller is cancelled, so that nothing it has begun is left half done.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Generic, TypeAlias, TypeVar

from schematic_native.redis.exchange_times import ExchangeTimes
from schematic_native.redis.exchanges import exchanges

if TYPE_CHECKING:
    from collections.abc import Callable

    from schematic_native.ground.store_errors import StoreError
    from schematic_native.redis.commands import Operation, Replies
    from schematic_native.redis.connections import AsyncConnections
    from schematic_native.redis.operations import Operations

T = TypeVar("T")
# Called with a result that its caller does not wait for any longer: None if the operation failed.
Late: TypeAlias = "Callable[[T | None], None] | None"


class AsyncStore:
    """A store for event loops.

    Args:
        operations: what it can do.
        connections: exchange batches with the server or servers.

    """

    def __init__(self, operations: Operations, connections: AsyncConnections) -> None:
        self.operations = operations
        self.times = ExchangeTimes()
        self._connections = connections

    async def run(
        self,
        operation: Operation[T],
        timeout: float | None = None,
        late: Late[T] = None,
    ) -> T:
        """Run an operation within so many seconds.

        If the caller is cancelled, the operation goes on, and `late` is called with its result: None if
        it failed.

        Raises:
            StoreError: the store failed, and the operation does not handle that.

        """
        loop = asyncio.get_running_loop()
        deadline = None if timeout is None else loop.time() + timeout
        run = _Run(self._connections, operation, deadline, self.times)
        run.go_on(None)
        try:
            return await run.result
        except asyncio.CancelledError:
            if late is not None:
                run.tell(late)
            raise

    async def close(self) -> None:
        """Close this store's connections; the user's client stays open."""
        await self._connections.close()


class _Run(Generic[T]):
    """An operation under way: the callback of one exchange sends the next."""

    def __init__(
        self,
        connections: AsyncConnections,
        operation: Operation[T],
        deadline: float | None,
        times: ExchangeTimes,
    ) -> None:
        loop = asyncio.get_running_loop()
        self._connections = connections
        self._exchanges = exchanges(operation, deadline, loop.time)
        self._times = times
        self._asked_at = 0.0
        self._late: Callable[[T | None], None] | None = None
        self._outcome: tuple[T | None] | None = None
        # For the caller, who may cancel it.
        self.result: asyncio.Future[T] = loop.create_future()

    def go_on(self, replies: Replies | StoreError | None) -> None:
        """Take the replies to one exchange, and begin the next."""
        if replies is not None:
            self._times.note(self._asked_at, replies)
        try:
            if replies is None:
                batch, deadline, in_full = next(self._exchanges)
            else:
                batch, deadline, in_full = self._exchanges.send(replies)
        except StopIteration as stop:
            self._end(stop.value)
            if not self.result.done():
                self.result.set_result(stop.value)
        except Exception as error:  # noqa: BLE001 - it is the caller's
            self._end(None)
            if not self.result.done():
                self.result.set_exception(error)
        else:
            self._asked_at = self._times.clock()
            self._connections.ask(batch, deadline, self.go_on, in_full=in_full)

    def tell(self, late: Callable[[T | None], None]) -> None:
        """Call `late` with the result, now or when it is there."""
        if self._outcome is None:
            self._late = late
        else:
            late(*self._outcome)

    def _end(self, outcome: T | None) -> None:
        self._outcome = (outcome,)
        if self._late is not None:
            self._late(outcome)
