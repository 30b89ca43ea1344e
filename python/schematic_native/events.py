"""Sending events: batches from the native queue to the capture service.

The native queue is the buffer; at most a few requests are under way. An event leaves this process
only when the server has taken it, or has refused that one event for what it is. Everything else is
tried again.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from typing import TYPE_CHECKING

from schematic_native.api import ApiConnectionError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from schematic_native._native import Core, EventBatch
    from schematic_native.api import Posted
    from schematic_native.faults import Faults

# At 0.1 s a round trip this is 8000 events a second.
MAX_REQUESTS = 8
FIRST_RETRY_DELAY = 1.0
LONGEST_RETRY_DELAY = 30.0
TOPIC = "event capture"
QUEUE_TOPIC = "event queue"
# Statuses that speak of the batch's content; all others speak of the service, the way there, or the
# key.
REFUSED = frozenset({400, 413, 422})


class EventSender:
    """Empties the core's event queue, by time and whenever a full batch waits.

    Args:
        core: whose queue.
        post: posts one body and tells what came back, or raises ApiConnectionError.
        period: seconds between two flushes.
        faults: where failures are reported.
        prepare: awaited before usage leaves this process.
        jitter: for tests; returns a number from 0 to 1.

    """

    def __init__(
        self,
        core: Core,
        post: Callable[[bytes], Awaitable[Posted]],
        period: float,
        faults: Faults,
        *,
        prepare: Callable[[], Awaitable[None]] | None = None,
        jitter: Callable[[], float] = random.random,
        first_retry_delay: float = FIRST_RETRY_DELAY,
    ) -> None:
        self._core = core
        self._post = post
        self._period = period
        self._faults = faults
        self._prepare = prepare
        self._jitter = jitter
        self._first_retry_delay = first_retry_delay
        self._due = asyncio.Event()
        self._resting: set[asyncio.Event] = set()
        self._slots = asyncio.Semaphore(MAX_REQUESTS)
        self._deliveries: set[asyncio.Task[None]] = set()
        self._taken = _Tally()
        self._progress = asyncio.Condition()
        self._pending = 0
        self._lost = 0
        # Taken from the queue and not delivered, and those of an earlier sender among them that are
        # still to be started.
        self._undelivered: list[EventBatch] = []
        self._inherited: deque[EventBatch] = deque()
        self.sent = 0
        self.refused = 0

    @property
    def pending(self) -> int:
        """Events that have left the queue and are not delivered yet."""
        return self._pending

    def inherit(self, other: EventSender) -> None:
        """Go on where a sender ended whose loop ended under it."""
        self._inherited.extend([*other._undelivered, *other._inherited])
        self._pending = other._pending
        self.sent, self.refused = other.sent, other.refused

    def wake(self) -> None:
        """Send now rather than at the end of the period."""
        self._due.set()

    async def run(self) -> None:
        """Send until cancelled."""
        while True:
            self._report_losses()
            await self._drain()
            # A timer rather than wait_for, which before Python 3.12 may swallow a cancellation.
            timer = asyncio.get_running_loop().call_later(self._period, self._due.set)
            try:
                await self._due.wait()
            finally:
                timer.cancel()
            self._due.clear()

    def _report_losses(self) -> None:
        """Say so when usage was lost because the queue was full, and when that is over."""
        lost = self._core.counts()["dropped_billing"]
        if lost > self._lost:
            self._faults.raised(QUEUE_TOPIC, "it is full: new track and identify events are lost")
        else:
            self._faults.cleared(QUEUE_TOPIC)
        self._lost = lost

    async def flush(self, timeout: float) -> bool:
        """Wait until all that is queued now has been delivered or refused.

        False if the time was too short.
        """
        counts = self._core.counts()
        target = _Tally(
            self._taken.billing + counts["queued_billing"],
            self._taken.flag_checks + counts["queued_flag_checks"],
        )
        for batch in self._inherited:
            target.add(batch)
        self.wake()
        try:
            await asyncio.wait_for(self._wait_for(target), timeout)
        except asyncio.TimeoutError:
            return False
        return True

    async def close(self) -> int:
        """Stop; returns how many taken events were not delivered."""
        lost = self._pending
        deliveries = list(self._deliveries)
        for delivery in deliveries:
            delivery.cancel()
        await asyncio.gather(*deliveries, return_exceptions=True)
        return lost

    async def _wait_for(self, target: _Tally) -> None:
        async with self._progress:
            await self._progress.wait_for(lambda: self._taken.covers(target))
        if self._deliveries:
            await asyncio.wait(set(self._deliveries))

    async def _drain(self) -> None:
        """Start a delivery for each batch, as many at a time as there are slots."""
        while True:
            await self._slots.acquire()
            if self._inherited:
                batch = self._inherited.popleft()
            elif (taken := self._core.take_batch()) is not None:
                batch = taken
                self._pending += batch.count
            else:
                self._slots.release()
                return
            self._taken.add(batch)
            self._undelivered.append(batch)
            delivery = asyncio.create_task(self._deliver(batch))
            self._deliveries.add(delivery)
            delivery.add_done_callback(self._delivered)
            async with self._progress:
                self._progress.notify_all()

    def _delivered(self, delivery: asyncio.Task[None]) -> None:
        self._deliveries.discard(delivery)
        self._slots.release()
        if not delivery.cancelled() and (error := delivery.exception()) is not None:
            self._faults.raised(TOPIC, f"a batch was given up: {type(error).__name__}: {error}")

    async def _deliver(self, batch: EventBatch) -> None:
        """Post a batch until the server has taken or refused each of its events."""
        attempt = 0
        while True:
            fault = await self._try(batch)
            if fault is None:
                return
            self._faults.raised(TOPIC, f"{fault}; the events are kept and tried again")
            self._report_losses()
            ceiling = min(LONGEST_RETRY_DELAY, self._first_retry_delay * 2**attempt)
            attempt = min(attempt + 1, 16)
            await self._rest(ceiling * (0.5 + 0.5 * self._jitter()))

    async def _rest(self, delay: float) -> None:
        """Wait, but no longer than until another batch has gone through."""
        over = asyncio.Event()
        timer = asyncio.get_running_loop().call_later(delay, over.set)
        self._resting.add(over)
        try:
            await over.wait()
        finally:
            timer.cancel()
            self._resting.discard(over)

    async def _try(self, batch: EventBatch) -> str | None:
        """Post a batch once; returns what went wrong if it must be posted again."""
        try:
            if batch.billing and self._prepare is not None:
                await self._prepare()
            status, is_explained = await self._post(batch.body)
        except ApiConnectionError as error:
            return f"unreachable ({error.message})"
        except Exception as error:  # noqa: BLE001 - whatever it is, the events stay
            return f"{type(error).__name__}: {error}"
        if 200 <= status < 300:  # noqa: PLR2004
            self._took(batch)
            return None
        # What stands in the way of the service refuses without its words: to find the event that is
        # too large, say, helps then too, but to drop one would lose usage.
        if status in REFUSED and (is_explained or batch.count > 1):
            await self._split(batch, status)
            return None
        if status in {401, 403}:
            return f"the API key was refused (HTTP {status})"
        return f"HTTP {status}"

    async def _split(self, batch: EventBatch, status: int) -> None:
        """Find the event that a refused batch is refused for, and drop only that one."""
        self._undelivered.remove(batch)
        if batch.count <= 1:
            self._pending -= batch.count
            self.refused += batch.count
            self._faults.noted(f"the server refused an event (HTTP {status}); it is dropped")
            return
        parts = batch.split()
        self._undelivered += parts
        for part in parts:
            await self._deliver(part)

    def _took(self, batch: EventBatch) -> None:
        self._undelivered.remove(batch)
        self._pending -= batch.count
        self.sent += batch.count
        self._faults.cleared(TOPIC)
        for over in self._resting:
            over.set()


class _Tally:
    """Events counted by kind, as the queue hands out billing events before analytics."""

    def __init__(self, billing: int = 0, flag_checks: int = 0) -> None:
        self.billing = billing
        self.flag_checks = flag_checks

    def add(self, batch: EventBatch) -> None:
        self.billing += batch.billing
        self.flag_checks += batch.count - batch.billing

    def covers(self, other: _Tally) -> bool:
        return self.billing >= other.billing and self.flag_checks >= other.flag_checks
