"""The clients: `Schematic` and `AsyncSchematic`.

A check that finds all it needs in memory is one call into the core, on the caller's own thread:
`check_flag`, `check` and `track_with_reservation` of the synchronous client are native methods,
which call a method from here only for what must wait.
Whatever must wait is a coroutine of `Runtime`, which the asynchronous client awaits and the
synchronous one waits for. Neither this module nor anything it imports at the top loads asyncio,
httpx or websockets: that happens when I/O starts.
"""

from __future__ import annotations

import math
import os
import weakref
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, SupportsIndex, TypeAlias, TypeVar

from schematic_native._native import (
    CheckFlagResult,
    CheckResult,
    Core,
    Memory,
    Reservation,
    read_quantity,
)
from schematic_native._native import Schematic as Synchronous
from schematic_native.cache.flag_checks import LocalCache, cache_key
from schematic_native.client.attributes import Attributes, read_caches
from schematic_native.client.flag_defaults import FlagDefault, read_flag_defaults
from schematic_native.client.hold import AsyncHold, Hold, Holds, metered
from schematic_native.client.session import Session, at_exit, end_all, forget_parent
from schematic_native.config.options import (
    INITIAL_WAIT,
    AsyncSchematicConfig,
    CheckFlagOptions,
    CheckOptions,
    ClientStatus,
    CreditBalance,
    DefaultValue,
    EventBodyIdentifyCompany,
    FlagCache,
    IdentifyOptions,
    LookupKeys,
    SchematicConfig,
    TrackOptions,
    TrackWithReservationOptions,
)
from schematic_native.ground.arguments import (
    Keys,
    check_default,
    check_optional,
    check_optional_text,
    check_options,
    check_text,
    is_usage,
    read_keys,
    read_text,
    read_timeout,
    wrong_kind,
)
from schematic_native.ground.fault_log import Faults
from schematic_native.ground.listeners import Watchers
from schematic_native.ground.machine import THIS, Machine
from schematic_native.ground.store_errors import StoreError
from schematic_native.ground.waker import Doorbell
from schematic_native.leases.requests import (
    CLOSED,
    KEY_CONFLICT,
    REASON_OFFLINE,
    TIMED_OUT,
    FlagOutcome,
    FlagQuestion,
    LeaseQuestion,
    Outcomes,
    Told,
    Unanswered,
    ask_all,
    plain_result,
    read_flag_question,
    read_lease_question,
    resolve_default,
)
from schematic_native.service.resources import AsyncResources, Resources
from schematic_native.service.timings import Tally

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from types import TracebackType

    from typing_extensions import Self

    from schematic_native._native import FailureMode, OwedClaim, PendingCheck
    from schematic_native.client.runtime import Runtime
    from schematic_native.redis import Store

T = TypeVar("T")
L = TypeVar("L")
F = TypeVar("F", bound="Callable[..., Any]")

# The fewest units that no event can bill: it counts them in 63 bits.
UNBILLABLE = 2.0**63
# A synchronous caller allows the I/O thread this much longer than the check's own timeout, so that
# the check itself can say what it ran out of time for.
GRACE = 0.05


class _Client(Attributes, Memory):
    """What both clients are, apart from how they wait."""

    # What it runs on; a simulation gives another.
    _machine: ClassVar[Machine] = THIS

    def __init__(self, api_key: str, config: SchematicConfig | AsyncSchematicConfig) -> None:
        # Loaded with the first client: neither is needed to import this package.
        import concurrent.futures.thread  # noqa: F401, PLC0415 - not once the main thread has ended

        from schematic_native.config.settings import read_config  # noqa: PLC0415

        self._settings = replace(read_config(api_key, config), machine=self._machine)
        self._flag_defaults = _read_defaults(config.flag_defaults)
        self._caches = _read_caches(config.cache_providers)
        self._closed = False
        self._watchers = Watchers(self._settings.logger)
        self._tally = Tally()
        self._reset()
        for level, notice in self._settings.notices:
            self._settings.logger.log(level, "%s", notice)
        _clients.add(self)

    def _reset(self) -> None:
        """Start from nothing: in a new client, and in a new process after a fork."""
        self._faults = Faults(self._settings.logger, self._settings.api_key)
        self._doorbell = Doorbell()
        self._core = self._make_core()
        self._store = self._open_store()
        self._take_core(self._core)
        self._session = Session(
            type(self).__name__,
            self._settings,
            self._core,
            self._doorbell,
            self._faults,
            self._store,
            self._watchers,
            self._tally,
        )
        self._holds = Holds(self._session, self._settings.leases)
        self._dropped = weakref.finalize(self, self._session.abandon)
        self._dropped.atexit = False
        # Set once flags have arrived: from then on checks are tried in memory first.
        self._streaming = False

    def _own(self) -> None:
        """Start anew in a process that was forked without Python's hooks."""
        if self._core.forked:
            self._after_fork()

    def _after_fork(self) -> None:
        """Own nothing of the parent's: no lease, no hold, no event, no socket, no thread.

        A fresh core rather than a cleaned one, as another thread of the parent may have held a lock
        inside.
        """
        self._dropped.detach()
        _abandoned.append(self._session)
        self._caches = [_fresh(cache) for cache in self._caches]
        self._tally = self._tally.emptied()
        self._reset()

    def _make_core(self) -> Core:
        leases = self._settings.leases
        if leases is None:
            return Core(api_key=self._settings.api_key, wake=self._doorbell, **self._machine.core)
        return Core(
            api_key=self._settings.api_key,
            lease_size=leases.lease_size,
            lease_duration=leases.lease_duration,
            reservation_ttl=leases.reservation_ttl,
            low_water_mark=leases.low_water_mark,
            overrides=leases.overrides,
            wake=self._doorbell,
            shared=leases.redis_client is not None,
            slabs=leases.slabs,
            **self._machine.core,
        )

    def _open_store(self) -> Store | None:
        """Open the store of leases that other processes share, if one is configured."""
        leases = self._settings.leases
        if leases is None or leases.redis_client is None:
            return None
        from schematic_native.redis import open_store  # noqa: PLC0415 - only with Redis

        return open_store(leases.redis_client, leases.redis_key_prefix, self._machine)

    def set_flag_default(self, flag_key: str, value: bool) -> None:
        """Set the answer of a flag for when none can be had.

        Flag keys compare case-insensitively.
        """
        check_text("flag_key", flag_key)
        if not isinstance(value, bool):
            raise TypeError(f"value must be a bool as a flag default, got {value!r}")
        self._flag_defaults |= {flag_key.lower(): FlagDefault(flag_key, value)}

    def set_flag_defaults(self, values: Mapping[str, bool]) -> None:
        """Set the answers of several flags for when none can be had."""
        self._flag_defaults |= read_flag_defaults("values", values)

    def status(self) -> ClientStatus:
        """Tell what the client has and does, without I/O."""
        self._own()
        counts = self._core.counts()
        runtime = self._runtime
        queued = counts["queued_billing"] + counts["queued_flag_checks"]
        dropped = counts["dropped_billing"] + counts["dropped_flag_checks"]
        last = None if runtime is None else runtime.last_message
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
        )

    def metrics_text(self, companies: int = 0) -> str:
        """Return the metrics of this client in this process as a page for Prometheus, without I/O.

        Args:
            companies: so many companies at most have lines of their own where credits are counted.

        """
        from schematic_native.client.metrics import read, write  # noqa: PLC0415 - for who scrapes

        return write(read(self, companies))

    @property
    def _idle(self) -> bool:
        """Whether no I/O may be done."""
        return self._settings.offline or self._closed

    @property
    def _runtime(self) -> Runtime | None:
        return self._session.runtime

    def _start(self) -> Runtime:
        """Start the runtime on the running loop."""
        # The runtime must not hold the client.
        method = weakref.WeakMethod(self._stream)

        def tell(is_on: bool) -> None:
            stream = method()
            if stream is not None:
                stream(is_on)

        runtime = self._session.start(tell)
        self._holds.start()
        self._open_memory()
        return runtime

    def _stream(self, is_on: bool) -> None:
        self._streaming = is_on
        self._open_memory()

    def _knows(self, company: Keys | None, user: Keys | None) -> bool:
        """Tell whether memory knows who is named, or that it does not."""
        replica = None if self._runtime is None else self._runtime.replica
        if replica is None:
            return True
        from schematic_native.service.datastream import COMPANY, USER  # noqa: PLC0415 - in replicator mode

        return replica.covers(COMPANY, company) and replica.covers(USER, user)

    def _open_memory(self) -> None:
        """Let memory answer what it may answer now.

        Without a lock, which an exception out of a signal handler might leave behind: whoever opens
        looks again, so that what was opened last is never older than a shutdown.
        """
        opened = None
        while opened != (now := self._answerable()):
            self._open(*now)
            opened = now

    def _answerable(self) -> tuple[bool, bool, bool, bool]:
        """Tell what memory may answer: plain checks, leased ones, settles; and one entity at a time."""
        leases, offline = self._settings.leases, self._settings.offline
        streaming = self._streaming and not offline
        leasing = leases is not None and leases.mode != "server" and not self._closed
        settling = self._runtime is not None and not self._closed and not offline
        return streaming, streaming and leasing, settling, self._settings.replica is not None

    def _shut(self) -> None:
        """Answer from memory alone from now on."""
        self._own()
        self._holds.settle()
        self._closed = True
        self._open_memory()

    # Plain checks

    def _read_flag(
        self,
        flag_key: str,
        company: LookupKeys | None,
        user: LookupKeys | None,
        options: CheckFlagOptions | None,
    ) -> tuple[FlagQuestion, DefaultValue, float]:
        check_options(options, CheckFlagOptions)
        question = read_flag_question(flag_key, company, user, options)
        if options is None:
            return question, None, self._settings.timeout
        check_default(options.default_value)
        return question, options.default_value, self._limit(options.timeout)

    def _limit(self, timeout: float | None) -> float:
        return self._settings.timeout if timeout is None else read_timeout(timeout)

    def _answer_now(self, question: FlagQuestion, default: DefaultValue) -> CheckFlagResult | None:
        """Answer a plain check without waiting, if that is possible."""
        self._own()
        if self._settings.offline:
            return self._conclude(question, Unanswered(REASON_OFFLINE), default)
        if self._streaming and self._knows(question.company, question.user):
            # Once shut down, nobody sends the events of checks any more.
            answer = question.ask(self._core, record=not self._closed)
            if isinstance(answer, CheckFlagResult):
                return answer
            if answer == "conflict":
                return self._conclude(question, Unanswered(KEY_CONFLICT), default)
        if self._closed:
            return self._conclude(question, Unanswered(CLOSED), default)
        return None if question.preflight else self._recall(question)

    def _conclude(
        self, question: FlagQuestion, outcome: FlagOutcome, default: DefaultValue
    ) -> CheckFlagResult:
        """Turn an outcome into an answer: the caller's default if there was none."""
        if isinstance(outcome, Told):
            self._remember(question, outcome.answer)
            return outcome.answer
        if isinstance(outcome, CheckFlagResult):
            return outcome
        answer = CheckFlagResult(
            flag=question.flag_key,
            value=self._default(question.flag_key, default),
            reason=outcome.reason,
            error=outcome.error,
        )
        if outcome.reason == KEY_CONFLICT and not self._closed:
            # Decided here, by the entities in memory, so it is logged like any other local answer.
            self._core.record_flag_check(answer, question.company, question.user)
        return answer

    def _default(self, flag_key: str, default: DefaultValue) -> bool:
        known = self._flag_defaults.get(flag_key.lower())
        return resolve_default(default, known is not None and known.value)

    def _recall(self, question: FlagQuestion) -> CheckFlagResult | None:
        key = cache_key(question.flag_key, question.company, question.user)
        for cache in self._caches:
            try:
                answer = cache.get(key)
            except Exception as error:  # noqa: BLE001 - a user's cache must not fail a check
                self._faults.noted(f"cache_providers: get failed: {type(error).__name__}: {error}")
                continue
            if isinstance(answer, CheckFlagResult):
                return answer
        return None

    def _remember(self, question: FlagQuestion, answer: CheckFlagResult) -> None:
        if question.preflight:
            return
        key = cache_key(question.flag_key, question.company, question.user)
        for cache in self._caches:
            try:
                cache.set(key, answer)
            except Exception as error:  # noqa: BLE001 - a user's cache must not fail a check
                self._faults.noted(f"cache_providers: set failed: {type(error).__name__}: {error}")

    def _read_flags(
        self,
        flag_keys: Sequence[str] | None,
        company: LookupKeys | None,
        user: LookupKeys | None,
        options: CheckFlagOptions | None,
    ) -> _FlagsAsked:
        question, default, timeout = self._read_flag("flag_keys", company, user, options)
        # No keys at all ask for all flags, as in the published SDK.
        keys = None if flag_keys is None else _read_texts("flag_keys", flag_keys) or None
        return _FlagsAsked(keys, question.company, question.user, default, timeout)

    def _answer_all_now(self, asked: _FlagsAsked) -> Outcomes | Unanswered | None:
        """Answer plain checks of several flags, or of all, without waiting, if that is possible."""
        self._own()
        if self._settings.offline:
            return Unanswered(REASON_OFFLINE)
        outcomes = None
        # A replica knows no flag before it is asked for.
        if self._streaming and self._settings.replica is None:
            outcomes = ask_all(
                self._core, asked.flag_keys, asked.company, asked.user, record=not self._closed
            )
        if outcomes is None and self._closed:
            return Unanswered(CLOSED)
        return self._recall_all(asked) if outcomes is None else outcomes

    def _recall_all(self, asked: _FlagsAsked) -> Outcomes | None:
        """Answer several flags by what the API has told of each of them before."""
        outcomes: dict[str, FlagOutcome] = {}
        for key in asked.flag_keys or ():
            answer = self._recall(asked.question(key))
            if answer is None:
                return None
            outcomes[key] = answer
        return outcomes or None

    def _conclude_all(
        self, asked: _FlagsAsked, outcomes: Outcomes | Unanswered
    ) -> list[CheckFlagResult]:
        """Return one answer for each flag asked for, or for each that is known."""
        if isinstance(outcomes, Unanswered):
            known = asked.flag_keys
            if known is None:
                known = [default.flag_key for default in self._flag_defaults.values()]
            outcomes = dict.fromkeys(known, outcomes)
        return [
            self._conclude(asked.question(key), outcomes[key], asked.default)
            for key in (outcomes if asked.flag_keys is None else asked.flag_keys)
        ]

    # Checks that may reserve credits

    def _begin_check(
        self,
        flag_key: str,
        company: LookupKeys | None,
        user: LookupKeys | None,
        options: CheckOptions | None,
        usage: float | None,
        event_subtype: str | None,
        on_acquire_failure: FailureMode | None,
        default_value: DefaultValue,
        timeout: float | None,
        pending: PendingCheck | None,
        ttl: float | None,
        key: str | None,
    ) -> CheckResult | _Waiting:
        """Answer a check without waiting if that is possible, or tell what to wait for."""
        self._own()
        if options is not None:
            usage, event_subtype, on_acquire_failure, default_value, timeout = _merge(
                options, usage, event_subtype, on_acquire_failure, default_value, timeout
            )
        check_default(default_value)
        limit = self._limit(timeout)
        question = read_lease_question(
            flag_key, company, user, usage, event_subtype, on_acquire_failure
        )._replace(ttl=ttl, key=key)
        started = self._machine.monotonic()
        if pending is not None:
            answer = self._advance(pending, limit)
            if isinstance(answer, CheckResult):
                return answer
            pending = answer
        if pending is None:
            if (now := self._check_now(question, default_value)) is not None:
                return now
        elif pending.need == "plain":
            plain = self._answer_now(question.plain(), default_value)
            if plain is not None:
                return plain_result(plain)
        left = max(0.0, limit - (self._machine.monotonic() - started))
        return _Waiting(question, pending, default_value, left)

    def _advance(self, pending: PendingCheck, timeout: float) -> CheckResult | PendingCheck:  # noqa: ARG002
        """Take a pending check as far as the caller's own thread can take it."""
        return pending

    def _check_now(self, question: LeaseQuestion, default: DefaultValue) -> CheckResult | None:
        """Answer a check without waiting, if that is possible and it reserves nothing."""
        usage = question.usage
        reserves = self._settings.leases is not None and not self._settings.offline
        if reserves and usage is not None and not is_usage(usage):
            return question.fail("invalid_usage")
        if reserves and usage:
            # A client that is shut down can hold nothing, so it must not let usage pass unheld.
            if not self._closed:
                return None
            return self._conclude_lease(question, self._unheld(question), default)
        answer = self._answer_now(question.plain(), default)
        return None if answer is None else plain_result(answer)

    def _conclude_lease(
        self,
        question: LeaseQuestion,
        outcome: CheckResult | Told | Unanswered,
        default: DefaultValue,
    ) -> CheckResult:
        if isinstance(outcome, CheckResult):
            return outcome
        return plain_result(self._conclude(question.plain(), outcome, default))

    def _unheld(self, question: LeaseQuestion) -> CheckResult | Unanswered:
        """Resolve a check that could not even ask for its hold."""
        leases = self._settings.leases
        if not question.usage or leases is None:
            return Unanswered(TIMED_OUT)
        if leases.mode == "server" or (leases.mode == "auto" and not self._streaming):
            return question.fail_on_server()
        # Once shut down, nobody sends the events of checks any more.
        return question.unheld(self._core, record=not self._closed)

    # Events

    def _read_settlement(
        self,
        reservation: Reservation | None,
        actual_quantity: float,
        options: TrackWithReservationOptions | None,
    ) -> tuple[Reservation, float, bytes | None] | None:
        """Check what is to be settled; None if that is to be left alone, which was logged."""
        check_options(options, TrackWithReservationOptions)
        traits = _read_json("traits", None if options is None else options.traits)
        if reservation is None:
            self._settings.logger.error("track_with_reservation: there is no reservation to settle")
            return None
        if not isinstance(reservation, Reservation):
            raise wrong_kind("reservation", Reservation, reservation)
        if isinstance(actual_quantity, bool):
            raise TypeError(f"actual_quantity must be a number, got {actual_quantity!r}")
        quantity = read_quantity("actual_quantity", actual_quantity)
        if UNBILLABLE <= quantity < math.inf:
            raise ValueError(
                f"actual_quantity must be below 2**63, which no event can bill, got {quantity!r}"
            )
        if self._refuses_event("track_with_reservation"):
            return None
        if not is_usage(quantity):
            self._settings.logger.error(
                "track_with_reservation: actual_quantity must be finite and 0 or more, got %r; "
                "the hold refunds itself when it expires",
                quantity,
            )
            return None
        return reservation, quantity, traits

    def _read_track(
        self,
        event: str,
        company: LookupKeys | None,
        user: LookupKeys | None,
        traits: Mapping[str, Any] | None,
        quantity: int | None,
        options: TrackOptions | None,
    ) -> _TrackFields:
        """Check a track event; returns it as the core takes it."""
        check_options(options, TrackOptions)
        options = options or _NO_TRACK_OPTIONS
        units = None if quantity is None else _read_units("quantity", quantity)
        check_optional_text("idempotency_key", options.idempotency_key)
        sent_at = None if options.sent_at is None else _read_instant("sent_at", options.sent_at)
        check_optional("trusted_client_clock", options.trusted_client_clock, bool)
        check_optional("backfill", options.backfill, bool)
        return (
            check_text("event", event),
            read_keys("company", company),
            read_keys("user", user),
            _read_json("traits", traits),
            units,
            options.idempotency_key,
            sent_at,
            options.trusted_client_clock,
            options.backfill,
        )

    def _read_identify(
        self,
        keys: LookupKeys,
        company: EventBodyIdentifyCompany | Mapping[str, Any] | None,
        name: str | None,
        traits: Mapping[str, Any] | None,
        options: IdentifyOptions | None,
    ) -> _Identify:
        """Check an identify event; returns it as the core takes it, and what to prewarm after it."""
        check_options(options, IdentifyOptions)
        options = options or _NO_IDENTIFY_OPTIONS
        check_optional_text("idempotency_key", options.idempotency_key)
        company_keys, company_body = _read_company(company)
        prewarm = [] if options.prewarm is None else _read_texts("prewarm", options.prewarm)
        user_keys = read_keys("keys", keys)
        if user_keys is None:
            raise TypeError("keys must be a mapping of str to str, got None")
        check_optional_text("name", name)
        body = _read_json("traits", traits)
        fields = user_keys, company_body, name, body, options.idempotency_key
        return _Identify(fields, company_keys, prewarm)

    def _refuses_event(self, method: str) -> bool:
        self._own()
        if self._closed:
            self._faults.noted(f"{method}: the client is shut down; the event is dropped")
        return self._idle


class AsyncSchematic(_Client, AsyncResources):
    """The asynchronous client: its I/O runs on the event loop of its first use.

    When that loop has ended, the next use starts on its own loop, with the events and leases that
    were left; a shutdown is such a use. Two loops at once are refused with a RuntimeError, before
    anything is done, unless memory has the answer: it checks and settles for any loop while the
    client's own can send.

    Args:
        api_key: the key of a Schematic environment.
        config: see `AsyncSchematicConfig`.

    Raises:
        TypeError, ValueError: a configuration field is wrong; the message names it.

    """

    def __init__(self, api_key: str, config: AsyncSchematicConfig | None = None) -> None:
        if config is not None and not isinstance(config, AsyncSchematicConfig):
            raise wrong_kind("config", AsyncSchematicConfig, config)
        super().__init__(api_key, config or AsyncSchematicConfig())

    async def __aenter__(self) -> Self:
        await self.initialize()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.shutdown()

    async def initialize(self) -> None:
        """Start, and wait up to 5 s for the DataStream.

        What has not come by then goes on in the background.
        """
        if not self._idle:
            await self._running().initialize(min(INITIAL_WAIT, self._settings.timeout))

    async def shutdown(self) -> None:
        """Deliver the events, release the leases and close everything, within 5 s.

        What a loop left that has ended meanwhile is delivered on this one.

        Raises:
            RuntimeError: the client runs on another event loop, and goes on there.

        """
        self._own()
        started = self._runtime
        # Asked for before anything is shut: whom it refuses must find the client as it was.
        runtime = None if started is None or started.ended else self._running()
        self._shut()
        await self._close_resources_async()
        if runtime is not None:
            await runtime.close()
        self._session.forget()

    async def check_flag(
        self,
        flag_key: str,
        company: LookupKeys | None = None,
        user: LookupKeys | None = None,
        options: CheckFlagOptions | None = None,
    ) -> bool:
        """Tell whether a flag is on for a company and a user, named by their lookup keys."""
        if options is None:
            value = self._flag_value_now(flag_key, company, user)
            if value is not None:
                return value
        return (await self.check_flag_with_entitlement(flag_key, company, user, options)).value

    async def check_flag_with_entitlement(
        self,
        flag_key: str,
        company: LookupKeys | None = None,
        user: LookupKeys | None = None,
        options: CheckFlagOptions | None = None,
    ) -> CheckFlagResult:
        """Check a flag and tell why, and what the company is entitled to."""
        question, default, timeout = self._read_flag(flag_key, company, user, options)
        answer = self._answer_now(question, default)
        if answer is None:
            outcome = await self._running().check_flag(question, timeout)
            answer = self._conclude(question, outcome, default)
        return answer

    async def check_flags(
        self,
        flag_keys: Sequence[str] | None = None,
        company: LookupKeys | None = None,
        user: LookupKeys | None = None,
        options: CheckFlagOptions | None = None,
    ) -> list[CheckFlagResult]:
        """Check several flags, or all if `flag_keys` is None or empty."""
        asked = self._read_flags(flag_keys, company, user, options)
        outcomes = self._answer_all_now(asked)
        if outcomes is None:
            outcomes = await self._running().check_flags(
                asked.flag_keys, asked.company, asked.user, asked.timeout
            )
        return self._conclude_all(asked, outcomes)

    async def check(
        self,
        flag_key: str,
        company: LookupKeys | None = None,
        user: LookupKeys | None = None,
        options: CheckOptions | None = None,
        *,
        usage: float | None = None,
        event_subtype: str | None = None,
        on_acquire_failure: FailureMode | None = None,
        default_value: DefaultValue = None,
        timeout: float | None = None,
    ) -> CheckResult:
        """Check a flag and, if credit leases are configured, hold credits for the usage stated.

        Args:
            flag_key: the flag.
            company: its lookup keys.
            user: its lookup keys.
            options: the keywords below in one object; a keyword wins over it.
            usage: event units to reserve credits for.
            event_subtype: the event that will be billed; None takes the entitlement's.
            on_acquire_failure: "fail-closed" (the default) denies when credits cannot be reserved,
                "fail-open" lets targeting alone decide.
            default_value: the answer if none can be had.
            timeout: seconds the whole check may take.

        Returns:
            The verdict. Settle its reservation with `track_with_reservation`.

        Raises:
            TypeError: an argument has the wrong type; nothing has been reserved.
            ValueError: an argument has a wrong value; nothing has been reserved.

        A fault of the server or the network never raises.

        """
        now = self._begin_now(
            flag_key,
            company,
            user,
            options,
            usage,
            event_subtype,
            on_acquire_failure,
            default_value,
            timeout,
        )
        # What waits is false. It waits apart: a coroutine pays for each of its variables, come to or not.
        return now or await self._check_waiting(
            flag_key,
            company,
            user,
            options,
            usage,
            event_subtype,
            on_acquire_failure,
            default_value,
            timeout,
            now,
        )

    async def _check_waiting(
        self,
        flag_key: str,
        company: LookupKeys | None,
        user: LookupKeys | None,
        options: CheckOptions | None,
        usage: float | None,
        event_subtype: str | None,
        on_acquire_failure: FailureMode | None,
        default_value: DefaultValue,
        timeout: float | None,
        pending: PendingCheck | None,
        ttl: float | None = None,
        key: str | None = None,
    ) -> CheckResult:
        """Finish a check that memory could not answer."""
        begun = self._begin_check(
            flag_key,
            company,
            user,
            options,
            usage,
            event_subtype,
            on_acquire_failure,
            default_value,
            timeout,
            pending,
            ttl,
            key,
        )
        if isinstance(begun, CheckResult):
            return begun
        outcome = await self._running().check(begun.question, begun.pending, begun.timeout)
        return self._conclude_lease(begun.question, outcome, begun.default)

    async def track_with_reservation(
        self,
        reservation: Reservation | None,
        actual_quantity: float,
        options: TrackWithReservationOptions | None = None,
    ) -> None:
        """Settle a reservation.

        Bill `actual_quantity` event units (rounded up), refund the rest of the hold.
        """
        runtime = self._session.runtime
        if (
            options is None
            and runtime is not None
            and not runtime.loop.is_closed()
            and self._settle_now(reservation, actual_quantity)
        ):
            return
        settlement = self._read_settlement(reservation, actual_quantity, options)
        if settlement is None:
            return
        runtime = self._running()
        # One call: whoever is cancelled or interrupted after it, the claim is made and then billed.
        owed = self._core.settle_shared(*settlement)
        if owed is not None:
            await runtime.claim(owed)

    def hold(
        self,
        flag_key: str,
        company: LookupKeys | None = None,
        user: LookupKeys | None = None,
        *,
        usage: float,
        event_subtype: str | None = None,
        on_acquire_failure: FailureMode | None = None,
        default_value: DefaultValue = None,
        timeout: float | None = None,
        traits: Mapping[str, Any] | None = None,
        required: bool = False,
        ttl: float | None = None,
        key: str | None = None,
    ) -> AsyncHold:
        """Hold credits for a block of work, and settle what was used when it is left.

        For `async with`. What the block uses is told by `hold.use(units)`. More is held when it runs
        low, and what lapses is renewed, in the background. Whatever leaves the block, what was used
        is billed once and the rest goes back. See `docs/holds.md`.

        Args:
            flag_key: the flag.
            company: its lookup keys.
            user: its lookup keys.
            usage: event units to hold at first, more than 0.
            event_subtype: the event that is billed; None takes the entitlement's.
            on_acquire_failure: as of `check`.
            default_value: as of `check`.
            timeout: seconds that each check may take.
            traits: of the events.
            required: raise CreditsDenied on entering if it is denied.
            ttl: seconds that it lives between renewals; None as configured.
            key: names the operation: if it is repeated within 24 h, it is billed once.

        Raises:
            TypeError, ValueError: an argument is wrong; the others are checked on entering.

        """
        asked = (
            flag_key,
            company,
            user,
            None,
            usage,
            event_subtype,
            on_acquire_failure,
            default_value,
            timeout,
            None,
        )
        hold = AsyncHold._make(self, asked)
        if traits is None and ttl is None and key is None and not required:
            return hold
        body = _read_json("traits", traits)
        return hold._with_terms(body, required, ttl, key)  # noqa: SLF001

    def metered(
        self,
        flag_key: str,
        *,
        company: LookupKeys | Callable[..., LookupKeys],
        user: LookupKeys | Callable[..., LookupKeys | None] | None = None,
        usage: float | Callable[..., float],
        units: Callable[[Any], float],
        **keywords: Any,
    ) -> Callable[[F], F]:
        """Hold credits around each call of a function, or for as long as its generator runs.

        Args:
            flag_key: the flag.
            company: its lookup keys, or a function of the call's arguments that returns them.
            user: the same of the user.
            usage: event units to hold at first, or a function of the call's arguments.
            units: a function of the result, or of each item, that returns the units used.
            keywords: further ones of `hold`, except `required`: a call that is denied raises
                CreditsDenied.

        Raises:
            TypeError: the function is not asynchronous.

        """
        return metered(self, flag_key, company, user, usage, units, keywords)

    async def prewarm(self, company: LookupKeys, credit_type_ids: Sequence[str]) -> None:
        """Acquire leases ahead of the first check, best effort: a failure is logged."""
        company = _read_company_keys(company)
        credit_types = _read_texts("credit_type_ids", credit_type_ids)
        if not self._idle:
            await self._running().prewarm(company, credit_types, self._settings.timeout)

    async def identify(
        self,
        keys: LookupKeys,
        company: EventBodyIdentifyCompany | Mapping[str, Any] | None = None,
        name: str | None = None,
        traits: Mapping[str, Any] | None = None,
        options: IdentifyOptions | None = None,
    ) -> None:
        """Create or update a user, and its company given as {keys, name?, traits?}."""
        event = self._read_identify(keys, company, name, traits, options)
        if self._refuses_event("identify"):
            return
        runtime = self._running()
        self._core.identify(*event.fields)
        if event.prewarm:
            runtime.prewarm_after_identify(event.company_keys, event.prewarm)

    async def track(
        self,
        event: str,
        company: LookupKeys | None = None,
        user: LookupKeys | None = None,
        traits: Mapping[str, Any] | None = None,
        quantity: int | None = None,
        options: TrackOptions | None = None,
    ) -> None:
        """Queue a track event; it is sent in the background."""
        fields = self._read_track(event, company, user, traits, quantity, options)
        if not self._refuses_event("track"):
            runtime = self._running()
            self._core.track(*fields)
            if self._settings.replica is not None and fields[1]:
                runtime.count(fields[1], event, 1 if fields[4] is None else fields[4])

    async def get_credit_balance(self, company: LookupKeys, credit_type_id: str) -> CreditBalance:
        """Tell a company's credits of one type.

        Raises:
            schematic_native.service.rest.ApiError: the balance is not in memory and the API did not tell it.
            RuntimeError: the client is offline or shut down.

        """
        company = _read_company_keys(company)
        read_text("credit_type_id", credit_type_id)
        if self._idle:
            raise RuntimeError("a client that is offline or shut down knows no balances")
        return await self._running().credit_balance(company, credit_type_id, self._settings.timeout)

    def _running(self) -> Runtime:
        """Return the runtime, started on this loop if there is none or its loop has ended."""
        import asyncio  # noqa: PLC0415 - loaded when I/O starts

        self._own()
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise RuntimeError(
                "AsyncSchematic does its I/O on asyncio, and no asyncio event loop runs here: call it "
                "within asyncio.run, or use Schematic on a thread, as under trio"
            ) from None
        runtime = self._runtime
        if runtime is None or runtime.loop.is_closed():
            runtime = self._start()
        elif runtime.loop is not loop:
            raise RuntimeError(
                "this AsyncSchematic runs on another event loop: use one client per loop"
            )
        return runtime


class Schematic(_Client, Synchronous, Resources):
    """The synchronous client, for any thread: its I/O runs on a daemon thread of its own.

    Args:
        api_key: the key of a Schematic environment.
        config: see `SchematicConfig`.

    Raises:
        TypeError, ValueError: a configuration field is wrong; the message names it.

    """

    def __init__(self, api_key: str, config: SchematicConfig | None = None) -> None:
        if config is not None and not isinstance(config, SchematicConfig):
            raise wrong_kind("config", SchematicConfig, config)
        super().__init__(api_key, config or SchematicConfig())

    def __enter__(self) -> Self:
        self.initialize()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.shutdown()

    def initialize(self) -> None:
        """Start, and wait up to 5 s for the DataStream.

        What has not come by then goes on in the background.
        """
        if not self._idle:
            limit = min(INITIAL_WAIT, self._settings.timeout)
            self._wait(lambda runtime: runtime.initialize(limit), limit, None)

    def shutdown(self) -> None:
        """Deliver the events, release the leases and close everything, within 5 s.

        Safe from any thread, and from a signal handler at any point of itself: a call joins one
        that is under way. What an exception interrupts goes on in the background, and a further
        call, or the end of the interpreter, waits for its end.
        """
        self._own()
        self._shut()
        self._close_resources()
        self._session.shut_down()

    def check_flag_with_entitlement(
        self,
        flag_key: str,
        company: LookupKeys | None = None,
        user: LookupKeys | None = None,
        options: CheckFlagOptions | None = None,
    ) -> CheckFlagResult:
        """Check a flag and tell why, and what the company is entitled to."""
        question, default, timeout = self._read_flag(flag_key, company, user, options)
        answer = self._answer_now(question, default)
        if answer is None:
            outcome = self._wait(
                lambda runtime: runtime.check_flag(question, timeout),
                timeout,
                Unanswered(TIMED_OUT),
            )
            answer = self._conclude(question, outcome, default)
        return answer

    def check_flags(
        self,
        flag_keys: Sequence[str] | None = None,
        company: LookupKeys | None = None,
        user: LookupKeys | None = None,
        options: CheckFlagOptions | None = None,
    ) -> list[CheckFlagResult]:
        """Check several flags, or all if `flag_keys` is None or empty."""
        asked = self._read_flags(flag_keys, company, user, options)
        outcomes = self._answer_all_now(asked)
        if outcomes is None:
            outcomes = self._wait(
                lambda runtime: runtime.check_flags(
                    asked.flag_keys, asked.company, asked.user, asked.timeout
                ),
                asked.timeout,
                Unanswered(TIMED_OUT),
            )
        return self._conclude_all(asked, outcomes)

    def _check_waiting(
        self,
        flag_key: str,
        company: LookupKeys | None,
        user: LookupKeys | None,
        options: CheckOptions | None,
        usage: float | None,
        event_subtype: str | None,
        on_acquire_failure: FailureMode | None,
        default_value: DefaultValue,
        timeout: float | None,
        pending: PendingCheck | None,
        ttl: float | None = None,
        key: str | None = None,
    ) -> CheckResult:
        """Finish a check that memory could not answer."""
        begun = self._begin_check(
            flag_key,
            company,
            user,
            options,
            usage,
            event_subtype,
            on_acquire_failure,
            default_value,
            timeout,
            pending,
            ttl,
            key,
        )
        if isinstance(begun, CheckResult):
            return begun
        outcome = self._wait(
            lambda runtime: runtime.check(begun.question, begun.pending, begun.timeout),
            begun.timeout,
            None,
        )
        if outcome is None:
            outcome = self._unheld(begun.question)
        return self._conclude_lease(begun.question, outcome, begun.default)

    def _track_with_reservation(
        self,
        reservation: Reservation | None,
        actual_quantity: float,
        options: TrackWithReservationOptions | None,
    ) -> None:
        """Settle a reservation that memory alone could not settle, or say what is wrong with it."""
        settlement = self._read_settlement(reservation, actual_quantity, options)
        if settlement is None:
            return
        runtime = self._ensure_running()
        if runtime is None:
            self._refuses_event("track_with_reservation")
            return
        # One call: whoever is interrupted after it, the claim is made and then billed.
        owed = self._core.settle_shared(*settlement)
        if owed is not None:
            self._claim(owed)

    def hold(
        self,
        flag_key: str,
        company: LookupKeys | None = None,
        user: LookupKeys | None = None,
        *,
        usage: float,
        event_subtype: str | None = None,
        on_acquire_failure: FailureMode | None = None,
        default_value: DefaultValue = None,
        timeout: float | None = None,
        traits: Mapping[str, Any] | None = None,
        required: bool = False,
        ttl: float | None = None,
        key: str | None = None,
    ) -> Hold:
        """Hold credits for a block of work, and settle what was used when it is left.

        For `with`. The arguments are those of `AsyncSchematic.hold`.

        Raises:
            TypeError, ValueError: an argument is wrong; the others are checked on entering.

        """
        asked = (
            flag_key,
            company,
            user,
            None,
            usage,
            event_subtype,
            on_acquire_failure,
            default_value,
            timeout,
            None,
        )
        hold = Hold._make(self, asked)
        if traits is None and ttl is None and key is None and not required:
            return hold
        body = _read_json("traits", traits)
        return hold._with_terms(body, required, ttl, key)  # noqa: SLF001

    def metered(
        self,
        flag_key: str,
        *,
        company: LookupKeys | Callable[..., LookupKeys],
        user: LookupKeys | Callable[..., LookupKeys | None] | None = None,
        usage: float | Callable[..., float],
        units: Callable[[Any], float],
        **keywords: Any,
    ) -> Callable[[F], F]:
        """Hold credits around each call of a function, or for as long as its generator runs.

        The arguments are those of `AsyncSchematic.metered`; the function may be asynchronous.
        """
        return metered(self, flag_key, company, user, usage, units, keywords)

    def prewarm(self, company: LookupKeys, credit_type_ids: Sequence[str]) -> None:
        """Acquire leases ahead of the first check, best effort: a failure is logged."""
        company = _read_company_keys(company)
        credit_types = _read_texts("credit_type_ids", credit_type_ids)
        if not self._idle:
            limit = self._settings.timeout
            self._wait(lambda runtime: runtime.prewarm(company, credit_types, limit), limit, None)

    def identify(
        self,
        keys: LookupKeys,
        company: EventBodyIdentifyCompany | Mapping[str, Any] | None = None,
        name: str | None = None,
        traits: Mapping[str, Any] | None = None,
        options: IdentifyOptions | None = None,
    ) -> None:
        """Create or update a user, and its company given as {keys, name?, traits?}."""
        event = self._read_identify(keys, company, name, traits, options)
        if self._refuses_event("identify"):
            return
        self._core.identify(*event.fields)
        runtime = self._ensure_running()
        if event.prewarm and runtime is not None:
            runtime.loop.call_soon_threadsafe(
                runtime.prewarm_after_identify, event.company_keys, event.prewarm
            )

    def track(
        self,
        event: str,
        company: LookupKeys | None = None,
        user: LookupKeys | None = None,
        traits: Mapping[str, Any] | None = None,
        quantity: int | None = None,
        options: TrackOptions | None = None,
    ) -> None:
        """Queue a track event; it is sent in the background."""
        fields = self._read_track(event, company, user, traits, quantity, options)
        if not self._refuses_event("track"):
            self._core.track(*fields)
            runtime = self._ensure_running()
            if self._settings.replica is not None and fields[1] and runtime is not None:
                units = 1 if fields[4] is None else fields[4]
                runtime.loop.call_soon_threadsafe(runtime.count, fields[1], event, units)

    def get_credit_balance(self, company: LookupKeys, credit_type_id: str) -> CreditBalance:
        """Tell a company's credits of one type.

        Raises as `AsyncSchematic.get_credit_balance` does.
        """
        company = _read_company_keys(company)
        read_text("credit_type_id", credit_type_id)
        if self._idle:
            raise RuntimeError("a client that is offline or shut down knows no balances")
        limit = self._settings.timeout
        balance = self._wait(
            lambda runtime: runtime.credit_balance(company, credit_type_id, limit), limit, None
        )
        if balance is None:
            raise TimeoutError("the credit balance did not come in time")
        return balance

    def _advance(self, pending: PendingCheck, timeout: float) -> CheckResult | PendingCheck:
        """Ask a synchronous client of Redis on this thread, without a hop to another."""
        store = self._store
        if store is None:
            return pending
        from schematic_native.leases.shared_store import HURRY, STORE_NEEDS, finish  # noqa: PLC0415
        from schematic_native.redis import SyncStore  # noqa: PLC0415 - only with Redis

        if not isinstance(store, SyncStore) or pending.need not in STORE_NEEDS or timeout < HURRY:
            return pending

        return store.run(finish(store.operations, pending, self._faults), timeout)

    def _claim(self, owed: OwedClaim) -> None:
        """Make the claim of a settle: on this thread if that is possible, else on the I/O thread.

        A claim that is interrupted, or fails, is made before its usage is sent, or at a sweep.
        """
        from schematic_native.leases.shared_store import STORE_TIMEOUT, Claim  # noqa: PLC0415
        from schematic_native.redis import SyncStore  # noqa: PLC0415 - only with Redis

        store = self._store
        if not isinstance(store, SyncStore):
            self._wait(lambda runtime: runtime.claim(owed), STORE_TIMEOUT, None)
            return
        try:
            store.run(Claim.of(owed).make(store.operations, self._core), STORE_TIMEOUT)
        except StoreError as error:
            self._faults.store_failed("claim", error)
        else:
            self._faults.store_answered("claim")

    def _ensure_running(self) -> Runtime | None:
        """Start the I/O thread at the first use; None once the client is shut down."""
        self._own()
        session = self._session
        if session.runtime is not None:
            return session.runtime
        with session.starting:
            if self._closed:
                return None
            if session.runtime is None:
                from schematic_native.client.loop_thread import LoopThread  # noqa: PLC0415 - for I/O only

                async def start() -> None:
                    # On the loop: it comes to its end even if the caller is interrupted.
                    self._start()

                try:
                    if session.thread is None:
                        session.thread = LoopThread()
                except RuntimeError as error:
                    # From Python 3.12 on no thread can be started once the main thread has ended.
                    self._faults.raised("start", str(error))
                    return None
                session.keep()
                session.thread.call(start)
        if self._idle:
            # Shut down by another thread, that may have found nothing to end yet.
            session.shut_down()
            return None
        return session.runtime

    def _wait(
        self, work: Callable[[Runtime], Coroutine[object, object, T]], timeout: float, late: L
    ) -> T | L:
        """Wait for a coroutine of the I/O thread, a little longer than it may take.

        `late` if it is not done.
        """
        from schematic_native.client.loop_thread import LateError, LoopEndedError  # noqa: PLC0415 - for I/O only

        runtime = self._ensure_running()
        thread = self._session.thread
        if runtime is None or thread is None:
            return late
        try:
            return thread.call(lambda: work(runtime), timeout + GRACE)
        except (LateError, LoopEndedError):
            return late


# A track event as the core takes it.
_TrackFields: TypeAlias = tuple[
    str,
    "Keys | None",
    "Keys | None",
    bytes | None,
    int | None,
    str | None,
    str | None,
    bool | None,
    bool | None,
]


class _Identify(NamedTuple):
    """An identify event as the core takes it; what to prewarm after it, and for which company."""

    fields: tuple[Keys, bytes | None, str | None, bytes | None, str | None]
    company_keys: Keys
    prewarm: list[str]


class _FlagsAsked(NamedTuple):
    """Plain checks of several flags, or of all if `flag_keys` is None."""

    flag_keys: list[str] | None
    company: Keys | None
    user: Keys | None
    default: DefaultValue
    timeout: float

    def question(self, flag_key: str) -> FlagQuestion:
        """Return the plain check of one of the flags."""
        return FlagQuestion(flag_key, self.company, self.user)


class _Waiting(NamedTuple):
    """A check that must wait: what it asks, what the core has begun, and for how many seconds."""

    question: LeaseQuestion
    pending: PendingCheck | None
    default: DefaultValue
    timeout: float


_NO_TRACK_OPTIONS = TrackOptions()
_NO_IDENTIFY_OPTIONS = IdentifyOptions()

_clients: weakref.WeakSet[_Client] = weakref.WeakSet()
# What a forked child has from its parent: kept, as taking it apart would reach for the parent's
# sockets and locks.
_abandoned: list[object] = []


def _forget_parent() -> None:
    forget_parent()
    for client in list(_clients):
        client._after_fork()  # noqa: SLF001 - the same module


def _close_open_clients() -> None:
    """Deliver and release what the clients of this process have left."""
    end_all()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_parent)


def _read_defaults(values: object) -> dict[str, FlagDefault]:
    return {} if values is None else read_flag_defaults("flag_defaults", values)


def _read_caches(providers: Sequence[FlagCache] | None) -> list[FlagCache]:
    if providers is None:
        return [LocalCache()]
    return read_caches("cache_providers", providers)


def _fresh(cache: FlagCache) -> FlagCache:
    """Return an empty cache in place of one of ours: at a fork, a thread may have held its lock."""
    # A user's own kind of it may hold more than we know of.
    if isinstance(cache, LocalCache) and type(cache) is LocalCache:
        return cache.emptied()
    return cache


def _merge(
    options: CheckOptions,
    usage: float | None,
    event_subtype: str | None,
    on_acquire_failure: FailureMode | None,
    default_value: DefaultValue,
    timeout: float | None,
) -> tuple[float | None, str | None, FailureMode, DefaultValue, float | None]:
    """Fill in from the options what no keyword gave."""
    check_options(options, CheckOptions)
    return (
        options.usage if usage is None else usage,
        options.event_subtype if event_subtype is None else event_subtype,
        options.on_acquire_failure if on_acquire_failure is None else on_acquire_failure,
        options.default_value if default_value is None else default_value,
        options.timeout if timeout is None else timeout,
    )


def _read_texts(name: str, values: object) -> list[str]:
    if isinstance(values, (str, Mapping)) or not isinstance(values, Iterable):
        raise TypeError(f"{name} must be a list of str, got {values!r}")
    return [read_text(f"{name}[{number}]", value) for number, value in enumerate(values)]


def _read_company_keys(company: object) -> Keys:
    keys = read_keys("company", company)
    if not keys:
        raise ValueError("company must hold at least one key")
    return keys


def _read_units(name: str, value: object) -> int:
    """Read a whole number of any kind that fits into an event."""
    if isinstance(value, bool):
        raise TypeError(f"{name} must be a whole number, got {value!r}")
    if isinstance(value, SupportsIndex):
        units = value.__index__()
    else:
        number = read_quantity(name, value)
        if not number.is_integer():
            raise ValueError(f"{name} must be a whole number, got {number!r}")
        units = int(number)
    if not -(2**63) <= units < 2**63:
        raise ValueError(f"{name} must fit into 64 bits, got {units!r}")
    return units


def _read_instant(name: str, value: object) -> str:
    """Read a datetime as RFC 3339. One without a zone is in UTC, as servers keep it."""
    from datetime import datetime, timezone  # noqa: PLC0415 - loaded with the first instant

    if not isinstance(value, datetime):
        raise TypeError(f"{name} must be a datetime, got {value!r}")
    return (value if value.tzinfo is not None else value.replace(tzinfo=timezone.utc)).isoformat()


def _read_json(name: str, value: object) -> bytes | None:
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} must be a mapping, got {type(value).__name__}")
    from schematic_native.ground import json_text  # noqa: PLC0415 - loaded with the first traits

    try:
        return json_text.write(dict(value))
    except TypeError as error:
        raise TypeError(f"{name} must hold JSON values: {error}") from error


def _read_company(company: object) -> tuple[Keys, bytes | None]:
    """Read the company of an identify: a mapping, or an object with keys, name and traits."""
    if company is None:
        return {}, None
    if isinstance(company, Mapping):
        unknown = set(company) - {"keys", "name", "traits"}
        if unknown:
            raise ValueError(
                f"company takes keys, name and traits, got {sorted(map(str, unknown))}"
            )
        keys, name, traits = (company.get(part) for part in ("keys", "name", "traits"))
    else:
        keys, name, traits = (getattr(company, part, None) for part in ("keys", "name", "traits"))
    company_keys = read_keys("company.keys", keys)
    if not company_keys:
        raise ValueError("company.keys must hold at least one key")
    check_optional_text("company.name", name)
    if traits is not None and not isinstance(traits, Mapping):
        raise TypeError(f"company.traits must be a mapping, got {type(traits).__name__}")
    parts = {"keys": dict(company_keys), "name": name, "traits": traits and dict(traits)}
    body = {part: value for part, value in parts.items() if value is not None}
    return company_keys, _read_json("company", body)


at_exit(_close_open_clients)
