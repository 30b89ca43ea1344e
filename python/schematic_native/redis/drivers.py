"""Run operations on the connections of a user's client.

A driver works on the connections of the client's own pool and not through its methods, for those
send a command again after a fault: a refund that was carried out once already would mint credits.
Here nothing is sent again unless the server has said that it was not carried out.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Generic, TypeAlias, TypeVar

from redis.exceptions import NoScriptError

from schematic_native.ground.store_errors import StoreError
from schematic_native.redis.connections import is_owed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from schematic_native.redis.connections import AsyncLinks, SyncLinks
    from schematic_native.redis.operations import Batch, Operation, Replies

T = TypeVar("T")
# Who is told a result that its caller does not wait for any longer: None if it failed.
Late: TypeAlias = "Callable[[T | None], None] | None"


# Seconds that what ends a debit or a claim is given at least: it is done now or never.
OWED_TIME = 0.25


def time_for(batch: Batch, deadline: float | None, now: float) -> float | None:
    """Return the instant until which a batch may take; None for no limit."""
    if deadline is None or not is_owed(batch):
        return deadline
    return max(deadline, now + OWED_TIME)


def again(batch: Batch, replies: Replies) -> list[int]:
    """Find the scripts that the server did not know, and so did not run."""
    return [
        at
        for at, reply in enumerate(replies)
        if isinstance(reply, NoScriptError) and batch[at].script is not None
    ]


def advance(operation: Operation[T], replies: Replies | StoreError | None) -> Batch:
    """Send an operation the replies, or the fault, and take its next batch."""
    if isinstance(replies, StoreError):
        return operation.throw(replies)
    return next(operation) if replies is None else operation.send(replies)


class SyncDriver:
    """Runs operations on the calling thread.

    Args:
        links: exchanges batches with the server or servers.

    """

    def __init__(self, links: SyncLinks) -> None:
        self._links = links

    def run(self, operation: Operation[T], timeout: float | None = None) -> T:
        """Run an operation within so many seconds.

        Raises:
            StoreError: the store failed, and the operation had no answer to that.

        """
        deadline = None if timeout is None else time.monotonic() + timeout
        replies: Replies | StoreError | None = None
        while True:
            try:
                batch = advance(operation, replies)
            except StopIteration as stop:
                result: T = stop.value
                return result
            replies = self._ask(batch, time_for(batch, deadline, time.monotonic()))

    def _ask(self, batch: Batch, deadline: float | None) -> Replies | StoreError:
        missing: Sequence[int] = range(len(batch))
        try:
            replies = self._links.exchange(batch, deadline, in_full=False)
            missing = again(batch, replies)
            if missing:
                rest = self._links.exchange([batch[at] for at in missing], deadline, in_full=True)
                replies = merged(replies, missing, rest)
        except StoreError as error:
            # What was known already has been carried out, even if the rest was not.
            error.lost = error.lost or len(missing) < len(batch)
            return error
        return replies


class AsyncDriver:
    """Runs operations on the event loop.

    Args:
        links: exchanges batches with the server or servers.

    """

    def __init__(self, links: AsyncLinks) -> None:
        self._links = links

    async def run(
        self,
        operation: Operation[T],
        timeout: float | None = None,
        late: Late[T] = None,
    ) -> T:
        """Run an operation within so many seconds.

        If the caller is cancelled, the operation goes on, and `late` is told its result: None if it
        failed.

        Raises:
            StoreError: the store failed, and the operation had no answer to that.

        """
        loop = asyncio.get_running_loop()
        deadline = None if timeout is None else loop.time() + timeout
        run = _Run(self._links, operation, deadline)
        run.go_on(None)
        try:
            return await run.result
        except asyncio.CancelledError:
            if late is not None:
                run.tell(late)
            raise


class _Run(Generic[T]):
    """An operation under way: each batch is sent where the replies to the one before are heard."""

    def __init__(self, links: AsyncLinks, operation: Operation[T], deadline: float | None) -> None:
        self._links = links
        self._operation = operation
        self._deadline = deadline
        self._loop = asyncio.get_running_loop()
        self._late: Callable[[T | None], None] | None = None
        self._outcome: tuple[T | None] | None = None
        # For the caller, who may cancel it.
        self.result: asyncio.Future[T] = self._loop.create_future()

    def go_on(self, replies: Replies | StoreError | None) -> None:
        """Take the replies to one batch, and send the next."""
        try:
            batch = advance(self._operation, replies)
        except StopIteration as stop:
            self._end(stop.value)
            if not self.result.done():
                self.result.set_result(stop.value)
        except Exception as error:  # noqa: BLE001 - it is the caller's
            self._end(None)
            if not self.result.done():
                self.result.set_exception(error)
        else:
            self._ask(batch)

    def tell(self, late: Callable[[T | None], None]) -> None:
        """Tell the result to somebody else, now or when it is there."""
        if self._outcome is None:
            self._late = late
        else:
            late(*self._outcome)

    def _end(self, outcome: T | None) -> None:
        self._outcome = (outcome,)
        if self._late is not None:
            self._late(outcome)

    def _ask(self, batch: Batch) -> None:
        deadline = time_for(batch, self._deadline, self._loop.time())

        def answered(replies: Replies | StoreError) -> None:
            missing = [] if isinstance(replies, StoreError) else again(batch, replies)
            if isinstance(replies, StoreError) or not missing:
                self.go_on(replies)
                return

            def answered_in_full(rest: Replies | StoreError) -> None:
                if isinstance(rest, StoreError):
                    # What was known already has been carried out, even if the rest was not.
                    rest.lost = rest.lost or len(missing) < len(batch)
                    self.go_on(rest)
                else:
                    self.go_on(merged(replies, missing, rest))

            commands = [batch[at] for at in missing]
            self._links.ask(commands, deadline, answered_in_full, in_full=True)

        self._links.ask(batch, deadline, answered, in_full=False)


def merged(replies: Replies, places: Sequence[int], others: Replies) -> Replies:
    """Put the replies of what was sent again into their places."""
    whole = list(replies)
    for at, reply in zip(places, others, strict=True):
        whole[at] = reply
    return whole
