"""The asyncio part of one client: DataStream, REST, event sender and leases on one event loop.

`AsyncSchematic` runs it on the caller's loop, and `Schematic` on a thread of its own (`LoopThread`).
Everything here runs on that loop and must not block it; a check that memory answers never gets here.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from schematic_native._native import ENGINE_VERSION_KEY
from schematic_native.client.loop_thread import cancel_all
from schematic_native.config.defaults import INITIAL_WAIT, SHUTDOWN_BUDGET
from schematic_native.leases.checks import Checks
from schematic_native.leases.manager import Leases
from schematic_native.leases.work import Sources, Work
from schematic_native.service.datastream import (
    COMPANY,
    USER,
    DataStream,
    StreamAddress,
    StreamHandlers,
)
from schematic_native.service.events import EventSender, Rhythm
from schematic_native.service.rest import Api

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping, Sequence

    from schematic_native._native import CheckResult, Ingested, OwedClaim, PendingCheck
    from schematic_native.cache.entities import EntityCaches
    from schematic_native.cache.replicator import Replica
    from schematic_native.client.parts import Parts
    from schematic_native.config.results import CreditBalance
    from schematic_native.ground.arguments import Keys
    from schematic_native.leases.requests import (
        CheckRequest,
        FlagOutcome,
        FlagRequest,
        FlagsRequest,
        NoAnswer,
        Outcomes,
        ServiceAnswer,
    )
    from schematic_native.leases.shared_store import SharedStore
    from schematic_native.redis import Store

T = TypeVar("T")

# Seconds that the end of a block waits for the release of its hold, as it would for a claim in a store.
RELEASE_PATIENCE = 1.0
# Seconds before a background service that failed is started again.
RESTART_PAUSE = 1.0


class Runtime:
    """All background work and I/O of one client.

    It must be created on the event loop that it is to run on.

    Args:
        parts: the state that outlives an event loop.
        on_streaming: called with True when the DataStream's flags have arrived; in replicator mode,
            called with whether checks may be decided in this process.
        previous: the runtime of an earlier loop that was closed without a shutdown, if any.

    """

    def __init__(
        self, parts: Parts, on_streaming: Callable[[bool], None], previous: Runtime | None = None
    ) -> None:
        self.loop = asyncio.get_running_loop()
        settings, core, waker, faults, listeners, timings, store = parts
        self._settings = settings
        self._core = core
        self._waker = waker
        self._faults = faults
        self._listeners = listeners
        self._machine = settings.machine
        self._api = Api(settings, timings=timings)
        self._work = Work(core, self._api, faults)
        self._shared = None if store is None else self._share(store)
        self._sender = EventSender(
            core,
            self._api.post_events,
            faults,
            Rhythm(settings.event_buffer_period, settings.max_event_requests),
            prepare=None if self._shared is None else self._shared.before_billing,
            jitter=self._machine.jitter,
        )
        self._replica = self._make_replica(on_streaming)
        streams = settings.use_datastream and self._replica is None
        self._datastream = self._make_datastream(on_streaming) if streams else None
        self._caches = self._make_caches()
        self._leases = self._make_leases()
        if previous is not None:
            self._inherit(previous)
        self._checks = Checks(
            self._work,
            Sources(self._datastream, self._caches, self._replica),
            self._leases,
            self._shared,
            settings.leases,
            self.spawn,
        )
        self._first_wait_until = self.loop.time() + INITIAL_WAIT
        self._background: dict[asyncio.Task[None], None] = {}
        self._releases: dict[asyncio.Task[None], None] = {}
        self._services: list[asyncio.Task[None]] = []
        self._streaming: list[asyncio.Task[None]] = []
        self._sending = self._serve("event sender", self._sender.run)
        self._closing: asyncio.Task[None] | None = None
        self._dropped = asyncio.Event()
        self._start()

    @property
    def connected(self) -> bool:
        """Whether the DataStream's socket is open."""
        source = self._datastream or self._replica
        return source is not None and source.connected

    @property
    def ready(self) -> bool:
        """Whether the DataStream is connected and its flags have arrived."""
        source = self._datastream or self._replica
        return source is not None and source.ready

    @property
    def last_message(self) -> float | None:
        """When the DataStream's last message arrived, by time.monotonic; None if none has."""
        return None if self._datastream is None else self._datastream.last_message

    @property
    def replica(self) -> Replica | None:
        """The reader of a replicator's cache; None outside replicator mode."""
        return self._replica

    def count(self, company: Keys, event: str, quantity: int) -> None:
        """Count a tracked event in the replicator's cache."""
        if self._replica is not None:
            self.spawn(self._replica.count(company, event, quantity))

    @property
    def ended(self) -> bool:
        """Whether closing has completed, and was not cut short by the end of the event loop."""
        closing = self._closing
        return closing is not None and closing.done() and not closing.cancelled()

    @property
    def sent_events(self) -> int:
        """How many events the server has accepted."""
        return self._sender.sent

    @property
    def refused_events(self) -> int:
        """How many events the server has refused."""
        return self._sender.refused

    @property
    def pending_events(self) -> int:
        """How many events have left the queue and are not delivered yet."""
        return self._sender.pending

    @property
    def oldest_events_age(self) -> float | None:
        """The seconds since the oldest undelivered batch left the queue; None if there is none."""
        oldest = self._sender.oldest
        return None if oldest is None else max(0.0, self.loop.time() - oldest)

    async def initialize(self, timeout: float) -> None:
        """Wait until the first attempt to connect has succeeded or failed, for a few seconds at most."""
        await self._first_outcome(self.loop.time() + timeout)

    async def check_flag(self, request: FlagRequest) -> FlagOutcome:
        """Finish a plain check within its timeout."""
        deadline = self.loop.time() + request.timeout
        await self._first_outcome(deadline, request.company, request.user)
        return await self._checks.check_flag(request, deadline)

    async def check_flags(self, request: FlagsRequest) -> Outcomes | NoAnswer:
        """Finish plain checks of several or all flags within their timeout."""
        deadline = self.loop.time() + request.each.timeout
        await self._first_outcome(deadline, request.each.company, request.each.user)
        return await self._checks.check_flags(request, deadline)

    async def check(
        self, request: CheckRequest, pending: PendingCheck | None
    ) -> CheckResult | ServiceAnswer | NoAnswer:
        """Finish, within its timeout, a check that may reserve credits."""
        deadline = self.loop.time() + request.timeout
        if pending is None:
            await self._first_outcome(deadline, request.company, request.user)
        return await self._checks.check(request, pending, deadline)

    async def credit_balance(
        self, company: Keys, credit_type_id: str, timeout: float
    ) -> CreditBalance:
        """Return a company's credit balance within `timeout` seconds."""
        deadline = self.loop.time() + timeout
        await self._first_outcome(deadline, company)
        return await self._checks.credit_balance(company, credit_type_id, deadline)

    async def claim(self, owed: OwedClaim) -> None:
        """Make the claim of a settle in the shared store, even if the caller is cancelled."""
        if self._shared is not None:
            await self._shared.claim_settle(owed)

    async def prewarm(self, company: Keys, credit_type_ids: Sequence[str], timeout: float) -> None:
        """Acquire leases ahead of checks, best effort."""
        if self._leases is None or self._checks.mode == "server":
            self._faults.noted("prewarm has no effect without credit leases in client mode")
            return
        await self._leases.prewarm(company, credit_type_ids, self.loop.time() + timeout)

    async def release(self, reservation_id: str) -> None:
        """Release a hold that is kept on the server, best effort; what takes long goes on in the background."""
        releasing = self.give_back(reservation_id)
        if releasing is not None:
            await asyncio.wait({releasing}, timeout=RELEASE_PATIENCE)

    def give_back(self, reservation_id: str) -> asyncio.Task[None] | None:
        """Release such a hold in the background; a shutdown that follows waits for it."""
        if self._closing is not None and self._closing.done():
            return None  # too late to send anything: the hold expires on the server
        task = asyncio.create_task(self._checks.release(reservation_id))
        self._releases[task] = None
        task.add_done_callback(self._finished)
        return task

    def prewarm_after_identify(self, company: Keys, credit_type_ids: Sequence[str]) -> None:
        """Prewarm in the background, after the identify event has created the company."""

        async def work() -> None:
            await self._sender.flush(self._settings.timeout)
            await self.prewarm(company, credit_type_ids, self._settings.timeout)

        self.spawn(work())

    async def flush(self, timeout: float) -> bool:
        """Deliver what is queued; return whether that took no longer than the timeout."""
        return await self._sender.flush(timeout)

    async def close(self, budget: float = SHUTDOWN_BUDGET) -> None:
        """Deliver, release and stop everything within `budget` seconds. A second call joins the first."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._close(budget))
        await asyncio.shield(self._closing)

    def drop(self) -> None:
        """Begin to close in the background, because the client has been garbage collected."""
        self._dropped.set()

    def _inherit(self, previous: Runtime) -> None:
        """Take over the unfinished work of a runtime whose event loop has been closed."""
        self._sender.inherit(previous._sender)
        if self._shared is not None and previous._shared is not None:
            self._shared.inherit(previous._shared)
        if self._leases is not None and previous._leases is not None:
            self._leases.inherit(previous._leases)

    def _start(self) -> None:
        self._core.start_spool()
        handlers: dict[str, Callable[[], None]] = {"events": self._sender.wake}
        if self._datastream is not None:
            self._streaming.append(self._serve("DataStream", self._datastream.run))
        if self._replica is not None:
            self._services += [self._serve(*service) for service in self._replica.services()]
        if self._caches is not None:
            self._services.append(self._serve("shared cache", self._caches.run))
        if self._leases is not None:
            handlers["extend"] = self._leases.extend_low_slots
            self._services.append(self._serve("sweeper", self._leases.sweep))
        self._services.append(self._serve("keeper", self._close_with_loop))
        self._waker.connect(self.loop, handlers)

    async def _close_with_loop(self) -> None:
        """Close everything if the client is dropped, or the connections if its loop ends.

        At the end of a loop, `asyncio.run` cancels every task, including this one. Events and leases
        stay with the client, which continues with them on its next loop.
        """
        try:
            await self._dropped.wait()
            if self._closing is None:
                self._closing = asyncio.create_task(self._close(SHUTDOWN_BUDGET))
        finally:
            if self._closing is None:
                self._waker.disconnect()
                await self._api.close()

    def _make_replica(self, on_ready: Callable[[bool], None]) -> Replica | None:
        settings = self._settings
        if settings.replica is None or settings.caches is None or not settings.use_datastream:
            return None
        from schematic_native.cache.health import HealthCheck  # noqa: PLC0415 - only in replicator mode
        from schematic_native.cache.replicator import Replica  # noqa: PLC0415

        def tell(is_ready: bool) -> None:
            on_ready(is_ready)
            self._listeners.set_ready(is_ready)

        return Replica(
            HealthCheck(settings.replica, self._faults, self._machine.open_http),
            settings.caches,
            self._core,
            self._faults,
            version=ENGINE_VERSION_KEY,
            on_ready=tell,
        )

    def _make_datastream(self, on_streaming: Callable[[bool], None]) -> DataStream:
        settings = self._settings
        return DataStream(
            StreamAddress(settings.base_url, settings.api_key, settings.max_message_size),
            self._core,
            self._faults,
            StreamHandlers(
                on_ready=lambda: self._tell_streaming(on_streaming),
                on_message=self._note if settings.caches or self._has_own_leases else None,
                on_lost=self._lose_sight,
                listeners=self._listeners,
            ),
            machine=self._machine,
        )

    @property
    def _has_own_leases(self) -> bool:
        """Whether leases live in this process alone."""
        leases = self._settings.leases
        return leases is not None and leases.mode != "server" and self._shared is None

    def _tell_streaming(self, on_streaming: Callable[[bool], None]) -> None:
        if self._leases is not None:
            self._leases.joins.set_sight(is_clear=True)
        on_streaming(True)

    def _lose_sight(self) -> None:
        if self._leases is not None:
            self._leases.joins.set_sight(is_clear=False)

    def _note(self, message: bytes, ingested: Ingested) -> None:
        if self._caches is not None:
            self._caches.take(message, ingested)
        if self._leases is not None and self._has_own_leases and ingested.entity_type == COMPANY:
            self._leases.hear(message, ingested)

    def _make_caches(self) -> EntityCaches | None:
        datastream, caches = self._datastream, self._settings.caches
        if datastream is None or caches is None:
            return None
        from schematic_native.cache.entities import EntityCaches  # noqa: PLC0415 - where there are any

        return EntityCaches(
            caches,
            self._core,
            self._faults,
            version=ENGINE_VERSION_KEY,
            is_reading=lambda: datastream.is_reading,
        )

    def _make_leases(self) -> Leases | None:
        source, settings = self._datastream or self._replica, self._settings.leases
        if source is None or settings is None or settings.mode == "server":
            return None

        async def request_company(keys: Mapping[str, str], deadline: float) -> bool:
            return await source.request(COMPANY, keys, deadline)

        leases = Leases(
            self._work,
            settings,
            store=self._shared,
            request_company=request_company,
            jitter=self._machine.jitter,
        )
        if self._datastream is None:
            leases.joins.set_sight(is_clear=False)
        return leases

    def _share(self, store: Store) -> SharedStore:
        from schematic_native.leases.shared_store import SharedStore  # noqa: PLC0415
        from schematic_native.redis import SyncStore, ThreadedStore  # noqa: PLC0415 - only with Redis

        waiting = ThreadedStore(store) if isinstance(store, SyncStore) else store
        return SharedStore(self._core, waiting, self._faults)

    async def _first_outcome(
        self, deadline: float, company: Keys | None = None, user: Keys | None = None
    ) -> None:
        """Give the DataStream of a new client a moment to connect, and to request what a check needs."""
        source = self._datastream or self._replica
        if source is None or source.first_outcome.is_set():
            return
        if self._datastream is not None:
            self._datastream.request_early(COMPANY, company)
            self._datastream.request_early(USER, user)
        left = min(deadline, self._first_wait_until) - self.loop.time()
        if left > 0:
            outcome = asyncio.ensure_future(source.first_outcome.wait())
            await asyncio.wait({outcome}, timeout=left)
            outcome.cancel()

    def _serve(
        self, name: str, run: Callable[[], Coroutine[object, object, None]]
    ) -> asyncio.Task[None]:
        """Run a background service until it is cancelled; if it fails, log that and restart it."""

        async def service() -> None:
            while True:
                try:
                    await run()
                except Exception as error:  # noqa: BLE001 - one failing service must not stop the others
                    self._faults.raised(name, f"{type(error).__name__}: {error}; starting again")
                await asyncio.sleep(RESTART_PAUSE)

        return asyncio.create_task(service(), name=f"schematic-native {name}")

    def spawn(self, work: Coroutine[object, object, None]) -> None:
        """Run work in the background; once the client is closing, discard it. Call it on the loop."""
        if self._closing is not None:
            work.close()
            return
        task = asyncio.create_task(work)
        self._background[task] = None
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._background.pop(task, None)
        self._releases.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._faults.raised("background work", f"{type(error).__name__}: {error}")

    async def _close(self, budget: float) -> None:
        try:
            await self._end(self.loop.time(), budget)
        finally:
            # If the loop ends in the meantime, this is cancelled, and the client's next loop takes over
            # what was not delivered.
            self._waker.disconnect()
            await self._api.close()

    async def _end(self, start: float, budget: float) -> None:
        # While the events are sent: the DataStream's closing handshake takes a round trip, too.
        # Without a shared store it goes on: it tells to the last moment whether others have joined a lease.
        early = [] if self._has_own_leases else self._streaming
        ending = asyncio.ensure_future(cancel_all([*self._services, *self._background, *early]))
        # Usage is sent before the leases are released, because a released lease can no longer be
        # billed. Part of the budget is kept for the leases in case the events cannot be delivered.
        await self._sender.flush(budget * 0.6)
        await ending
        await self._finish_releases(start + budget * 0.75)
        if self._leases is not None:
            self._leases.joins.stop()
            ending = asyncio.ensure_future(cancel_all(self._streaming))
            await self._leases.close(start + budget * 0.9)
            await ending
        await self._sender.flush(max(0.0, start + budget - self.loop.time()))
        await cancel_all([self._sending])
        undelivered = await self._sender.close()
        counts = self._core.counts()
        undelivered += counts["queued_billing"] + counts["queued_flag_checks"]
        kept = self._close_spool()
        if undelivered:
            self._faults.raised(
                "shutdown", f"{undelivered} events could not be delivered in time{kept}"
            )

    def _close_spool(self) -> str:
        """Keep on disk what was not delivered; return what to say of it."""
        lost = self._core.close_spool(self._sender.undelivered)
        if lost is None:
            return ""
        lost_too = f", but for {lost} of them" if lost else ""
        return f"; usage stays in the spool for the next client{lost_too}"

    async def _finish_releases(self, until: float) -> None:
        """Wait for the releases of holds; those not finished in time expire on the server."""
        if self._releases:
            await asyncio.wait(self._releases, timeout=max(0.0, until - self.loop.time()))
            await cancel_all([*self._releases])
