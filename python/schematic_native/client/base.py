"""What both clients share: the core, the client's state, and when the core may answer from memory.

Nothing here waits, and nothing here reads the arguments of a check.
"""

from __future__ import annotations

import weakref
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from schematic_native._native import Core, Memory
from schematic_native.cache.flag_checks import LocalCache
from schematic_native.client import processes
from schematic_native.client.attributes import Attributes, read_caches
from schematic_native.client.flag_defaults import FlagDefault, read_flag_defaults
from schematic_native.client.hold.schedule import Holds
from schematic_native.client.parts import Parts
from schematic_native.client.session import Session
from schematic_native.client.waiting import Waiting, outcome_of
from schematic_native.config.defaults import INITIAL_WAIT
from schematic_native.config.results import ClientStatus, SpoolStatus
from schematic_native.ground.arguments import check_count, check_text, shown
from schematic_native.ground.fault_log import FaultLog
from schematic_native.ground.listeners import Listeners
from schematic_native.ground.machine import THIS, Machine
from schematic_native.ground.waker import Waker
from schematic_native.service.timings import Timings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from schematic_native._native import CheckFlagResult
    from schematic_native.client.runtime import Runtime
    from schematic_native.config.client_config import AsyncSchematicConfig, SchematicConfig
    from schematic_native.config.providers import FlagCache
    from schematic_native.ground.arguments import Keys
    from schematic_native.redis import Store


class BaseClient(Attributes, Memory):
    """The state that both clients share; subclasses add how they wait."""

    # The clocks, randomness and connections; a simulation replaces them.
    _machine: ClassVar[Machine] = THIS

    def __init__(self, api_key: str, config: SchematicConfig | AsyncSchematicConfig) -> None:
        # Imported with the first client rather than with this package, so that importing stays fast.
        import concurrent.futures.thread  # noqa: F401, PLC0415 - fails once the main thread has ended

        from schematic_native.config.settings import read_config  # noqa: PLC0415

        self._settings = replace(read_config(api_key, config), machine=self._machine)
        self._flag_defaults = _read_flag_defaults(config.flag_defaults)
        self._caches = _read_caches(config.cache_providers)
        self._closed = False
        self._listeners = Listeners(self._settings.logger)
        self._timings = Timings()
        # Called by the OpenFeature provider with each check that it answers from memory, if set.
        self._on_evaluation: Callable[[CheckFlagResult], None] | None = None
        self._reset()
        for level, notice in self._settings.notices:
            self._settings.logger.log(level, "%s", notice)
        processes.register(self)

    def _reset(self) -> None:
        """Create fresh state, for a new client and for a forked child process."""
        self._faults = FaultLog(self._settings.logger, self._settings.api_key)
        self._waker = Waker()
        self._core = self._make_core()
        self._store = self._open_store()
        parts = Parts(
            self._settings,
            self._core,
            self._waker,
            self._faults,
            self._listeners,
            self._timings,
            self._store,
        )
        self._session = Session(type(self).__name__, parts)
        self._holds = Holds(self._session, self._settings.leases, self._machine.monotonic)
        self._take_core(self._core, self._holds)
        self._dropped = weakref.finalize(self, self._session.abandon)
        self._dropped.atexit = False
        # True once the flags have arrived: from then on checks try memory first.
        self._streaming = False

    def _restart_if_forked(self) -> None:
        """Reset the client if this process was forked without running Python's fork hooks."""
        if self._core.forked:
            self._after_fork()

    def _after_fork(self) -> None:
        """Drop everything inherited from the parent: leases, holds, events, sockets and threads.

        The core is replaced, not cleared: at the fork, another thread of the parent may have held one
        of its locks, which nothing in the child would ever release.
        """
        self._dropped.detach()
        processes.keep_untouched(self._session)
        self._caches = [_fresh(cache) for cache in self._caches]
        self._timings = self._timings.restarted()
        self._reset()

    def _make_core(self) -> Core:
        leases, spool = self._settings.leases, self._settings.spool
        if leases is None:
            return Core(
                api_key=self._settings.api_key,
                wake=self._waker,
                spool=spool,
                **self._machine.core,
            )
        return Core(
            api_key=self._settings.api_key,
            lease_size=leases.lease_size,
            lease_duration=leases.lease_duration,
            reservation_ttl=leases.reservation_ttl,
            low_water_mark=leases.low_water_mark,
            overrides=leases.overrides,
            wake=self._waker,
            shared=leases.redis_client is not None,
            slabs=leases.slabs,
            spool=spool,
            **self._machine.core,
        )

    def _open_store(self) -> Store | None:
        """Open the store of leases shared between processes, if one is configured."""
        leases = self._settings.leases
        if leases is None or leases.redis_client is None:
            return None
        from schematic_native.redis import open_store  # noqa: PLC0415 - only with Redis

        return open_store(leases.redis_client, leases.redis_key_prefix, self._machine)

    def set_flag_default(self, flag_key: str, value: bool) -> None:
        """Set the value that a flag has when it cannot be evaluated.

        Flag keys compare case-insensitively.
        """
        check_text("flag_key", flag_key)
        if not isinstance(value, bool):
            raise TypeError(f"value must be a bool as a flag default, got {shown(value)}")
        self._flag_defaults |= {flag_key.lower(): FlagDefault(flag_key, value)}

    def set_flag_defaults(self, values: Mapping[str, bool]) -> None:
        """Set the values that several flags have when they cannot be evaluated."""
        self._flag_defaults |= read_flag_defaults("values", values)

    def status(self) -> ClientStatus:
        """Return the client's current state and counters, without I/O."""
        self._restart_if_forked()
        counts = self._core.counts()
        runtime = self._runtime
        queued = counts["queued_billing"] + counts["queued_flag_checks"]
        dropped = counts["dropped_billing"] + counts["dropped_flag_checks"]
        last = None if runtime is None else runtime.last_message
        spooled = self._core.spool_counts()
        return ClientStatus(
            connected=runtime is not None and runtime.connected,
            ready=runtime is not None and runtime.ready,
            cached_flags=counts["flags"],
            cached_companies=counts["companies"],
            cached_users=counts["users"],
            leases=counts["leases"],
            open_holds=counts["open_holds"],
            queued_events=queued + (0 if runtime is None else runtime.pending_events),
            sent_events=0 if runtime is None else runtime.sent_events,
            dropped_events=dropped + (0 if runtime is None else runtime.refused_events),
            last_error=self._faults.last_error,
            checks=counts["checks"],
            denied_checks=sum(self._core.denials().values()),
            settles=counts["settles"],
            lapsed_holds=counts["swept"],
            evicted=counts["evicted"],
            last_message_age=None if last is None else max(0.0, self._machine.monotonic() - last),
            oldest_event_age=None if runtime is None else runtime.oldest_events_age,
            redis_failures=0 if self._store is None else self._store.times.failed,
            spool=None if spooled is None else SpoolStatus(**spooled),
        )

    def metrics_text(self, companies: int = 0) -> str:
        """Return the metrics of this client in this process as a page for Prometheus, without I/O.

        Args:
            companies: the largest number of companies that get lines of their own in the metrics of
                credits.

        Raises:
            TypeError, ValueError: companies is not an int of 0 or more.

        """
        check_count("companies", companies)
        from schematic_native.client.metrics import read, write  # noqa: PLC0415 - only for metrics

        return write(read(self, companies))

    @property
    def _does_no_io(self) -> bool:
        """Whether the client does no I/O, because it is offline or shut down."""
        return self._settings.offline or self._closed

    @property
    def _runtime(self) -> Runtime | None:
        return self._session.runtime

    def _start(self) -> Runtime:
        """Start the runtime on the running event loop."""
        # A weak reference: the runtime must not keep the client from being garbage collected.
        method = weakref.WeakMethod(self._set_streaming)

        def tell(is_on: bool) -> None:
            stream = method()
            if stream is not None:
                stream(is_on)

        runtime = self._session.start(tell)
        self._holds.start()
        self._open_memory()
        return runtime

    def _begin_initialize(self) -> Waiting[None, None] | None:
        if self._does_no_io:
            return None
        limit = min(INITIAL_WAIT, self._settings.timeout)
        return outcome_of(lambda runtime: runtime.initialize(limit), limit)

    def _set_streaming(self, is_on: bool) -> None:
        self._streaming = is_on
        self._open_memory()

    def _memory_covers(self, company: Keys | None, user: Keys | None) -> bool:
        """Tell whether memory can answer for this company and user.

        It also can if it is known that they do not exist. Only in replicator mode is the answer not
        always yes.
        """
        replica = None if self._runtime is None else self._runtime.replica
        if replica is None:
            return True
        from schematic_native.service.datastream import COMPANY, USER  # noqa: PLC0415 - in replicator mode

        return replica.covers(COMPANY, company) and replica.covers(USER, user)

    def _open_memory(self) -> None:
        """Tell the core which calls it may now answer from memory.

        This takes no lock, because an exception raised by a signal handler could leave it locked.
        Instead it repeats until the state has not changed in between, so that a call racing with a
        shutdown never leaves the core open.
        """
        opened = None
        while opened != (now := self._answerable()):
            self._open(*now)
            opened = now

    def _answerable(self) -> tuple[bool, bool, bool, bool]:
        """Return which calls memory may answer, as the arguments of the core's `_open`.

        They are: plain checks, checks that reserve credits, settles, and whether to answer only for
        companies and users that are named by a single key.
        """
        leases, offline = self._settings.leases, self._settings.offline
        streaming = self._streaming and not offline
        leasing = leases is not None and leases.mode != "server" and not self._closed
        settling = self._runtime is not None and not self._closed and not offline
        return streaming, streaming and leasing, settling, self._settings.replica is not None

    def _mark_closed(self) -> None:
        """Settle open holds and mark the client closed: from now on it only answers from memory."""
        self._restart_if_forked()
        self._holds.settle()
        self._closed = True
        self._open_memory()

    def _push_failed(self, error: Exception) -> None:
        """Log an exception raised by a `push` that the program has put in place of ours."""
        said = self._faults.redact(str(error))
        self._settings.logger.error("%s", f"event_buffer.push: {type(error).__name__}: {said}")

    def _refuses_event(self, method: str) -> bool:
        self._restart_if_forked()
        if self._closed:
            self._faults.noted(f"{method}: the client is shut down; the event is dropped")
        return self._does_no_io


def _read_flag_defaults(values: object) -> dict[str, FlagDefault]:
    return {} if values is None else read_flag_defaults("flag_defaults", values)


def _read_caches(providers: Sequence[FlagCache] | None) -> list[FlagCache]:
    if providers is None:
        return [LocalCache()]
    return read_caches("cache_providers", providers)


def _fresh(cache: FlagCache) -> FlagCache:
    """Return a new empty cache for a forked child: at the fork, a thread may have held its lock."""
    # A cache of the user's own class is kept: it may have state that we cannot copy.
    if isinstance(cache, LocalCache) and type(cache) is LocalCache:
        return cache.emptied()
    return cache
