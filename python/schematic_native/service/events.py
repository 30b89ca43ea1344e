"""Sending events: batches from the native queue to the capture service.

The native queue is the buffer; as many requests are under way as the service answers well. An event
leaves this process only when the server has taken it, or has refused that one event for what it is.
Everything else is tried again.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from typing import TYPE_CHECKING

from schematic_native._native import Pace
from schematic_native.config.settings import MAX_EVENT_REQUESTS
from schematic_native.service.errors import ApiConnectionError, ApiTimeoutError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from schematic_native._native import Core, EventBatch
    from schematic_native.ground.fault_log import Faults
    from schematic_native.service.rest import Posted

# Under way at once, before the service has shown that it takes more.
FIRST_REQUESTS = 8
# Seconds between two looks for full batches while they keep coming. So the calls that queue events need not
# wake anybody, which costs a caller more than the call; those that come more seldom than that wake the sender.
FULL_BATCH_PERIOD = 0.01
SELDOM = 0.05
FIRST_RETRY_DELAY = 1.0
LONGEST_RETRY_DELAY = 30.0
# No longer than that, whatever the service asks.
LONGEST_ASKED_DELAY = 60.0
TOPIC = "event capture"
QUEUE_TOPIC = "event queue"
# Statuses that speak of the batch's content; all others speak of the service, the way there, or the
# key.
REFUSED = frozenset({400, 413, 422})
# Statuses that say that it is too much.
OVERLOADED = frozenset({408, 429, 503, 504})


class EventSender:
    """Empties the core's event queue, by time and whenever a full batch waits.

    Args:
        core: whose queue.
        post: posts one batch and tells what came back, or raises ApiConnectionError.
        period: seconds between two flushes.
        faults: where failures are reported.
        max_requests: under way at once at most.
        prepare: awaited before usage leaves this process.
        jitter: for tests; returns a number from 0 to 1.

    """

    def __init__(
        self,
        core: Core,
        post: Callable[[EventBatch], Awaitable[Posted]],
        period: float,
        faults: Faults,
        *,
        max_requests: int = MAX_EVENT_REQUESTS,
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
        # Set when there is something to do: all that waits is to be sent, or full batches.
        self._due = asyncio.Event()
        self._is_flush_due = False
        self._woken_at = 0.0  # by a full batch, last
        self._resting: set[asyncio.Event] = set()
        self._pace = Pace(FIRST_REQUESTS, max_requests)
        self._has_room = asyncio.Event()
        self._has_more = False  # batches that wait, as far as is known
        self._requests = 0  # under way
        self._is_turn = asyncio.Event()
        self._paused_until = 0.0
        self._deliveries: set[asyncio.Task[None]] = set()
        self._taken = _Tally()
        self._flushes: set[asyncio.Event] = set()
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
        """Wait so long at most; whether it was cut short."""
        # A timer rather than wait_for, which before Python 3.12 may swallow a cancellation.
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
        """Send full batches while they keep coming, until the instant at which all is sent."""
        loop = asyncio.get_running_loop()
        is_seldom = loop.time() - self._woken_at > SELDOM
        while not self._is_flush_due and loop.time() < end:
            self._woken_at = loop.time()
            # None for a whole period: from now on the next one wakes us.
            is_idle = not await self._drain(full=True) or is_seldom
            if is_idle and not self._core.expect_batch():
                return
            is_seldom = False
            await self._is_woken(FULL_BATCH_PERIOD)

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
        self._is_flush_due = True
        self._due.set()
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
        started = asyncio.Event()
        self._flushes.add(started)
        try:
            while not self._taken.covers(target):
                started.clear()
                await started.wait()
        finally:
            self._flushes.discard(started)
        if self._deliveries:
            await asyncio.wait(set(self._deliveries))

    async def _drain(self, *, full: bool) -> bool:
        """Start a delivery for each batch, or full one, as many at a time as may be; whether there was one."""
        has_started = False
        while True:
            await self._wait_for_room()
            if self._inherited:
                batch = self._inherited.popleft()
            elif (taken := self._core.take_batch(full=full)) is not None:
                batch = taken
                self._pending += batch.count
            else:
                self._has_more = False
                return has_started
            has_started = self._has_more = True
            self._taken.add(batch)
            self._undelivered.append(batch)
            delivery = asyncio.create_task(self._deliver(batch))
            self._deliveries.add(delivery)
            delivery.add_done_callback(self._delivered)
            for waiting in self._flushes:
                waiting.set()
            # The loop is the caller's: others have their turn after each start.
            await asyncio.sleep(0)

    async def _wait_for_room(self) -> None:
        """Wait until another delivery may begin."""
        while len(self._deliveries) >= self._pace.limit:
            self._has_room.clear()
            await self._has_room.wait()
        await self._wait_for_leave()

    async def _wait_for_leave(self) -> None:
        """Wait as long as the service has asked us to."""
        delay = self._paused_until - asyncio.get_running_loop().time()
        if delay > 0:
            await asyncio.sleep(delay)

    async def _wait_for_turn(self) -> None:
        """Wait until another request may be sent: more deliveries may have begun than now may send."""
        await self._wait_for_leave()
        while self._requests >= self._pace.limit:
            self._is_turn.clear()
            await self._is_turn.wait()

    def _delivered(self, delivery: asyncio.Task[None]) -> None:
        self._deliveries.discard(delivery)
        self._has_room.set()
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
        except Exception as error:  # noqa: BLE001 - whatever it is, the events stay
            return f"{type(error).__name__}: {error}"
        status = posted.status
        if 200 <= status < 300:  # noqa: PLR2004
            self._took(batch, posted.seconds)
            return None
        if status in OVERLOADED:
            self._slow_down(posted.asked_delay)
        # What stands in the way of the service refuses without its words: to find the event that is
        # too large, say, helps then too, but to drop one would lose usage.
        if status in REFUSED and (posted.is_explained or batch.count > 1):
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
        parts = batch.split() or ()
        self._undelivered += parts
        for part in parts:
            await self._deliver(part)

    def _slow_down(self, asked_delay: float | None) -> None:
        self._pace.refused()
        if asked_delay is not None:
            until = asyncio.get_running_loop().time() + min(asked_delay, LONGEST_ASKED_DELAY)
            self._paused_until = max(self._paused_until, until)

    def _took(self, batch: EventBatch, seconds: float | None) -> None:
        if seconds is not None:
            # Half is enough: those that follow are being started, one after the other.
            is_used = 2 * len(self._deliveries) >= self._pace.limit
            self._pace.taken(seconds, self._has_more and is_used)
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
