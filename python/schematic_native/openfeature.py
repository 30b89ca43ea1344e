"""`SchematicProvider`: Schematic behind the OpenFeature SDK; needs the extra `openfeature`.

A resolution is a plain check: it reserves nothing and bills nothing. What memory knows it answers
on the caller's own thread, with or without asyncio.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias, TypeVar

from openfeature.evaluation_context import EvaluationContext
from openfeature.event import ProviderEventDetails
from openfeature.exception import (
    ErrorCode,
    GeneralError,
    InvalidContextError,
    OpenFeatureError,
    ProviderFatalError,
    ProviderNotReadyError,
)
from openfeature.flag_evaluation import FlagResolutionDetails, Reason
from openfeature.provider import AbstractProvider, Metadata

from schematic_native._native import CheckFlagResult, FeatureEntitlement, Reservation
from schematic_native.client import AsyncSchematic, Schematic
from schematic_native.client.event_arguments import read_track
from schematic_native.config.client_config import SchematicConfig
from schematic_native.config.defaults import INITIAL_WAIT
from schematic_native.config.options import (
    CheckFlagOptions,
    LookupKeys,
    TrackWithReservationOptions,
)
from schematic_native.ground.arguments import read_keys, read_text
from schematic_native.integrations.verdicts import failure_of, is_targeted
from schematic_native.leases.requests import REASON_OFFLINE, FlagRequest

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

    from openfeature.flag_evaluation import FlagMetadata, FlagValueType
    from openfeature.track import TrackingEventDetails

    from schematic_native.ground.arguments import Keys
    from schematic_native.ground.listeners import StreamEvent

__all__ = ["ContextMapping", "SchematicProvider"]

# Lookup keys of the company and of the user that an evaluation context is about.
ContextMapping: TypeAlias = Callable[
    [EvaluationContext], "tuple[LookupKeys | None, LookupKeys | None]"
]
Structure: TypeAlias = "Sequence[FlagValueType] | Mapping[str, FlagValueType]"

T = TypeVar("T")

# Seconds that a thread allows an event loop beyond the check's own timeout.
GRACE = 1.0
RESERVATION = "reservation"
_OPTIONS = {value: CheckFlagOptions(default_value=value) for value in (False, True)}
# What a result tells that is one plain value, by the names it has there.
_OF_ANSWER = ("flag_id", "rule_id", "rule_type", "company_id", "user_id")
_OF_ENTITLEMENT = tuple(
    name
    for name, attribute in sorted(vars(FeatureEntitlement).items())
    if not name.startswith("_") and not callable(attribute)
)
_PLAIN = (bool, int, float, str)


class _Asked(NamedTuple):
    """A check that a context asks for."""

    flag_key: str
    company: Keys | None
    user: Keys | None


class _Told(NamedTuple):
    """The answer of a check, and whether an earlier answer of the API was kept for it."""

    answer: CheckFlagResult
    is_cached: bool = False


class SchematicProvider(AbstractProvider):
    """An OpenFeature provider over a client.

    Args:
        client: a `Schematic` or `AsyncSchematic`, which stays the caller's to shut down; or an API
            key, for a `Schematic` that the provider starts and shuts down with itself.
        config: of that `Schematic`; without it, DataStream is used.
        targeting_key: what a context's targeting key is: "user." or "company." and the name of a
            lookup key; None ignores it. Attributes of the same name win.
        map_context: gives the lookup keys of a context, in place of the rules above.

    Raises:
        TypeError, ValueError: an argument is wrong; the message names it.

    """

    def __init__(
        self,
        client: Schematic | AsyncSchematic | str,
        config: SchematicConfig | None = None,
        *,
        targeting_key: str | None = "user.id",
        map_context: ContextMapping | None = None,
    ) -> None:
        super().__init__()
        self._make: Callable[[], Schematic] | None = None
        if isinstance(client, str):
            key, settings = client, config or SchematicConfig(use_datastream=True)
            self._make = lambda: Schematic(key, settings)
            self._client: Schematic | AsyncSchematic = self._make()
        elif not isinstance(client, (Schematic, AsyncSchematic)):
            raise TypeError(
                f"client must be a Schematic, an AsyncSchematic or an API key, got {client!r}"
            )
        elif config is not None:
            raise TypeError("config goes with an API key: a client has its own")
        else:
            self._client = client
        if map_context is not None and not callable(map_context):
            raise TypeError(f"map_context must be a function, got {map_context!r}")
        self._subject, self._subject_key = _read_targeting_key(targeting_key)
        self._map_context = map_context
        self._state: Literal["new", "starting", "ready", "stale", "failed"] = "new"
        self._is_ready = threading.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def client(self) -> Schematic | AsyncSchematic:
        """The client, for what OpenFeature has no words for, such as `check` with a reservation."""
        return self._client

    # Life

    def get_metadata(self) -> Metadata:
        """Return the provider's name."""
        return Metadata(name="Schematic")

    def initialize(self, evaluation_context: EvaluationContext) -> None:  # noqa: ARG002
        """Wait up to 5 s for the DataStream, if there is one.

        Raises:
            ProviderFatalError: the API key was refused.
            ProviderNotReadyError: the flags have not come; the client goes on trying, and the
                provider emits PROVIDER_READY when they have.

        """
        client = self._client
        if self._make is not None and client._closed:  # noqa: SLF001 - our own
            client = self._client = self._make()
        self._state = "starting"
        self._is_ready.clear()
        client._listeners.add(self._heed)  # noqa: SLF001 - our own
        if isinstance(client, Schematic):
            client.initialize()
        elif not self._streams():
            pass
        elif not client.status().ready:
            self._wait_for_loop(client)
        self._state = "ready"
        if self._streams() and not client.status().ready:
            self._state = "failed"
            # The news may have come between the two lines.
            if client.status().ready:
                self._state = "ready"
                return
            raise self._not_ready(client.status().last_error)

    def shutdown(self) -> None:
        """Shut down, within 5 s, the client that the provider has made; leave any other alone."""
        self._client._listeners.remove(self._heed)  # noqa: SLF001 - our own
        self._state = "new"
        if self._make is not None and isinstance(self._client, Schematic):
            self._client.shutdown()

    def _streams(self) -> bool:
        settings = self._client._settings  # noqa: SLF001 - our own
        return settings.use_datastream and not settings.offline

    def _wait_for_loop(self, client: AsyncSchematic) -> None:
        """Wait for a client that starts on an event loop, unless that loop would wait for itself."""
        runtime = client._runtime  # noqa: SLF001 - our own
        if runtime is None:
            raise ProviderNotReadyError(
                "an AsyncSchematic starts on its own event loop: await its initialize() before the "
                "provider is set"
            )
        if _running_loop() is not runtime.loop:
            self._is_ready.wait(INITIAL_WAIT)

    def _not_ready(self, why: str | None) -> OpenFeatureError:
        from schematic_native.service.datastream import KEY_REFUSED  # noqa: PLC0415 - loaded with I/O

        message = why or "the flags have not arrived yet"
        return (ProviderFatalError if KEY_REFUSED in message else ProviderNotReadyError)(message)

    def _heed(self, news: StreamEvent, flags: Sequence[str]) -> None:
        """Turn news of the stream into events."""
        state = self._state
        if news == "ready":
            self._is_ready.set()
            if state in {"stale", "failed"}:
                self._state = "ready"
                self.emit_provider_ready(ProviderEventDetails())
        elif news == "lost":
            if state == "ready":
                self._state = "stale"
                why = self._client.status().last_error or "the DataStream was lost"
                self.emit_provider_stale(ProviderEventDetails(message=why))
        elif state in {"ready", "stale"}:
            self.emit_provider_configuration_changed(
                ProviderEventDetails(flags_changed=list(flags))
            )

    # Resolutions

    def resolve_boolean_details(
        self,
        flag_key: str,
        default_value: bool,
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[bool]:
        """Resolve a flag's value."""
        told = self._ask(flag_key, default_value, evaluation_context)
        return self._conclude(told, default_value, _boolean)

    async def resolve_boolean_details_async(
        self,
        flag_key: str,
        default_value: bool,
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[bool]:
        """Resolve a flag's value."""
        told = await self._ask_async(flag_key, default_value, evaluation_context)
        return self._conclude(told, default_value, _boolean)

    def resolve_string_details(
        self,
        flag_key: str,
        default_value: str,
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[str]:
        """Answer TYPE_MISMATCH: nothing of a flag is text."""
        return self._conclude(
            self._ask(flag_key, False, evaluation_context), default_value, _string
        )

    async def resolve_string_details_async(
        self,
        flag_key: str,
        default_value: str,
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[str]:
        """Answer TYPE_MISMATCH: nothing of a flag is text."""
        told = await self._ask_async(flag_key, False, evaluation_context)
        return self._conclude(told, default_value, _string)

    def resolve_integer_details(
        self,
        flag_key: str,
        default_value: int,
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[int]:
        """Resolve the allocation of the company's entitlement."""
        return self._conclude(
            self._ask(flag_key, False, evaluation_context), default_value, _integer
        )

    async def resolve_integer_details_async(
        self,
        flag_key: str,
        default_value: int,
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[int]:
        """Resolve the allocation of the company's entitlement."""
        told = await self._ask_async(flag_key, False, evaluation_context)
        return self._conclude(told, default_value, _integer)

    def resolve_float_details(
        self,
        flag_key: str,
        default_value: float,
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[float]:
        """Resolve the credits that remain, or the allocation of an entitlement without credits."""
        return self._conclude(self._ask(flag_key, False, evaluation_context), default_value, _float)

    async def resolve_float_details_async(
        self,
        flag_key: str,
        default_value: float,
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[float]:
        """Resolve the credits that remain, or the allocation of an entitlement without credits."""
        told = await self._ask_async(flag_key, False, evaluation_context)
        return self._conclude(told, default_value, _float)

    def resolve_object_details(
        self,
        flag_key: str,
        default_value: Structure,
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[Structure]:
        """Resolve the company's entitlement, by the names of `FeatureEntitlement`."""
        return self._conclude(
            self._ask(flag_key, False, evaluation_context), default_value, _structure
        )

    async def resolve_object_details_async(
        self,
        flag_key: str,
        default_value: Structure,
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[Structure]:
        """Resolve the company's entitlement, by the names of `FeatureEntitlement`."""
        told = await self._ask_async(flag_key, False, evaluation_context)
        return self._conclude(told, default_value, _structure)

    def _ask(self, flag_key: str, default: bool, context: EvaluationContext | None) -> _Told:
        asked = self._read(flag_key, context)
        told = self._ask_memory(asked, default)
        if told is not None:
            return told
        client, options = self._client, _OPTIONS[default]
        if isinstance(client, Schematic):
            return _Told(client.check_flag_with_entitlement(*asked, options))
        runtime = client._runtime  # noqa: SLF001 - our own
        if runtime is None or not runtime.loop.is_running():
            raise ProviderNotReadyError("the event loop of the AsyncSchematic does not run")
        if _running_loop() is runtime.loop:
            raise GeneralError(
                "memory does not have the answer, and an event loop must not wait for itself: await "
                "the method that ends in _async"
            )
        answer = asyncio.run_coroutine_threadsafe(
            client.check_flag_with_entitlement(*asked, options), runtime.loop
        )
        try:
            return _Told(answer.result(client._settings.timeout + GRACE))  # noqa: SLF001 - our own
        except concurrent.futures.TimeoutError:
            answer.cancel()
            raise GeneralError("the event loop of the AsyncSchematic did not answer") from None

    async def _ask_async(
        self, flag_key: str, default: bool, context: EvaluationContext | None
    ) -> _Told:
        asked = self._read(flag_key, context)
        told = self._ask_memory(asked, default)
        if told is not None:
            return told
        client, options = self._client, _OPTIONS[default]
        if isinstance(client, AsyncSchematic):
            return _Told(await client.check_flag_with_entitlement(*asked, options))
        check = client.check_flag_with_entitlement
        return _Told(await asyncio.to_thread(check, *asked, options))

    def _ask_memory(self, asked: _Asked, default: bool) -> _Told | None:
        """Answer without waiting, if that is possible."""
        client = self._client
        answer = client._answer_now(FlagRequest(*asked, default=default))  # noqa: SLF001 - our own
        if answer is None:
            return None
        return _Told(answer, is_cached=not client._streaming)  # noqa: SLF001 - our own

    def _conclude(
        self,
        told: _Told,
        default: T,
        read: Callable[[CheckFlagResult], T | None],
    ) -> FlagResolutionDetails[T]:
        """Turn an answer into details; `read` gives the value of a type, None if there is none."""
        answer = told.answer
        failure = failure_of(answer)
        if failure is not None:
            return _failed(default, ErrorCode(failure.code), failure.message)
        reason = Reason.TARGETING_MATCH if is_targeted(answer) else Reason.DEFAULT
        metadata = _Metadata(answer)
        if answer.reason == REASON_OFFLINE:
            return FlagResolutionDetails(default, reason=reason, flag_metadata=metadata)
        value = read(answer)
        if value is None:
            what = f"flag {answer.flag!r} has no such value for this company"
            return _failed(default, ErrorCode.TYPE_MISMATCH, what, metadata)
        if told.is_cached:
            reason = Reason.CACHED
        elif self._state == "stale":
            reason = Reason.STALE
        variant = ("on" if value else "off") if isinstance(value, bool) else None
        return FlagResolutionDetails(value, reason=reason, variant=variant, flag_metadata=metadata)

    # Contexts

    def _read(self, flag_key: str, context: EvaluationContext | None) -> _Asked:
        read_text("flag_key", flag_key)
        if context is None:
            return _Asked(flag_key, None, None)
        try:
            if self._map_context is None:
                return _Asked(flag_key, *self._keys_of(context))
            company, user = self._map_context(context)
            return _Asked(flag_key, read_keys("company", company), read_keys("user", user))
        except (TypeError, ValueError) as error:
            raise InvalidContextError(str(error)) from error

    def _keys_of(self, context: EvaluationContext) -> tuple[Keys | None, Keys | None]:
        """Read `company` and `user` as mappings, `company.<key>` and `user.<key>` as values."""
        found: dict[str, dict[str, str]] = {"company": {}, "user": {}}
        if context.targeting_key and self._subject is not None:
            found[self._subject][self._subject_key] = context.targeting_key
        dotted = []
        for name, value in context.attributes.items():
            if name in found:
                if value is not None and not isinstance(value, Mapping):
                    raise TypeError(f"{name} must hold lookup keys by name, got {value!r}")
                for key, item in (value or {}).items():
                    _add(found[name], name, key, item)
            elif "." in name and name.partition(".")[0] in found:
                dotted.append((name, value))
        for name, value in dotted:
            subject, _, key = name.partition(".")
            _add(found[subject], subject, key, value)
        return found["company"] or None, found["user"] or None

    # Tracking

    def track(
        self,
        tracking_event_name: str,
        evaluation_context: EvaluationContext | None = None,
        tracking_event_details: TrackingEventDetails | None = None,
    ) -> None:
        """Queue a track event, or settle the reservation that the attributes hold.

        The value, rounded up, is the quantity, 1 without one; the attributes are the traits. With a
        `Reservation`, or what its `to_dict` returned, as the attribute "reservation", the value is
        what has been used of it.

        Raises:
            InvalidContextError: the context names no company or user that can be looked up.
            TypeError, ValueError: the event cannot be sent as it is, or the reservation is for
                another event or comes without a value; nothing has been tracked.

        """
        if not read_text("tracking_event_name", tracking_event_name):
            raise ValueError("tracking_event_name must not be empty")
        value, traits = None, {}
        if tracking_event_details is not None:
            value, traits = tracking_event_details.value, dict(tracking_event_details.attributes)
        held: object = traits.pop(RESERVATION, None)
        client = self._client
        if held is not None:
            reservation = _read_reservation(held, tracking_event_name)
            if value is None:
                raise ValueError("a reservation is settled with a value: what has been used of it")
            options = TrackWithReservationOptions(traits=traits) if traits else None
            if isinstance(client, Schematic):
                client.track_with_reservation(reservation, value, options)
            else:
                self._run(client, client.track_with_reservation(reservation, value, options))
            return
        asked = self._read(tracking_event_name, evaluation_context)
        quantity = 1 if value is None else _round_up(value)
        fields = (*asked, traits or None, quantity)
        if isinstance(client, Schematic):
            client.track(*fields)
        else:
            read_track(*fields, None)
            self._run(client, client.track(*fields))

    def _run(self, client: AsyncSchematic, work: Coroutine[object, object, None]) -> None:
        """Have a client's coroutine run on its loop."""
        runtime = client._runtime  # noqa: SLF001 - our own
        here = _running_loop()
        loop = here if runtime is None or runtime.loop.is_closed() else runtime.loop
        if loop is None or not loop.is_running():
            work.close()
            raise ProviderNotReadyError("the event loop of the AsyncSchematic does not run")
        if loop is here:
            self._start(client, work)
        else:
            loop.call_soon_threadsafe(self._start, client, work)

    def _start(self, client: AsyncSchematic, work: Coroutine[object, object, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)

        def finished(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            if not task.cancelled() and (error := task.exception()) is not None:
                client.logger.error("track: %s: %s", type(error).__name__, error)

        task.add_done_callback(finished)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _read_targeting_key(name: object) -> tuple[str | None, str]:
    if name is None:
        return None, ""
    subject, _, key = name.partition(".") if isinstance(name, str) else ("", "", "")
    if subject not in {"company", "user"} or not key:
        raise ValueError(
            f'targeting_key must be "user." or "company." and a lookup key, or None, got {name!r}'
        )
    return subject, key


def _add(keys: dict[str, str], subject: str, key: object, value: object) -> None:
    """Add a lookup key; a number is its digits, None is no key."""
    if value is None:
        return
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if isinstance(value, str) and isinstance(key, str) and (key + value).isascii():
        keys[key] = value
    else:
        keys.update(read_keys(subject, {key: value}) or {})


def _read_reservation(held: object, event: str) -> Reservation:
    if isinstance(held, Mapping):
        try:
            held = Reservation.from_dict(held)
        except KeyError as error:
            raise ValueError(f"{RESERVATION} lacks the field {error}") from None
    if not isinstance(held, Reservation):
        raise TypeError(f"{RESERVATION} must be a Reservation or its dict, got {held!r}")
    if held.event_subtype != event:
        raise ValueError(
            f"the reservation bills {held.event_subtype!r}, but {event!r} was to be tracked"
        )
    return held


def _round_up(value: float) -> int:
    if not math.isfinite(value):
        raise ValueError(f"value must be finite, got {value!r}")
    return math.ceil(value)


def _failed(
    default: T, code: ErrorCode, message: str, metadata: FlagMetadata | None = None
) -> FlagResolutionDetails[T]:
    return FlagResolutionDetails(
        default,
        error_code=code,
        error_message=message,
        reason=Reason.ERROR,
        flag_metadata=metadata or {},
    )


class _Metadata(Mapping[str, "bool | int | float | str"]):
    """What an answer tells beside its value, plain values only; read when somebody asks."""

    __slots__ = ("_answer", "_found")

    def __init__(self, answer: CheckFlagResult) -> None:
        self._answer = answer
        self._found: dict[str, bool | int | float | str] | None = None

    def _read(self) -> dict[str, bool | int | float | str]:
        if self._found is None:
            found: dict[str, bool | int | float | str] = {"reason": self._answer.reason}
            for name in _OF_ANSWER:
                value = getattr(self._answer, name)
                if value is not None:
                    found[name] = value
            described = _describe(self._answer.entitlement)
            self._found = found | {
                name: value for name, value in described.items() if isinstance(value, _PLAIN)
            }
        return self._found

    def __getitem__(self, name: str) -> bool | int | float | str:
        return self._read()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._read())

    def __len__(self) -> int:
        return len(self._read())

    def __repr__(self) -> str:
        return repr(self._read())


def _describe(entitlement: FeatureEntitlement | None) -> dict[str, FlagValueType]:
    """Return an entitlement as JSON types, without what it does not have."""
    found: dict[str, FlagValueType] = {}
    for name in () if entitlement is None else _OF_ENTITLEMENT:
        value = getattr(entitlement, name)
        if isinstance(value, datetime):
            value = value.isoformat()
        elif name == "warning_tiers" and value is not None:
            value = [{"key": tier.key, "value": tier.value} for tier in value]
        if value is not None:
            found[name] = value
    return found


def _boolean(answer: CheckFlagResult) -> bool:
    return answer.value


def _string(_: CheckFlagResult) -> str | None:
    return None


def _integer(answer: CheckFlagResult) -> int | None:
    entitlement = answer.entitlement
    if entitlement is not None and entitlement.allocation is not None:
        return entitlement.allocation
    return answer.feature_allocation


def _float(answer: CheckFlagResult) -> float | None:
    entitlement = answer.entitlement
    if entitlement is not None and entitlement.credit_remaining is not None:
        return entitlement.credit_remaining
    allocation = _integer(answer)
    return None if allocation is None else float(allocation)


def _structure(answer: CheckFlagResult) -> Structure | None:
    return _describe(answer.entitlement) or None
