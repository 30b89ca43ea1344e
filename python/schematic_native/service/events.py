"""Delivers events: takes batches from the core's queue and posts them until the server has accepted them.

An event is never dropped unless the server refuses that one event for its content; every other failure is
retried (`event_retries.py` says when). How many requests are under way at once follows how well the service
responds.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from schematic_native._native import Pace
from schematic_native.config.defaults import MAX_EVENT_REQUESTS
from schematic_native.ground.time_limit import within
from schematic_native.service.errors import ApiConnectionError, ApiTimeoutError
from schematic_native.service.event_retries import (
    FIRST_RETRY_DELAY,
    LONGEST_ASKED_DELAY,
    OVERLOADED,
    REFUSED,
    delay_before,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from schematic_native._native import Core, EventBatch
    from schematic_native.ground.fault_log import FaultLog
    from schematic_native.service.event_posts import Posted

# Requests under way at once, until the service has shown that it can handle more.
FIRST_REQUESTS = 8
# Seconds between two looks for full batches while they keep coming: waking the sender would cost a caller more
# than queueing the event. If full batches come less often than every SELDOM seconds, each wakes the sender.
FULL_BATCH_PERIOD = 0.01
SELDOM = 0.05
# Deliveries that are started in one turn of the event loop, so that a thread is woken for all of them.
STARTS_PER_TURN = 4
TOPIC = "event capture"
QUEUE_TOPIC = "event queue"
SPOOL_TOPIC = "event spool"


class Rhythm(NamedTuple):
    """How often events are sent.

    Attributes:
        period: seconds between two flushes.
        max_requests: the most requests under way at once.
        first_retry_delay: seconds, doubled with each further retry.

    """

    period: float
    max_requests: int = MAX_EVENT_REQUESTS
    first_retry_delay: float = FIRST_RETRY_DELAY


class EventSender:
    """Empties the core's event queue: periodically, and whenever a batch is full.

    Args:
        core: owns the queue.
        post: posts one batch and returns the response, or raises ApiConnectionError.
        faults: where failures are reported.
        rhythm: how often events are sent.
        prepare: awaited before usage leaves this process.
        jitter: returns a number from 0 to 1, another each time.

    """

    def __init__(
        self,
        core: Core,
        post: Callable[[EventBatch], Awaitable[Posted]],
        faults: FaultLog,
        rhythm: Rhythm,
        *,
        prepare: Callable[[], Awaitable[None]] | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._core = core
        self._post = post
        self._period = rhythm.period
        self._faults = faults
        self._prepare = prepare
        self._jitter = jitter
        self._first_retry_delay = rhythm.first_retry_delay
        # Set when a flush is due or a batch is full.
        self._due = asyncio.Event()
        self._is_flush_due = False
        self._woken_at = 0.0  # by the latest full batch
        self._backing_off: dict[asyncio.Event, None] = {}
        self._pace = Pace(FIRST_REQUESTS, rhythm.max_requests)
        self._has_room = asyncio.Event()
        self._has_more = False  # whether more batches seem to be waiting
        self._requests = 0  # under way
        self._is_turn = asyncio.Event()
        self._paused_until = 0.0
        self._deliveries: dict[EventBatch, asyncio.Task[None]] = {}
        self._taken = _EventCount()
        self._flushes: dict[asyncio.Event, None] = {}
        self._pending = 0
        self._lost = 0
        # Batches taken from the queue and not delivered; and those of them, from an earlier sender, whose
        # delivery has not started.
        self._undelivered: list[EventBatch] = []
        self._inherited: deque[EventBatch] = deque()
        # When each of these batches was taken from the queue, by the loop's clock.
        self._taken_at: dict[EventBatch, float] = {}
        self.sent = 0
        self.refused = 0

    @property
    def pending(self) -> int:
        """Events that have left the queue and are not delivered yet."""
        return self._pending

    @property
    def oldest(self) -> float | None:
        """When the oldest batch that is not delivered was taken from the queue; None without any."""
        return min(list(self._taken_at.values()), default=None)

    def inherit(self, other: EventSender) -> None:
        """Take over from a sender whose event loop has ended."""
        self._inherited.extend([*other._undelivered, *other._inherited])
        self._pending, self._taken_at = other._pending, dict(other._taken_at)
        self.sent, self.refused = other.sent, other.refused

    @property
    def undelivered(self) -> list[EventBatch]:
        """The batches taken from the queue and not delivered."""
        return [*self._undelivered, *self._inherited]

    def wake(self) -> None:
        """Send full batches now rather than at the end of the period."""
        self._due.set()

    async def run(self) -> None:
        """Send until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            self._is_flush_due = False
            self._report_losses()
            await self._drain(full=False)
            end = loop.time() + self._period
            while not self._is_flush_due and (left := end - loop.time()) > 0:
                if await self._is_woken(left):
                    await self._drain_full(end)

    async def _is_woken(self, seconds: float) -> bool:
        """Wait for the event that work is due, at most so many seconds; return whether it came."""
        # Not wait_for, which may swallow a cancellation before Python 3.12.
        late = False

        def end() -> None:
            nonlocal late
            late = True
            self._due.set()

        timer = asyncio.get_running_loop().call_later(seconds, end)
        try:
            await self._due.wait()
        finally:
            timer.cancel()
        self._due.clear()
        return not late

    async def _drain_full(self, end: float) -> None:
        """Send full batches while they keep coming, at most until the next flush is due."""
        loop = asyncio.get_running_loop()
        is_seldom = loop.time() - self._woken_at > SELDOM
        while not self._is_flush_due and loop.time() < end:
            self._woken_at = loop.time()
            # There was none for a whole period: from now on, the next one wakes us.
            is_idle = not await self._drain(full=True) or is_seldom
            if is_idle and not self._core.expect_batch():
                return
            is_seldom = False
            await self._is_woken(FULL_BATCH_PERIOD)

    def _report_losses(self) -> None:
        """Report when usage was lost because the queue was full, and when that is over."""
        lost = self._core.counts()["dropped_billing"]
        if lost > self._lost:
            self._faults.raised(QUEUE_TOPIC, "it is full: new track and identify events are lost")
        else:
            self._faults.cleared(QUEUE_TOPIC)
        self._lost = lost
        self._report_spool()

    def _report_spool(self) -> None:
        """Report what is wrong with the spool, and what happened to it since."""
        fault, notices = self._core.spool_report()
        if fault is None:
            self._faults.cleared(SPOOL_TOPIC)
        else:
            self._faults.raised(SPOOL_TOPIC, fault)
        for notice in notices:
            self._faults.noted(f"{SPOOL_TOPIC}: {notice}")

    async def flush(self, timeout: float) -> bool:
        """Wait until all events that are queued now have been delivered or refused.

        Returns False if that took longer than the timeout.
        """
        counts = self._core.counts()
        target = _EventCount(
            self._taken.billing + counts["queued_billing"],
            self._taken.flag_checks + counts["queued_flag_checks"],
        )
        for batch in self._inherited:
            target.add(batch)
        self._is_flush_due = True
        self._due.set()
        try:
            await within(self._wait_for(target), timeout)
        except asyncio.TimeoutError:
            return False
        return True

    async def close(self) -> int:
        """Stop; return how many events were taken from the queue and not delivered."""
        lost = self._pending
        deliveries = list(self._deliveries.values())
        for delivery in deliveries:
            delivery.cancel()
        await asyncio.gather(*deliveries, return_exceptions=True)
        return lost

    async def _wait_for(self, target: _EventCount) -> None:
        started = asyncio.Event()
        self._flushes[started] = None
        try:
            while not self._taken.covers(target):
                started.clear()
                await started.wait()
        finally:
            del self._flushes[started]
        if self._deliveries:
            await asyncio.wait(set(self._deliveries.values()))

    async def _drain(self, *, full: bool) -> bool:
        """Start a delivery for each batch, or each full one; return whether there was one."""
        has_started = False
        started = 0
        while True:
            if self._is_full or self._paused_until:
                await self._wait_for_room()
            if self._inherited:
                batch = self._inherited.popleft()
            elif (taken := self._core.take_batch(full=full)) is not None:
                batch = taken
                self._pending += batch.count
                self._taken_at[batch] = asyncio.get_running_loop().time()
            else:
                self._has_more = False
                return has_started
            has_started = self._has_more = True
            self._taken.add(batch)
            self._undelivered.append(batch)
            self._deliveries[batch] = asyncio.create_task(self._run_delivery(batch))
            for waiting in self._flushes:
                waiting.set()
            # The event loop is the program's: give it a turn now and then, as waiting for room does, too.
            started += 1
            if started % STARTS_PER_TURN == 0 and not self._is_full:
                await asyncio.sleep(0)

    @property
    def _is_full(self) -> bool:
        """Whether as many deliveries are under way as may be."""
        return len(self._deliveries) >= self._pace.limit

    async def _wait_for_room(self) -> None:
        """Wait until another delivery may begin."""
        while self._is_full:
            self._has_room.clear()
            await self._has_room.wait()
        await self._wait_out_pause()

    async def _wait_out_pause(self) -> None:
        """Wait for as long as the service has asked us to."""
        delay = self._paused_until - asyncio.get_running_loop().time()
        if delay > 0:
            await asyncio.sleep(delay)

    async def _wait_for_turn(self) -> None:
        """Wait until another request may be sent: the limit may have dropped below the deliveries."""
        await self._wait_out_pause()
        while self._requests >= self._pace.limit:
            self._is_turn.clear()
            await self._is_turn.wait()

    async def _run_delivery(self, batch: EventBatch) -> None:
        """Deliver a batch, and make room for another."""
        try:
            await self._deliver(batch)
        except Exception as error:  # noqa: BLE001 - others go on
            self._faults.raised(TOPIC, f"a batch was given up: {type(error).__name__}: {error}")
        finally:
            # A callback of the task would be called a turn of the event loop later.
            self._deliveries.pop(batch, None)
            self._has_room.set()

    async def _deliver(self, batch: EventBatch) -> None:
        """Post a batch until the server has taken or refused each of its events."""
        retry = 0
        while True:
            fault = await self._try(batch)
            if fault is None:
                return
            self._faults.raised(TOPIC, f"{fault}; the events are kept and tried again")
            self._report_losses()
            await self._back_off(delay_before(retry, self._jitter(), self._first_retry_delay))
            retry += 1

    async def _back_off(self, delay: float) -> None:
        """Wait for a delay, but only until another batch has been accepted."""
        over = asyncio.Event()
        timer = asyncio.get_running_loop().call_later(delay, over.set)
        self._backing_off[over] = None
        try:
            await over.wait()
        finally:
            timer.cancel()
            del self._backing_off[over]

    async def _try(self, batch: EventBatch) -> str | None:
        """Post a batch once; return what went wrong if it must be posted again, else None."""
        try:
            if batch.billing and self._prepare is not None:
                await self._prepare()
            # Waiting for nothing would cost each batch two coroutines.
            if self._paused_until or self._requests >= self._pace.limit:
                await self._wait_for_turn()
            self._requests += 1
            try:
                posted = await self._post(batch)
            finally:
                self._requests -= 1
                self._is_turn.set()
        except ApiConnectionError as error:
            if isinstance(error, ApiTimeoutError):
                self._pace.refused()
            return f"unreachable ({error.message})"
        except Exception as error:  # noqa: BLE001 - whatever it is, the events are kept
            return f"{type(error).__name__}: {error}"
        status = posted.status
        if 200 <= status < 300:  # noqa: PLR2004
            self._accepted(batch, posted.seconds)
            return None
        if status in OVERLOADED:
            self._slow_down(posted.asked_delay)
        # A proxy in front of the service may refuse a batch as well, without the service's explanation.
        # Splitting the batch helps then, too, but dropping an event would lose usage.
        if status in REFUSED and (posted.is_explained or batch.count > 1):
            await self._split(batch, status)
            return None
        if status in {401, 403}:
            return f"the API key was refused (HTTP {status})"
        return f"HTTP {status}"

    async def _split(self, batch: EventBatch, status: int) -> None:
        """Find the event that a batch is refused for, and drop only that one."""
        self._undelivered.remove(batch)
        taken_at = self._taken_at.pop(batch)
        if batch.count <= 1:
            self._core.delivered(batch)
            self._pending -= batch.count
            self.refused += batch.count
            self._faults.noted(f"the server refused an event (HTTP {status}); it is dropped")
            return
        parts = batch.split() or ()
        self._undelivered += parts
        self._taken_at |= dict.fromkeys(parts, taken_at)
        for part in parts:
            await self._deliver(part)

    def _slow_down(self, asked_delay: float | None) -> None:
        self._pace.refused()
        if asked_delay is not None:
            until = asyncio.get_running_loop().time() + min(asked_delay, LONGEST_ASKED_DELAY)
            self._paused_until = max(self._paused_until, until)

    def _accepted(self, batch: EventBatch, seconds: float | None) -> None:
        if seconds is not None:
            # Half of the limit is enough: the others are about to be started, one at a time.
            is_used = 2 * len(self._deliveries) >= self._pace.limit
            self._pace.taken(seconds, self._has_more and is_used)
        self._undelivered.remove(batch)
        del self._taken_at[batch]
        self._core.delivered(batch)
        self._pending -= batch.count
        self.sent += batch.count
        self._faults.cleared(TOPIC)
        for over in self._backing_off:
            over.set()


class _EventCount:
    """Events counted by kind, as the queue returns billing events before flag checks."""

    def __init__(self, billing: int = 0, flag_checks: int = 0) -> None:
        self.billing = billing
        self.flag_checks = flag_checks

    def add(self, batch: EventBatch) -> None:
        self.billing += batch.billing
        self.flag_checks += batch.count - batch.billing

    def covers(self, other: _EventCount) -> bool:
        return self.billing >= other.billing and self.flag_checks >= other.flag_checks
