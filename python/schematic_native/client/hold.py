"""Holds that look after themselves: `client.hold` and `client.metered`.

A hold is a layer over checks and settles. It owns reservations, its pieces: the first check's, what
it grew by, and what renews them before they lapse. Whatever leaves its block, each piece is settled
once, and together they bill exactly what was used.

`_Hold` decides, without I/O: what to ask for, which piece ends with how many units. `Hold` and
`AsyncHold` wait, each in its client's way; what nobody waits for goes on on the client's loop.
"""

# ruff: noqa: SLF001 - a hold is a part of its client

from __future__ import annotations

import contextlib
import functools
import math
import threading
import warnings
from collections.abc import AsyncIterable
from time import monotonic
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeAlias, TypeVar, cast
from weakref import ref

from schematic_native._native import CheckResult, OwedClaim
from schematic_native.config.options import TrackOptions
from schematic_native.ground.arguments import is_usage, read_text
from schematic_native.leases.requests import read_lease_question

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Sequence
    from types import TracebackType

    from typing_extensions import Self

    from schematic_native._native import FailureMode, PendingCheck, Reservation
    from schematic_native.client.clients import AsyncSchematic, Schematic, _Client
    from schematic_native.client.runtime import Runtime
    from schematic_native.client.session import Session
    from schematic_native.config.options import DefaultValue, LookupKeys
    from schematic_native.config.settings import LeaseSettings

C = TypeVar("C", bound="_Client")
T = TypeVar("T")
F = TypeVar("F", bound="Callable[..., Any]")

# A reservation, and the whole units that it is settled with; 0 gives it back and bills nothing.
_Ending: TypeAlias = "tuple[Reservation, int]"
# What is to be waited for after an ending: a claim in a shared store, or the id of a reservation that
# the service is to give back.
_Owing: TypeAlias = "OwedClaim | str"
# The arguments of a client's `_begin_now` and `_check_waiting`.
_Asked: TypeAlias = """tuple[
    str, LookupKeys | None, LookupKeys | None, None, float, str | None, FailureMode | None,
    DefaultValue, float | None, float | None
]"""
_Waiting: TypeAlias = """tuple[
    str, LookupKeys | None, LookupKeys | None, None, float, str | None, FailureMode | None,
    DefaultValue, float | None, PendingCheck | None, float | None, str | None
]"""

# A hold is renewed when this part of its time to live has passed: the rest is for further tries.
RENEWED_AT = 2 / 3
# Between two tries passes this part of it.
TRIED_AGAIN_AFTER = 1 / 12
# More is held once less than this part of the first usage is left.
LOW = 0.25
# Sums of fractions are off by less than this; it must not bill a whole unit.
ROUNDING = 1e-9
ENTERED = "a hold can be entered once"
# Failures that say nothing about credits: what is held stays held.
_FAULTS = frozenset({"lease_store_error", "server_reservation_failed", "engine_error"})


class CreditsDenied(Exception):  # noqa: N818 - a name of the public API
    """A hold that was required was denied; `result` is the check's answer."""

    def __init__(self, result: CheckResult) -> None:
        super().__init__(f"{result.flag_key} is denied: {result.reason}")
        self.result = result

    def __reduce__(self) -> tuple[type[CreditsDenied], tuple[CheckResult]]:
        return CreditsDenied, (self.result,)


class Holds:
    """The open holds of one client, renewed on its loop before they lapse.

    Args:
        session: has the loop. Neither it nor this holds the client, or a hold.
        leases: how long holds live; None without credit leases.

    """

    def __init__(self, session: Session, leases: LeaseSettings | None) -> None:
        self.lock = threading.RLock()  # a signal handler, or a finalizer, may use a hold meanwhile
        self.open: dict[int, ref[_Hold[Any]]] = {}
        self.next_at = math.inf
        self.lead = math.inf if leases is None else RENEWED_AT * _shortest_life(leases)
        self._session = session
        self._timer: Any = None

    def watch(self, hold: _Hold[Any]) -> None:
        """Have a hold renewed when it is due."""
        self.open[id(hold)] = ref(hold)
        # Read after the hold is there: whoever looks meanwhile either sees it or is rung for.
        if hold._due < self.next_at:
            self.ring(hold._due)

    def start(self) -> None:
        """Go on on a new loop, from it, with what an earlier one left."""
        if self.open:
            self._look()

    def settle(self) -> None:
        """Settle what was used so far: the client is about to shut down."""
        for reference in list(self.open.values()):
            hold = reference()
            if hold is not None:
                hold._settle_so_far()

    def ring(self, due: float) -> None:
        """Have the loop look at the holds at an instant that is sooner than it would."""
        self.next_at = due
        runtime = self._session.runtime
        if runtime is not None:
            with contextlib.suppress(RuntimeError):  # of a loop that is closed
                runtime.loop.call_soon_threadsafe(self._arm)

    def _arm(self) -> None:
        runtime = self._session.runtime
        if runtime is None or self.next_at == math.inf:
            return
        if self._timer is not None:
            self._timer.cancel()
        left = max(0.0, self.next_at - monotonic())
        self._timer = runtime.loop.call_later(left, self._look)

    def _look(self) -> None:
        runtime = self._session.runtime
        if runtime is None:
            return
        self.next_at = math.inf
        now, soonest = monotonic(), math.inf
        for reference in list(self.open.values()):
            hold = reference()
            if hold is None:
                continue
            if hold._due <= now:
                hold._due = math.inf
                runtime.spawn(hold._renew(runtime))
            soonest = min(soonest, hold._due)
        self.next_at = min(self.next_at, soonest)
        self._arm()


class _Hold(Generic[C]):
    """What is held, used and billed, and what to do about it; no part of it waits.

    What is fixed in one step under the lock is then carried out, and carried out again if that was
    interrupted: a piece that is settled twice has one key, and is billed once.
    """

    used: float = 0
    """Event units used so far."""
    held: float = 0
    """Event units held: those settled already, and those of the pieces that are open."""
    exhausted: bool = False
    """Whether more was wanted, and refused."""

    # Instants of the monotonic clock.
    _due: float = math.inf

    _result: CheckResult | None = None
    _pieces: tuple[Reservation, ...] = ()
    _billed: int = 0  # whole units of pieces that were settled
    _count: int = 1  # of pieces, the first one included
    _low: float = -math.inf  # units left below which it grows
    _is_busy: bool = False  # growing, or being renewed
    _ending: list[_Ending] | None = None  # fixed when the end begins
    _has_ended: bool = False
    _names: dict[str, str] | None = None  # keys of events, by reservation id
    _stream: object = None  # that takes over
    _tracked: str | None = None  # key of the event that bills what no piece could

    _client: C
    _holds: Holds
    _asked: _Asked
    _usage: float
    _ttl: float | None = None
    _key: str | None = None
    _traits: bytes | None = None
    _is_required: bool = False
    _is_simple: bool = True  # a settle of memory's own is enough for it

    @classmethod
    def _make(cls, client: C, asked: _Asked) -> Self:
        """Return the hold of a client.

        Made without `__init__`: its defaults are the class's, so that few are set.

        Raises:
            TypeError, ValueError: the usage is no positive number.

        """
        usage = asked[4]
        if type(usage) is not int or usage <= 0:
            _check_usage(usage)
        self = object.__new__(cls)
        self._client = client
        self._holds = client._holds
        self._usage = usage
        self._asked = asked
        return self

    def _with_terms(
        self, traits: bytes | None, required: bool, ttl: float | None, key: str | None
    ) -> Self:
        """Set what few holds have."""
        if ttl is not None:
            _check_ttl(ttl)
            self._ttl = ttl
            self._asked = (*self._asked[:9], ttl)
        if key is not None:
            self._key = read_text("key", key)
        self._traits = traits
        self._is_required = required
        self._is_simple = key is None and traits is None
        return self

    @property
    def result(self) -> CheckResult:
        """The answer of the first check."""
        if self._result is None:
            raise RuntimeError("the hold has not been entered")
        return self._result

    @property
    def allowed(self) -> bool:
        """Whether the work may be done."""
        return self.result.allowed

    @property
    def reason(self) -> str:
        """Which rule decided, or which failure."""
        return self.result.reason

    @property
    def error(self) -> str | None:
        """The failure, if there was one."""
        return self.result.error

    def use(self, units: float) -> None:
        """Count units as used. Never waits, and never fails for want of credits.

        Any thread may call it. Units of an allowed hold are billed, held or not.

        Raises:
            TypeError, ValueError: `units` is no finite number, 0 or more.
            RuntimeError: the hold has ended, or has not been entered.

        """
        if type(units) is not int or units < 0:
            _check_units(units)
        with self._holds.lock:
            if self._ending is not None or self._result is None:
                raise RuntimeError("the hold has ended" if self._result else "enter the hold first")
            self.used += units
            if self.held - self.used >= self._low or self._is_busy:
                return
            self._is_busy = True
        self._grow()

    # Entering

    def _take(self, result: CheckResult) -> None:
        """Begin with the answer of the first check."""
        self._result = result
        reservation = result.reservation
        if reservation is not None:
            self._pieces = (reservation,)
            self.held = self._usage
            self._low = LOW * self._usage
            if self._key is not None:
                self._names = {reservation.id: self._name(reservation.event_subtype, 0)}
            holds = self._holds
            lead = holds.lead if self._ttl is None else min(holds.lead, RENEWED_AT * self._ttl)
            self._due = due = monotonic() + lead
            # As `watch` does it.
            holds.open[id(self)] = ref(self)
            if due < holds.next_at:
                holds.ring(due)
        elif self._is_required and not result.allowed:
            self._ending = []
            self._has_ended = True
            raise CreditsDenied(result)

    def _name(self, event: str, number: int) -> str:
        return f"hold:{event}:{self._key}" + (f":{number}" if number else "")

    # Growing

    def _ask_for(self, units: float) -> _Asked:
        """Return the arguments of a check for more units."""
        asked = self._asked
        company, user = asked[1], asked[2]
        if self._pieces:
            # As the first check named them: the caller's mappings may have changed.
            company, user = self._pieces[0].company, self._pieces[0].user
        return (asked[0], company, user, None, units, *asked[5:])

    def _waiting(self, begun: PendingCheck | None, asked: _Asked | None = None) -> _Waiting:
        """Return the arguments of a check that waits."""
        asked = asked or self._asked
        return (*asked[:9], begun, self._ttl, self._repeat_key())

    def _repeat_key(self) -> str | None:
        if self._key is None:
            return None
        return f"hold:{self._asked[0]}:{self._key}:{self._count if self._result else 0}"

    def _grow(self) -> None:
        """Hold more: now if memory can tell, else in the background."""
        units = self._usage + max(0.0, self.used - self.held)
        try:
            begun = self._client._begin_now(*self._ask_for(units))
        except BaseException:
            self._is_busy = False
            raise
        if isinstance(begun, CheckResult):
            self._see_to(self._adopt(begun, units))
            self._is_busy = False
            return

        async def grow(runtime: Runtime) -> None:
            try:
                result = await self._ask(runtime, units, begun)
                self._see_to(self._adopt(result, units))
            finally:
                self._is_busy = False

        self._in_background(grow)

    async def _ask(
        self, runtime: Runtime, units: float, pending: PendingCheck | None
    ) -> CheckResult:
        """Finish a check for more units on the loop."""
        client = self._client
        flag_key, company, user, _, usage, event, mode, default, timeout, _ = self._ask_for(units)
        question = read_lease_question(flag_key, company, user, usage, event, mode)
        question = question._replace(ttl=self._ttl, key=self._repeat_key())
        outcome = await runtime.check(question, pending, client._limit(timeout))
        return client._conclude_lease(question, outcome, default)

    def _adopt(self, result: CheckResult, units: float) -> list[_Ending]:
        """Take more that is held; returns it for ending if it comes too late."""
        reservation = result.reservation
        with self._holds.lock:
            if reservation is None:
                self.exhausted = not result.allowed
                self._low = -math.inf  # one refusal is enough
                return []
            if self._ending is not None:
                return [(reservation, 0)]
            self._add(reservation)
            self.held += units
            self._low = LOW * self._usage
            self.exhausted = False
            return []

    def _add(self, reservation: Reservation) -> None:
        self._pieces += (reservation,)
        if self._names is not None:
            self._names[reservation.id] = self._name(reservation.event_subtype, self._count)
        self._count += 1

    def _lacks(self, units: float) -> float:
        """Return the units that must be held for so many to be left."""
        _check_units(units)
        if self._ending is not None:
            raise RuntimeError("the hold has ended")
        return units - (self.held - self.used)

    def _is_held(self, result: CheckResult, units: float) -> bool:
        """Take the answer of a check that was waited for."""
        late = self._adopt(result, units)
        self._see_to(late)
        return result.allowed and not late

    # Renewing

    async def _renew(self, runtime: Runtime) -> None:
        """Hold anew what is still unused, then settle what was used of the old pieces."""
        with self._holds.lock:
            if self._ending is not None or not self._pieces:
                return
            if self._is_busy:
                self._try_again()
                return
            self._is_busy = True
            old, left = self._pieces, self.held - self.used
        try:
            result = await self._ask_anew(runtime, left)
            if result is not None and result.reservation is None and result.error in _FAULTS:
                self._try_again()
                return
            new = None if result is None else result.reservation
            self._see_to(self._replace(old, new, left))
            if result is not None and new is None:
                # Two at once were too much: what is free now may be enough for one.
                result = await self._ask_anew(runtime, left)
                if result is not None:
                    self._see_to(self._adopt(result, left))
            self._watch_newest()
        finally:
            self._is_busy = False

    async def _ask_anew(self, runtime: Runtime, units: float) -> CheckResult | None:
        if units <= 0:
            return None
        begun = self._client._begin_now(*self._ask_for(units))
        if isinstance(begun, CheckResult):
            return begun
        return await self._ask(runtime, units, begun)

    def _replace(
        self, old: tuple[Reservation, ...], new: Reservation | None, units: float
    ) -> list[_Ending]:
        """Let a new piece take the place of old ones; returns how the old ones end."""
        with self._holds.lock:
            if self._ending is not None:
                return [] if new is None else [(new, 0)]
            endings = self._bill_whole(old)
            # What came meanwhile was added at the end.
            self._pieces = self._pieces[len(old) :]
            self.held = self._billed + sum(piece.quantity_reserved for piece in self._pieces)
            if new is not None:
                self._add(new)
                self.held += units
            return endings

    def _bill_whole(self, pieces: tuple[Reservation, ...]) -> list[_Ending]:
        """End pieces with the whole units that were used; what is left of one is billed later."""
        whole = math.floor(self.used + ROUNDING) - self._billed
        self._billed += whole
        return _spread(pieces, whole)

    def _watch_newest(self) -> None:
        if not self._pieces:
            return
        piece = self._pieces[-1]
        left = piece.expires_at.timestamp() - self._client._core.now()
        lead = min(self._holds.lead, RENEWED_AT * left)
        self._due = monotonic() + max(lead, 0.0)
        self._holds.watch(self)

    def _try_again(self) -> None:
        life = self._holds.lead / RENEWED_AT if self._ttl is None else self._ttl
        self._due = monotonic() + TRIED_AGAIN_AFTER * life
        self._holds.watch(self)

    def _settle_so_far(self) -> None:
        """Settle every piece with what was used, while the client can."""
        with self._holds.lock:
            if self._ending is not None or not self._pieces:
                return
            pieces, self._pieces = self._pieces, ()
            endings = self._bill_whole(pieces)
            self.held = self._billed
            self._low = -math.inf
        self._see_to(endings)

    # Ending

    def _ends_at_once(self) -> bool:
        """End as most holds do: with one piece that was used, and that memory can settle."""
        client, pieces, used, holds = self._client, self._pieces, self.used, self._holds
        if not (self._is_simple and type(used) is int and used and len(pieces) == 1):
            return False
        with holds.lock:
            if self._ending is not None or self._billed or self._pieces is not pieces:
                return False
            if self.used != used:
                return False  # another thread has used more meanwhile
            self._ending = [(pieces[0], used)]
        # A hold that is not of this process, or was settled before, goes the long way.
        if client._holds is not holds or not client._settle_now(pieces[0], used):
            return False
        self._has_ended = True
        del holds.open[id(self)]
        return True

    def _end(self) -> list[_Owing]:
        """Settle everything, once; returns what is to be waited for."""
        if self._has_ended or self._result is None:
            return []
        client, holds = self._client, self._holds
        if client._holds is not holds:
            # This process was forked from the one that holds: there it is settled.
            self._has_ended = True
            return []
        with holds.lock:
            endings = self._ending
            if endings is None:
                units = math.ceil(self.used - ROUNDING) - self._billed
                pieces = self._pieces
                # Fixed from here on, whatever interrupts.
                if len(pieces) == 1:
                    endings = [(pieces[0], units)]
                else:
                    endings = _spread(pieces, units) if pieces else []
                    if not pieces and units and self._result.allowed:
                        self._tracked = self._event_key()
                self._ending = endings
        owing = self._settle(endings)
        if self._tracked is not None:
            self._track(math.ceil(self.used - ROUNDING) - self._billed, self._tracked)
        self._has_ended = True
        holds.open.pop(id(self), None)
        return owing

    def _settle(self, endings: Sequence[_Ending]) -> list[_Owing]:
        owing: list[_Owing] = []
        settle_now = self._client._settle_now
        for reservation, units in endings:
            if units and self._is_simple and settle_now(reservation, units):
                continue
            owed = self._settle_slowly(reservation, units)
            if owed is not None:
                owing.append(owed)
        return owing

    def _settle_slowly(self, reservation: Reservation, units: int) -> _Owing | None:
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

    def _event_key(self) -> str:
        if self._key is None:
            return f"hold:{self._client._machine.unique_key()}"
        return self._name(self._event or "", self._count if self._names else 0)

    @property
    def _event(self) -> str | None:
        """The event that is billed; None if none is known."""
        event = self._asked[5]
        if event or self._result is None:
            return event
        entitlement = self._result.entitlement
        if self._result.reservation is not None:
            return self._result.reservation.event_subtype
        return None if entitlement is None else entitlement.event_subtype or entitlement.event_name

    def _track(self, units: int, key: str) -> None:
        """Bill what no piece could bill as an ordinary event."""
        client, event = self._client, self._event
        if not event or client._refuses_event("hold"):
            return
        fields = client._read_track(
            event, self._asked[1], self._asked[2], None, units, TrackOptions(idempotency_key=key)
        )
        named, company, user, _, quantity, given_key, *_ = fields
        client._core.track(named, company, user, self._traits, quantity, given_key)
        runtime = client._runtime
        if client._settings.replica is not None and fields[1] and runtime is not None:
            with contextlib.suppress(RuntimeError):  # of a loop that is closed
                runtime.loop.call_soon_threadsafe(runtime.count, fields[1], event, units)

    # What nobody waits for

    def _see_to(self, endings: Sequence[_Ending]) -> None:
        """End pieces, and leave what is to be waited for to the client's loop."""
        for owed in self._settle(endings):
            self._leave(owed)

    def _leave(self, owed: _Owing) -> None:
        async def work(runtime: Runtime) -> None:
            await _work_off(runtime, owed)

        self._in_background(work)

    def _in_background(self, work: Callable[[Runtime], Coroutine[object, object, None]]) -> None:
        runtime = self._client._runtime
        if runtime is not None:
            with contextlib.suppress(RuntimeError):  # of a loop that is closed
                runtime.loop.call_soon_threadsafe(lambda: runtime.spawn(work(runtime)))

    def _end_unawaited(self) -> None:
        """Settle everything, and leave what is to be waited for to the client's loop."""
        for owed in self._end():
            self._leave(owed)

    def __del__(self) -> None:
        if self._has_ended or self._result is None:
            return
        has_more = self._ending is None and self._pieces
        self._end_unawaited()
        if has_more:
            warnings.warn(
                f"a hold of {self._asked[0]} was garbage collected open: what was used is settled all "
                "the same; use it as a context manager",
                ResourceWarning,
                stacklevel=2,
                source=self,
            )

    def _passes_on(self, error: BaseException | None) -> bool:
        """Tell whether a stream that has not begun takes over, as the block ends well."""
        stream = self._stream
        if error is not None or not isinstance(stream, ref):
            return False
        live = stream()
        return live is not None and live.takes_over()


class Hold(_Hold["Schematic"]):
    """Credits held for a block of work: see `Schematic.hold`."""

    _is_left_open: bool = False

    def __enter__(self) -> Self:
        """Check, and hold.

        Raises:
            CreditsDenied: denied, though required.
            TypeError, ValueError: an argument is wrong; nothing is held.

        """
        if self._result is not None:
            raise RuntimeError(ENTERED)
        client = self._client
        begun = client._begin_now(*self._asked)
        # What waits is false.
        self._take(begun or client._check_waiting(*self._waiting(begun)))
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if exc is None and (self._is_left_open or self._stream is not None) and self._is_left():
            return
        if self._ends_at_once():
            return
        for owed in self._end():
            if isinstance(owed, str):
                self._release(owed)
            else:
                self._client._claim(owed)

    def _leave_open(self) -> None:
        """Leave the hold open at the end of its block, for `_close` or the collector to end it."""
        self._is_left_open = True

    def _is_left(self) -> bool:
        """Tell whether something else than the block ends the hold."""
        return self._is_left_open or (self._stream is not None and self._passes_on(None))

    def _close(self) -> None:
        """End a hold that was left open, and wait for it as the block would."""
        self._is_left_open, self._stream = False, None
        self.__exit__(None, None, None)

    def _release(self, reservation_id: str) -> None:
        limit = self._client._settings.timeout
        self._client._wait(lambda runtime: runtime.release(reservation_id), limit, None)

    def reserve(self, units: float) -> bool:
        """Make sure that so many more units are held now; tells whether they are.

        Where nothing is metered it tells whether the work is allowed.
        """
        missing = self._lacks(units)
        if missing <= 0:
            return True
        if not self.allowed:
            return False
        client, asked = self._client, self._ask_for(missing)
        begun = client._begin_now(*asked)
        result = begun or client._check_waiting(*self._waiting(begun, asked))
        return self._is_held(result, missing)

    def stream(self, items: Iterable[T] | AsyncIterable[T], units: Callable[[T], float]) -> Any:
        """Yield the items, counting `units(item)` of each, and end the hold with the stream.

        A hold that has not been entered is entered with the first item; one whose block ends well
        before that goes on until the stream ends.
        """
        return _stream(self, items, units)


class AsyncHold(_Hold["AsyncSchematic"]):
    """Credits held for a block of work: see `AsyncSchematic.hold`."""

    async def __aenter__(self) -> Self:
        """Check, and hold.

        Raises:
            CreditsDenied: denied, though required.
            TypeError, ValueError: an argument is wrong; nothing is held.

        """
        if self._result is not None:
            raise RuntimeError(ENTERED)
        client = self._client
        begun = client._begin_now(*self._asked)
        self._take(begun or await client._check_waiting(*self._waiting(begun)))
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._stream is not None and self._passes_on(exc):
            return
        if not self._ends_at_once():
            await self._finish()

    async def _finish(self) -> None:
        """Settle everything; what that waits for goes on if the caller is cancelled."""
        owing = self._end()
        if not owing:
            return
        import asyncio  # noqa: PLC0415 - loaded where I/O runs

        runtime = self._client._runtime
        if runtime is None or runtime.loop is not asyncio.get_running_loop():
            for owed in owing:
                self._leave(owed)
            return
        tasks = [asyncio.ensure_future(_work_off(runtime, owed)) for owed in owing]
        await asyncio.shield(asyncio.gather(*tasks))

    async def reserve(self, units: float) -> bool:
        """Make sure that so many more units are held now; tells whether they are.

        Where nothing is metered it tells whether the work is allowed.
        """
        missing = self._lacks(units)
        if missing <= 0:
            return True
        if not self.allowed:
            return False
        client, asked = self._client, self._ask_for(missing)
        begun = client._begin_now(*asked)
        result = begun or await client._check_waiting(*self._waiting(begun, asked))
        return self._is_held(result, missing)

    def stream(self, items: Iterable[T] | AsyncIterable[T], units: Callable[[T], float]) -> Any:
        """Yield the items, counting `units(item)` of each, and end the hold with the stream.

        A hold that has not been entered is entered with the first item; one whose block ends well
        before that goes on until the stream ends.
        """
        return _stream(self, items, units)


class _Stream(Generic[T]):
    """What both kinds of streams are; it ends the hold when it ends, or is collected."""

    def __init__(self, hold: Hold | AsyncHold, units: Callable[[T], float]) -> None:
        self._hold = hold
        self._units = units
        self._has_begun = False
        self._has_ended = False
        hold._stream = ref(self)

    def takes_over(self) -> bool:
        """Tell whether the hold is left to this: it has not begun."""
        return not self._has_begun and not self._has_ended

    def __del__(self) -> None:
        # Not of a stream that has begun in the hold's own block, which ends the hold.
        if not self._has_ended:
            self._hold._end_unawaited()


class HoldStream(_Stream[T]):
    """Items of a stream, counted as they pass."""

    def __init__(
        self, hold: Hold | AsyncHold, items: Iterable[T], units: Callable[[T], float]
    ) -> None:
        super().__init__(hold, units)
        self._items = iter(items)

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        if self._has_ended:
            raise StopIteration
        try:
            if not self._has_begun:
                self._has_begun = True
                self._enter()
            item = next(self._items)
            self._hold.use(self._units(item))
        except BaseException:
            self.close()
            raise
        return item

    def _enter(self) -> None:
        hold = self._hold
        if hold._result is not None:
            return
        if isinstance(hold, AsyncHold):
            raise RuntimeError("enter the hold before a stream that is not asynchronous")  # noqa: TRY004
        hold.__enter__()
        if not hold.allowed:
            raise CreditsDenied(hold.result)

    def close(self) -> None:
        """End the stream and the hold."""
        self._has_ended = True
        try:
            close = getattr(self._items, "close", None)
            if close is not None:
                close()
        finally:
            if isinstance(self._hold, Hold):
                self._hold._stream = None
                self._hold.__exit__(None, None, None)
            else:
                self._hold._end_unawaited()


class AsyncHoldStream(_Stream[T]):
    """Items of an asynchronous stream, counted as they pass."""

    def __init__(
        self, hold: Hold | AsyncHold, items: AsyncIterable[T], units: Callable[[T], float]
    ) -> None:
        super().__init__(hold, units)
        self._items = items.__aiter__()

    def __aiter__(self) -> AsyncIterator[T]:
        return self

    async def __anext__(self) -> T:
        if self._has_ended:
            raise StopAsyncIteration
        try:
            if not self._has_begun:
                self._has_begun = True
                await self._enter()
            item = await self._items.__anext__()
            self._hold.use(self._units(item))
        except BaseException:
            await self.aclose()
            raise
        return item

    async def _enter(self) -> None:
        hold = self._hold
        if hold._result is not None:
            return
        if isinstance(hold, AsyncHold):
            await hold.__aenter__()
        else:
            hold.__enter__()
        if not hold.allowed:
            raise CreditsDenied(hold.result)

    async def aclose(self) -> None:
        """End the stream and the hold."""
        self._has_ended = True
        try:
            close = getattr(self._items, "aclose", None)
            if close is not None:
                await close()
        finally:
            hold = self._hold
            if isinstance(hold, AsyncHold):
                await hold._finish()
            else:
                hold._end_unawaited()  # a synchronous wait would hold up the loop


def _stream(
    hold: Hold | AsyncHold, items: Iterable[T] | AsyncIterable[T], units: Callable[[T], float]
) -> HoldStream[T] | AsyncHoldStream[T]:
    if isinstance(items, AsyncIterable):
        return AsyncHoldStream(hold, items, units)
    return HoldStream(hold, items, units)


class _Metering(NamedTuple):
    """What `metered` was told: values, or functions of the call's arguments."""

    client: Schematic | AsyncSchematic
    flag_key: str
    company: object
    user: object
    usage: object
    units: Callable[[Any], float]
    keywords: dict[str, Any]

    def hold(self, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Hold | AsyncHold:
        """Return the hold of one call."""

        def of_call(value: Any) -> Any:
            return value(*arguments, **keywords) if callable(value) else value

        return self.client.hold(
            self.flag_key,
            of_call(self.company),
            of_call(self.user),
            usage=of_call(self.usage),
            required=True,
            **self.keywords,
        )

    def wrap(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function with a hold around each call."""
        import inspect  # noqa: PLC0415 - takes long to load

        if inspect.isasyncgenfunction(function):
            return self._wrap_async_generator(function)
        if inspect.iscoroutinefunction(function):
            return self._wrap_coroutine(function)
        from schematic_native.client.clients import AsyncSchematic  # noqa: PLC0415 - it imports this module

        if isinstance(self.client, AsyncSchematic):
            raise TypeError(
                f"{function!r} is not asynchronous: an AsyncSchematic cannot wait for its hold"
            )
        if inspect.isgeneratorfunction(function):
            return self._wrap_generator(function)
        return self._wrap_function(function)

    def _wrap_function(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*arguments: Any, **keywords: Any) -> Any:
            with _synchronous(self.hold(arguments, keywords)) as hold:
                result = function(*arguments, **keywords)
                hold.use(self.units(result))
                return result

        return call

    def _wrap_generator(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def generate(*arguments: Any, **keywords: Any) -> Iterator[Any]:
            with _synchronous(self.hold(arguments, keywords)) as hold:
                yield from hold.stream(function(*arguments, **keywords), self.units)

        return generate

    def _wrap_coroutine(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        async def call(*arguments: Any, **keywords: Any) -> Any:
            async with _Entered(self.hold(arguments, keywords)) as hold:
                result = await function(*arguments, **keywords)
                hold.use(self.units(result))
                return result

        return call

    def _wrap_async_generator(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        async def generate(*arguments: Any, **keywords: Any) -> AsyncIterator[Any]:
            async with _Entered(self.hold(arguments, keywords)) as hold:
                stream = hold.stream(function(*arguments, **keywords), self.units)
                try:
                    async for item in stream:
                        yield item
                finally:
                    await stream.aclose()

        return generate


class _Entered:
    """A hold of either client as an asynchronous context."""

    def __init__(self, hold: Hold | AsyncHold) -> None:
        self._hold = hold

    async def __aenter__(self) -> Hold | AsyncHold:
        hold = self._hold
        return await hold.__aenter__() if isinstance(hold, AsyncHold) else hold.__enter__()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if isinstance(self._hold, AsyncHold):
            await self._hold.__aexit__(exc_type, exc, traceback)
        else:
            self._hold.__exit__(exc_type, exc, traceback)


def _synchronous(hold: Hold | AsyncHold) -> Hold:
    if isinstance(hold, AsyncHold):
        raise TypeError("an AsyncSchematic meters asynchronous functions")
    return hold


def metered(
    client: Schematic | AsyncSchematic,
    flag_key: str,
    company: object,
    user: object,
    usage: object,
    units: Callable[[Any], float],
    keywords: dict[str, Any],
) -> Callable[[F], F]:
    """Return the decorator that both clients' `metered` is."""
    read_text("flag_key", flag_key)
    if not callable(units):
        raise TypeError(f"units must be a function of the result, got {units!r}")
    metering = _Metering(client, flag_key, company, user, usage, units, keywords)

    def decorate(function: F) -> F:
        return cast("F", metering.wrap(function))

    return decorate


async def _work_off(runtime: Runtime, owed: _Owing) -> None:
    if isinstance(owed, str):
        await runtime.release(owed)
    else:
        await runtime.claim(owed)


def _spread(pieces: tuple[Reservation, ...], units: int) -> list[_Ending]:
    """Share units out among pieces, the first first; the last one takes what is too much."""
    endings: list[_Ending] = []
    for piece in pieces[:-1]:
        part = min(units, math.ceil(piece.quantity_reserved))
        endings.append((piece, part))
        units -= part
    endings.append((pieces[-1], units))
    return endings


def _shortest_life(leases: LeaseSettings) -> float:
    """Return the seconds that a hold of any credit type lives at least."""
    lives = [leases.reservation_ttl]
    for knobs in (leases.overrides or {}).values():
        life = knobs.get("reservation_ttl")
        if life is not None:
            lives.append(life)
    return min(lives)


def _check_usage(usage: object) -> None:
    if isinstance(usage, bool) or not isinstance(usage, (int, float)):
        raise TypeError(f"usage must be a positive number of event units, got {usage!r}")
    if not (is_usage(usage) and usage > 0):
        raise ValueError(f"usage must be a positive number of event units, got {usage!r}")


def _check_units(units: object) -> None:
    if isinstance(units, bool) or not isinstance(units, (int, float)):
        raise TypeError(f"units must be a number, got {units!r}")
    if not is_usage(units):
        raise ValueError(f"units must be finite and 0 or more, got {units!r}")


def _check_ttl(ttl: object) -> None:
    if isinstance(ttl, bool) or not isinstance(ttl, (int, float)):
        raise TypeError(f"ttl must be a number of seconds, got {ttl!r}")
    if not (is_usage(ttl) and ttl > 0):
        raise ValueError(f"ttl must be a positive number of seconds, got {ttl!r}")
