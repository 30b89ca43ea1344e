"""Run operations on the connections of a user's client.

A driver works on the connections of the client's own pool and not through its methods, for those
send a command again after a fault: a refund that was carried out once already would mint credits.
Here nothing is sent again unless the server has said that it was not carried out.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, TypeVar

from redis.exceptions import NoScriptError

from schematic_native.faults import StoreError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from schematic_native.redis.links import AsyncLinks, SyncLinks
    from schematic_native.redis.operations import Batch, Operation, Replies

T = TypeVar("T")


# Seconds that what ends a debit or a claim is given at least: it is done now or never.
OWED_TIME = 0.25


def time_for(batch: Batch, deadline: float | None, now: float) -> float | None:
    """Return the instant until which a batch may take; None for no limit."""
    if deadline is None or not any(command.is_owed for command in batch):
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

    async def run(self, operation: Operation[T], timeout: float | None = None) -> T:
        """Run an operation within so many seconds.

        Raises:
            StoreError: the store failed, and the operation had no answer to that.

        """
        loop = asyncio.get_running_loop()
        deadline = None if timeout is None else loop.time() + timeout
        replies: Replies | StoreError | None = None
        while True:
            try:
                batch = advance(operation, replies)
            except StopIteration as stop:
                result: T = stop.value
                return result
            replies = await self._ask(batch, time_for(batch, deadline, loop.time()))

    async def _ask(self, batch: Batch, deadline: float | None) -> Replies | StoreError:
        missing: Sequence[int] = range(len(batch))
        try:
            replies = await self._links.exchange(batch, deadline, in_full=False)
            missing = again(batch, replies)
            if missing:
                commands = [batch[at] for at in missing]
                rest = await self._links.exchange(commands, deadline, in_full=True)
                replies = merged(replies, missing, rest)
        except StoreError as error:
            # What was known already has been carried out, even if the rest was not.
            error.lost = error.lost or len(missing) < len(batch)
            return error
        return replies


def merged(replies: Replies, places: Sequence[int], others: Replies) -> Replies:
    """Put the replies of what was sent again into their places."""
    whole = list(replies)
    for at, reply in zip(places, others, strict=True):
        whole[at] = reply
    return whole
