"""`client.event_buffer`: the event queue, under the name and the methods of the published package.

It keeps no events itself. Settles and flag checks never pass through it, so replacing its `push` cannot change
what a hold is billed.
"""

from __future__ import annotations

import weakref
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, cast

from schematic_native.client.event_arguments import (
    IdentifyEvent,
    TrackEvent,
    read_identify,
    read_track,
)
from schematic_native.client.waiting import outcome_of
from schematic_native.config.defaults import SHUTDOWN_BUDGET
from schematic_native.config.options import IdentifyOptions, TrackOptions
from schematic_native.ground.arguments import shown

if TYPE_CHECKING:
    from collections.abc import Callable

    from schematic_native.client.runtime import Runtime
    from schematic_native.client.waiting import Waiting

# Attributes that mark a track event as a settle.
_OF_A_HOLD = ("reservation_id", "lease_id")
# The optional attributes of an event, in the order of `TrackOptions`.
_OPTIONS = ("idempotency_key", "sent_at", "trusted_client_clock", "backfill")


class Pushed(Protocol):
    """An event to push: `schematic.types.CreateEventRequestBody`, or any object with these attributes.

    These options are read as well if present: idempotency_key, sent_at, trusted_client_clock and backfill.
    """

    @property
    def event_type(self) -> Any:
        """`track` or `identify`."""

    @property
    def body(self) -> Any:
        """An object whose attributes are the arguments of the client's `track` or `identify`."""


class Owner(Protocol):
    """What an event buffer needs of its client."""

    _closed: bool

    @property
    def _runtime(self) -> Runtime | None: ...
    def _refuses_event(self, method: str) -> bool: ...
    def _put(self, event: TrackEvent | IdentifyEvent) -> None: ...
    def _finish(self, waiting: Waiting[Any, Any]) -> Any: ...


class _Buffer:
    """The base of both event buffers."""

    def __init__(self, client: Owner) -> None:
        self._client = weakref.ref(client)

    def _queue(self, event: Pushed) -> None:
        read = read_pushed(event)
        client = self._client()
        if client is None:
            raise ReferenceError("the client of this event buffer is gone")
        if not client._refuses_event("event_buffer.push"):  # noqa: SLF001
            client._put(read)  # noqa: SLF001

    def _flushing(self) -> Any:
        """Begin to deliver the queued events; return None if the client is not running.

        A client that is gone has begun to deliver them itself.
        """
        client = self._client()
        if client is None or client._runtime is None or client._closed:  # noqa: SLF001
            return None
        return client._finish(  # noqa: SLF001
            outcome_of(lambda runtime: runtime.flush(SHUTDOWN_BUDGET), SHUTDOWN_BUDGET)
        )

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            f"{type(self).__name__!r} object has no attribute {name!r}: it has push, flush and stop; "
            "client.status() tells how many events are queued and sent"
        )


B = TypeVar("B", bound=_Buffer)


class EventBuffer(_Buffer):
    """The event queue of a synchronous client."""

    def push(self, event: Pushed) -> None:
        """Queue a track or identify event.

        Raises:
            TypeError, ValueError: the event is invalid, or is a settle or a flag check.

        """
        self._queue(event)

    def flush(self) -> None:
        """Wait, for at most 5 s, until all queued events have been delivered."""
        self._flushing()

    def stop(self) -> None:
        """Flush; the client itself keeps running until it is shut down."""
        self.flush()


class AsyncEventBuffer(_Buffer):
    """The event queue of an asynchronous client."""

    async def push(self, event: Pushed) -> None:
        """Queue a track or identify event, as `EventBuffer.push` does."""
        self._queue(event)

    async def flush(self) -> None:
        """Wait, for at most 5 s, until all queued events have been delivered."""
        flushing = self._flushing()
        if flushing is not None:
            await flushing

    async def stop(self) -> None:
        """Flush; the client itself keeps running until it is shut down."""
        await self.flush()


class Buffered(Generic[B]):
    """A client whose event queue programs can push to."""

    # Of the client's kind.
    _buffer_kind: type[B]
    # Created on first use, or set by the program.
    _buffer: B | None = None

    @property
    def event_buffer(self) -> B:
        """The event queue: programs push events to it, and tests replace its `push`."""
        if self._buffer is None:
            self._buffer = self._buffer_kind(cast("Owner", self))
        return self._buffer

    @event_buffer.setter
    def event_buffer(self, buffer: B) -> None:
        if not callable(getattr(buffer, "push", None)):
            raise TypeError(f"event_buffer must have push, got {shown(buffer)}")
        self._buffer = buffer


def replaced_push(buffer: Any) -> Callable[[Any], Any] | None:
    """Return the `push` that the program has put in place of ours, or None."""
    if isinstance(buffer, _Buffer):
        return vars(buffer).get("push")
    push: Callable[[Any], Any] = buffer.push
    return push


def read_pushed(event: Pushed) -> TrackEvent | IdentifyEvent:
    """Read an event that a program pushes."""
    if not hasattr(event, "event_type") or not hasattr(event, "body"):
        raise TypeError(f"event must have event_type and body, got {shown(event)}")
    body = event.body
    if event.event_type == "identify":
        keys, company, name, traits = _fields(body, "keys", "company", "name", "traits")
        (idempotency_key,) = _fields(event, "idempotency_key")
        return read_identify(keys, company, name, traits, IdentifyOptions(idempotency_key))
    if event.event_type != "track":
        raise ValueError(f"event_type must be 'track' or 'identify', got {shown(event.event_type)}")
    if any(getattr(body, name, None) for name in _OF_A_HOLD):
        raise ValueError("the event settles a hold: call client.track_with_reservation instead")
    options = TrackOptions(*_fields(event, *_OPTIONS))
    what, company, user, traits, quantity = _fields(
        body, "event", "company", "user", "traits", "quantity"
    )
    return read_track(what, company, user, traits, quantity, options)


def as_pushed(event: TrackEvent | IdentifyEvent) -> Any:
    """Return an event as a replaced `push` expects it.

    It is a model of the published package, or a plain object with the same attributes where that package
    is not installed.
    """
    models = _models()
    if isinstance(event, TrackEvent):
        return models.CreateEventRequestBody(
            event_type="track", body=models.EventBodyTrack(**_track_body(event)), **_options(event)
        )
    keys, company, name, traits, idempotency_key = event.fields
    known = _parsed(company)
    body = models.EventBodyIdentify(
        keys=dict(keys),
        company=None if known is None else models.EventBodyIdentifyCompany(**known),
        name=name,
        traits=_parsed(traits),
    )
    options = {**dict.fromkeys(_OPTIONS), "idempotency_key": idempotency_key}
    return models.CreateEventRequestBody(event_type="identify", body=body, **options)


def _track_body(event: TrackEvent) -> dict[str, Any]:
    return {
        "event": event.event,
        "company": None if event.company is None else dict(event.company),
        "user": None if event.user is None else dict(event.user),
        "traits": _parsed(event.traits),
        "quantity": event.quantity,
    }


def _options(event: TrackEvent) -> dict[str, Any]:
    from datetime import datetime  # noqa: PLC0415 - loaded with the first such event

    sent_at = None if event.sent_at is None else datetime.fromisoformat(event.sent_at)
    return {**{name: getattr(event, name) for name in _OPTIONS}, "sent_at": sent_at}


def _models() -> Any:
    """Return a namespace of the published models, or of plain objects if they are not installed."""
    from schematic_native.service import management  # noqa: PLC0415 - loads httpx

    if not management.is_installed():
        names = (
            "CreateEventRequestBody",
            "EventBodyIdentify",
            "EventBodyIdentifyCompany",
            "EventBodyTrack",
        )
        return SimpleNamespace(**dict.fromkeys(names, SimpleNamespace))
    from schematic import types  # noqa: PLC0415 - the extra

    return types


def _fields(of: object, *names: str) -> list[Any]:
    return [getattr(of, name, None) for name in names]


def _parsed(text: bytes | None) -> Any:
    from schematic_native.ground import json_text  # noqa: PLC0415 - loads json

    return None if text is None else json_text.read(text)
