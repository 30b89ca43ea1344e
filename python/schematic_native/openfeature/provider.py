"""`SchematicProvider`: the life of the provider, its resolutions and its track events.

A check that memory can answer is answered on the caller's own thread, with or without asyncio. An event loop
is never made to wait for itself.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from typing import TYPE_CHECKING, Literal, TypeVar

from openfeature.event import ProviderEventDetails
from openfeature.exception import (
    GeneralError,
    OpenFeatureError,
    ProviderFatalError,
    ProviderNotReadyError,
)
from openfeature.provider import AbstractProvider, Metadata

from schematic_native.client import AsyncSchematic, Schematic
from schematic_native.client.event_arguments import read_track
from schematic_native.config.client_config import SchematicConfig
from schematic_native.config.defaults import INITIAL_WAIT
from schematic_native.config.options import CheckFlagOptions, TrackWithReservationOptions
from schematic_native.ground.arguments import read_text, shown
from schematic_native.leases.requests import FlagRequest
from schematic_native.openfeature.context import ContextMapping, ContextReader
from schematic_native.openfeature.details import (
    Checked,
    Structure,
    conclude,
    read_boolean,
    read_float,
    read_integer,
    read_string,
    read_structure,
)
from schematic_native.openfeature.tracking import RESERVATION, read_reservation, round_up

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from openfeature.evaluation_context import EvaluationContext
    from openfeature.flag_evaluation import FlagResolutionDetails
    from openfeature.track import TrackingEventDetails

    from schematic_native._native import CheckFlagResult
    from schematic_native.ground.listeners import StreamEvent
    from schematic_native.openfeature.context import Subject

T = TypeVar("T")

# Seconds that a thread gives an event loop beyond the timeout of the check.
GRACE = 1.0
_OPTIONS = {value: CheckFlagOptions(default_value=value) for value in (False, True)}


class SchematicProvider(AbstractProvider):
    """An OpenFeature provider over a client.

    Args:
        client: a `Schematic` or `AsyncSchematic`, which the caller shuts down; or an API key, for a
            `Schematic` that the provider starts and shuts down with itself.
        config: of that `Schematic`; the default uses the DataStream.
        targeting_key: what the targeting key of a context is: "user." or "company." and the name of a
            lookup key; None ignores it. Attributes of the same name take precedence.
        map_context: returns the lookup keys of a context, instead of the rules above.

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
                f"client must be a Schematic, an AsyncSchematic or an API key, got {shown(client)}"
            )
        elif config is not None:
            raise TypeError("config goes with an API key: a client has its own")
        else:
            self._client = client
        self._contexts = ContextReader(targeting_key, map_context)
        self._state: Literal["new", "starting", "ready", "stale", "failed"] = "new"
        self._is_ready = threading.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def client(self) -> Schematic | AsyncSchematic:
        """The client, for what OpenFeature does not offer, such as `check` with a reservation."""
        return self._client

    # Life cycle

    def get_metadata(self) -> Metadata:
        """Return the provider's name."""
        return Metadata(name="Schematic")

    def initialize(self, evaluation_context: EvaluationContext) -> None:  # noqa: ARG002
        """Wait up to 5 s for the DataStream, if there is one.

        Raises:
            ProviderFatalError: the API key was refused.
            ProviderNotReadyError: the flags have not arrived; the client keeps trying, and the provider
                emits PROVIDER_READY when they have.

        """
        client = self._client
        if self._make is not None and client._closed:  # noqa: SLF001 - the same package
            client = self._client = self._make()
        self._state = "starting"
        self._is_ready.clear()
        client._listeners.add(self._on_stream_event)  # noqa: SLF001 - the same package
        if isinstance(client, Schematic):
            client.initialize()
        elif not self._streams():
            pass
        elif not client.status().ready:
            self._wait_for_loop(client)
        self._state = "ready"
        if self._streams() and not client.status().ready:
            self._state = "failed"
            # The event may have come between the two lines.
            if client.status().ready:
                self._state = "ready"
                return
            raise self._not_ready(client.status().last_error)

    def shutdown(self) -> None:
        """Shut down the client that the provider has made, within 5 s; leave any other running."""
        self._client._listeners.remove(self._on_stream_event)  # noqa: SLF001 - the same package
        self._state = "new"
        if self._make is not None and isinstance(self._client, Schematic):
            self._client.shutdown()

    def _streams(self) -> bool:
        settings = self._client._settings  # noqa: SLF001 - the same package
        return settings.use_datastream and not settings.offline

    def _wait_for_loop(self, client: AsyncSchematic) -> None:
        """Wait for a client on another event loop, unless that loop would wait for itself."""
        runtime = client._runtime  # noqa: SLF001 - the same package
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

    def _on_stream_event(self, event: StreamEvent, flags: Sequence[str]) -> None:
        """Emit the provider event that an event of the stream stands for."""
        state = self._state
        if event == "ready":
            self._is_ready.set()
            if state in {"stale", "failed"}:
                self._state = "ready"
                self.emit_provider_ready(ProviderEventDetails())
        elif event == "lost":
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
        checked = self._check(flag_key, default_value, evaluation_context)
        return self._conclude(checked, default_value, read_boolean)

    async def resolve_boolean_details_async(
        self,
        flag_key: str,
        default_value: bool,
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[bool]:
        """Resolve a flag's value."""
        checked = await self._check_async(flag_key, default_value, evaluation_context)
        return self._conclude(checked, default_value, read_boolean)

    def resolve_string_details(
        self,
        flag_key: str,
        default_value: str,
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[str]:
        """Return the error TYPE_MISMATCH: nothing about a flag is text."""
        return self._conclude(
            self._check(flag_key, False, evaluation_context), default_value, read_string
        )

    async def resolve_string_details_async(
        self,
        flag_key: str,
        default_value: str,
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[str]:
        """Return the error TYPE_MISMATCH: nothing about a flag is text."""
        checked = await self._check_async(flag_key, False, evaluation_context)
        return self._conclude(checked, default_value, read_string)

    def resolve_integer_details(
        self,
        flag_key: str,
        default_value: int,
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[int]:
        """Resolve the allocation of the company's entitlement."""
        return self._conclude(
            self._check(flag_key, False, evaluation_context), default_value, read_integer
        )

    async def resolve_integer_details_async(
        self,
        flag_key: str,
        default_value: int,
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[int]:
        """Resolve the allocation of the company's entitlement."""
        checked = await self._check_async(flag_key, False, evaluation_context)
        return self._conclude(checked, default_value, read_integer)

    def resolve_float_details(
        self,
        flag_key: str,
        default_value: float,
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[float]:
        """Resolve the credits that remain, or the allocation of an entitlement without credits."""
        return self._conclude(
            self._check(flag_key, False, evaluation_context), default_value, read_float
        )

    async def resolve_float_details_async(
        self,
        flag_key: str,
        default_value: float,
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[float]:
        """Resolve the credits that remain, or the allocation of an entitlement without credits."""
        checked = await self._check_async(flag_key, False, evaluation_context)
        return self._conclude(checked, default_value, read_float)

    def resolve_object_details(
        self,
        flag_key: str,
        default_value: Structure,
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[Structure]:
        """Resolve the company's entitlement, by the names of `FeatureEntitlement`."""
        return self._conclude(
            self._check(flag_key, False, evaluation_context), default_value, read_structure
        )

    async def resolve_object_details_async(
        self,
        flag_key: str,
        default_value: Structure,
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[Structure]:
        """Resolve the company's entitlement, by the names of `FeatureEntitlement`."""
        checked = await self._check_async(flag_key, False, evaluation_context)
        return self._conclude(checked, default_value, read_structure)

    def _check(self, flag_key: str, default: bool, context: EvaluationContext | None) -> Checked:
        subject = self._contexts.read(flag_key, context)
        checked = self._check_in_memory(subject, default)
        if checked is not None:
            return checked
        client, options = self._client, _OPTIONS[default]
        if isinstance(client, Schematic):
            return Checked(client.check_flag_with_entitlement(*subject, options))
        runtime = client._runtime  # noqa: SLF001 - the same package
        if runtime is None or not runtime.loop.is_running():
            raise ProviderNotReadyError("the event loop of the AsyncSchematic does not run")
        if _running_loop() is runtime.loop:
            raise GeneralError(
                "memory does not have the answer, and an event loop must not wait for itself: await "
                "the method that ends in _async"
            )
        answer = asyncio.run_coroutine_threadsafe(
            client.check_flag_with_entitlement(*subject, options), runtime.loop
        )
        try:
            return Checked(answer.result(client._settings.timeout + GRACE))  # noqa: SLF001 - the same package
        except concurrent.futures.TimeoutError:
            answer.cancel()
            raise GeneralError("the event loop of the AsyncSchematic did not answer") from None

    async def _check_async(
        self, flag_key: str, default: bool, context: EvaluationContext | None
    ) -> Checked:
        subject = self._contexts.read(flag_key, context)
        checked = self._check_in_memory(subject, default)
        if checked is not None:
            return checked
        client, options = self._client, _OPTIONS[default]
        if isinstance(client, AsyncSchematic):
            return Checked(await client.check_flag_with_entitlement(*subject, options))
        check = client.check_flag_with_entitlement
        return Checked(await asyncio.to_thread(check, *subject, options))

    def _check_in_memory(self, subject: Subject, default: bool) -> Checked | None:
        """Check without waiting, if that is possible."""
        client = self._client
        answer = client._answer_now(FlagRequest(*subject, default=default))  # noqa: SLF001 - the same package
        if answer is None:
            return None
        follow = client._on_evaluation  # noqa: SLF001 - the same package
        if follow is not None:
            follow(answer)
        return Checked(answer, is_cached=not client._streaming)  # noqa: SLF001 - the same package

    def _conclude(
        self, checked: Checked, default: T, read: Callable[[CheckFlagResult], T | None]
    ) -> FlagResolutionDetails[T]:
        return conclude(checked, default, read, is_stale=self._state == "stale")

    # Tracking

    def track(
        self,
        tracking_event_name: str,
        evaluation_context: EvaluationContext | None = None,
        tracking_event_details: TrackingEventDetails | None = None,
    ) -> None:
        """Queue a track event, or settle the reservation in the attributes.

        The value, rounded up, is the quantity, 1 by default; the attributes are the traits. If the
        attribute "reservation" is a `Reservation`, or what its `to_dict` returned, the value is how
        much of it has been used.

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
            reservation = read_reservation(held, tracking_event_name)
            if value is None:
                raise ValueError("a reservation is settled with a value: what has been used of it")
            options = TrackWithReservationOptions(traits=traits) if traits else None
            if isinstance(client, Schematic):
                client.track_with_reservation(reservation, value, options)
            else:
                self._run(client, client.track_with_reservation(reservation, value, options))
            return
        subject = self._contexts.read(tracking_event_name, evaluation_context)
        quantity = 1 if value is None else round_up(value)
        fields = (*subject, traits or None, quantity)
        if isinstance(client, Schematic):
            client.track(*fields)
        else:
            read_track(*fields, None)  # raises wrong arguments to our caller
            self._run(client, client.track(*fields))

    def _run(self, client: AsyncSchematic, work: Coroutine[object, object, None]) -> None:
        """Run a coroutine of a client on its event loop."""
        runtime = client._runtime  # noqa: SLF001 - the same package
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
