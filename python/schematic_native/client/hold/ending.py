"""How a hold ends: each piece is settled once, with the units that were used of it.

Nothing here waits: I/O that the ending requires, a claim in a shared store or a release on the
service, is returned as owed, and the caller awaits it or starts it in the background.
"""

# ruff: noqa: SLF001 - a hold is part of its client

from __future__ import annotations

import contextlib
import math
import warnings
from typing import TYPE_CHECKING, Generic, TypeAlias, TypeVar, overload

from schematic_native._native import OpenHold
from schematic_native.client.event_arguments import read_track
from schematic_native.client.lease_checks import LeaseChecks
from schematic_native.config.options import TrackOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from schematic_native._native import CheckResult, OwedClaim, Reservation
    from schematic_native.client.hold.schedule import Holds
    from schematic_native.client.runtime import Runtime
    from schematic_native.leases.requests import CheckArguments

C = TypeVar("C", bound=LeaseChecks)

# A reservation and the whole units to settle it with; 0 releases it and bills nothing.
Ending: TypeAlias = "tuple[Reservation, int]"
# I/O that is left to do after an ending: a claim in a shared store, or the id of a reservation to
# release on the service.
Owed: TypeAlias = "OwedClaim | str"

# Larger than the rounding error of a sum of fractions, which must not bill another whole unit.
ROUNDING = 1e-9


class Shown:
    """A count of a hold that is read without an underscore, and is for the hold alone to set."""

    def __init__(self, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, hold: None, kind: type) -> int: ...
    @overload
    def __get__(self, hold: OpenHold, kind: type) -> float: ...
    def __get__(self, hold: OpenHold | None, kind: type) -> float:
        return 0 if hold is None else getattr(hold, self._name)


class EndingHold(OpenHold, Generic[C]):
    """What is held, used and billed, and how it is settled; nothing here waits.

    The endings are first fixed under the lock, in one step, and then carried out. If that is
    interrupted, they are carried out again, which is safe: both settles of a piece have the same
    idempotency key, so that it is billed once.
    """

    used = Shown("_used")
    """Event units used so far."""
    held = Shown("_held")
    """Event units held: those of the open pieces, and those settled already."""
    exhausted: bool = False
    """Whether the last attempt to hold more was denied."""

    _count: int = 1  # how many pieces there have been, including the first
    _names: dict[str, str] | None = None  # idempotency keys of events, by reservation id
    _stream: object = None  # a weak reference to the stream that may take over the hold
    _tracked: str | None = None  # idempotency key of the event that bills usage without a piece

    _client: C
    _holds: Holds
    _arguments: CheckArguments
    _result: CheckResult | None
    _key: str | None = None
    _traits: bytes | None = None
    _is_required: bool = False

    def _name(self, event: str, number: int) -> str:
        return f"hold:{event}:{self._key}" + (f":{number}" if number else "")

    def _event_key(self) -> str:
        if self._key is None:
            return f"hold:{self._client._machine.unique_key()}"
        return self._name(self._event or "", self._count if self._names else 0)

    @property
    def _event(self) -> str | None:
        """The event that is billed; None if it is not known."""
        event = self._arguments[5]
        if event or self._result is None:
            return event
        entitlement = self._result.entitlement
        if self._result.reservation is not None:
            return self._result.reservation.event_subtype
        return None if entitlement is None else entitlement.event_subtype or entitlement.event_name

    def _end(self) -> list[Owed]:
        """Settle everything once; returns the I/O that is left to do."""
        if self._has_ended or self._result is None:
            return []
        client, holds = self._client, self._holds
        if client._holds is not holds:
            # This is a forked child, and the hold belongs to the parent, which settles it.
            self._has_ended = True
            return []
        with holds.lock:
            endings = self._ending
            if endings is None:
                units = math.ceil(self._used - ROUNDING) - self._billed
                pieces = self._pieces
                # From here on the endings are fixed, even if this is interrupted.
                if len(pieces) == 1:
                    endings = [(pieces[0], units)]
                else:
                    endings = spread(pieces, units) if pieces else []
                    if not pieces and units and self._result.allowed:
                        self._tracked = self._event_key()
                self._ending = endings
        owing = self._settle(endings)
        if self._tracked is not None:
            self._track(math.ceil(self._used - ROUNDING) - self._billed, self._tracked)
        self._has_ended = True
        self._forget()
        return owing

    def _settle(self, endings: Sequence[Ending]) -> list[Owed]:
        owing: list[Owed] = []
        settle_now = self._client._settle_now
        for reservation, units in endings:
            if units and self._is_simple and settle_now(reservation, units):
                continue
            owed = self._settle_slowly(reservation, units)
            if owed is not None:
                owing.append(owed)
        return owing

    def _settle_slowly(self, reservation: Reservation, units: int) -> Owed | None:
        client = self._client
        if client._refuses_event("hold"):
            return None
        core = client._core
        if units:
            key = None if self._names is None else self._names.get(reservation.id)
            return core.settle_part(reservation, units, self._traits, key)
        if reservation.mode == "server":
            return reservation.id
        return core.release(reservation)

    def _track(self, units: int, key: str) -> None:
        """Bill usage that no piece covers, as an ordinary track event."""
        client, event = self._client, self._event
        if not event or client._refuses_event("hold"):
            return
        _, company, user, *_ = self._arguments
        named = read_track(event, company, user, None, units, TrackOptions(idempotency_key=key))
        named = named._replace(traits=self._traits)
        named.queue(client._core)
        runtime = client._runtime
        if runtime is not None and named.has_follow_up(runtime):
            with contextlib.suppress(RuntimeError):  # of a loop that is closed
                runtime.loop.call_soon_threadsafe(named.follow_up, runtime)

    def _bill_whole(self, pieces: tuple[Reservation, ...]) -> list[Ending]:
        """Return endings that bill the whole units used so far; a fraction is billed later."""
        whole = math.floor(self._used + ROUNDING) - self._billed
        self._billed += whole
        return spread(pieces, whole)

    def _settle_without_waiting(self, endings: Sequence[Ending]) -> None:
        """Settle pieces; I/O that is left to do runs on the client's event loop."""
        for owed in self._settle(endings):
            self._finish_owed_in_background(owed)

    def _finish_owed_in_background(self, owed: Owed) -> None:
        if isinstance(owed, str):
            self._on_loop(lambda runtime: runtime.give_back(owed))
        else:
            self._in_background(lambda runtime: runtime.claim(owed))

    def _in_background(self, work: Callable[[Runtime], Coroutine[object, object, None]]) -> None:
        self._on_loop(lambda runtime: runtime.spawn(work(runtime)))

    def _on_loop(self, call: Callable[[Runtime], object]) -> None:
        runtime = self._client._runtime
        if runtime is not None:
            with contextlib.suppress(RuntimeError):  # of a loop that is closed
                runtime.loop.call_soon_threadsafe(call, runtime)

    def _end_unawaited(self) -> None:
        """Settle everything; I/O that is left to do runs on the client's event loop."""
        for owed in self._end():
            self._finish_owed_in_background(owed)

    def _end_dropped(self) -> None:
        """Settle a hold that is garbage collected open."""
        result, is_open = self._result, self._ending is None
        is_unbilled = self._used > self._billed and result is not None and result.allowed
        has_more = is_open and (self._pieces or is_unbilled)
        self._end_unawaited()
        if has_more:
            warnings.warn(
                f"a hold of {self._arguments[0]} was garbage collected open: what was used is settled all "
                "the same; use it as a context manager",
                ResourceWarning,
                stacklevel=2,
                source=self,
            )


def spread(pieces: tuple[Reservation, ...], units: int) -> list[Ending]:
    """Distribute units over pieces in order; the last one takes all that is left, even too much."""
    endings: list[Ending] = []
    for piece in pieces[:-1]:
        part = min(units, math.ceil(piece.quantity_reserved))
        endings.append((piece, part))
        units -= part
    endings.append((pieces[-1], units))
    return endings


async def finish_owed(runtime: Runtime, owed: Owed) -> None:
    """Do the I/O that an ending left to do. Call it on the client's event loop."""
    if isinstance(owed, str):
        await runtime.release(owed)
    else:
        await runtime.claim(owed)
