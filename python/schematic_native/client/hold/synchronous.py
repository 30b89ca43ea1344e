"""`Hold`: the hold of the synchronous client, for `with`."""

# ruff: noqa: SLF001 - a hold is a part of its client

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from schematic_native._native import OpenHold
from schematic_native.client.blocking import BlockingClient
from schematic_native.client.hold.renewing import RenewedHold
from schematic_native.client.hold.streams import stream
from schematic_native.client.waiting import outcome_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Callable, Iterable

    from schematic_native._native import CheckResult, PendingCheck
    from schematic_native.leases.requests import CheckArguments

T = TypeVar("T")


class Hold(RenewedHold[BlockingClient]):
    """Credits held for a block of work: see `Schematic.hold`."""

    _is_left_open: bool = False

    __enter__ = OpenHold._enter
    __exit__ = OpenHold._exit

    def _enter_slowly(self, begun: CheckResult | PendingCheck | None) -> None:
        """Take the answer of the first check, once there is one."""
        # What waits is false.
        self._take(begun or self._finish(self._arguments, begun))

    def _exit_slowly(self, exc: BaseException | None) -> None:
        """Settle what memory alone could not, unless something else than the block ends the hold."""
        if exc is None and (self._is_left_open or self._stream is not None) and self._is_left():
            return
        for owed in self._end():
            if isinstance(owed, str):
                self._release(owed)
            else:
                self._client._claim(owed)

    def _leave_open(self) -> None:
        """Leave the hold open at the end of its block, for `_close` or the collector to end it."""
        self._is_left_open = self._may_outlive = True

    def _is_left(self) -> bool:
        """Tell whether something else than the block ends the hold."""
        return self._is_left_open or (self._stream is not None and self._passes_on(None))

    def _close(self) -> None:
        """End a hold that was left open, and wait for it as the block would."""
        self._is_left_open, self._stream = False, None
        self._exit_slowly(None)

    def _finish(self, arguments: CheckArguments, begun: PendingCheck | None) -> CheckResult:
        """Finish a check that memory could not answer."""
        return self._client._check_waiting(arguments, begun, self._ttl, self._repeat_key())

    def _release(self, reservation_id: str) -> None:
        limit = self._client._settings.timeout
        self._client._finish(outcome_of(lambda runtime: runtime.release(reservation_id), limit))

    def reserve(self, units: float) -> bool:
        """Make sure that so many more units are held now; tells whether they are.

        Where nothing is metered it tells whether the work is allowed.
        """
        missing = self._lacks(units)
        if missing <= 0:
            return True
        if not self.allowed:
            return False
        arguments = self._ask_for(missing)
        begun = self._client._begin_now(*arguments, self._ttl)
        result = begun or self._finish(arguments, begun)
        return self._is_held(result, missing)

    def stream(self, items: Iterable[T] | AsyncIterable[T], units: Callable[[T], float]) -> Any:
        """Yield the items, counting `units(item)` of each, and end the hold with the stream.

        A hold that has not been entered is entered with the first item; one whose block ends well
        before that goes on until the stream ends.
        """
        return stream(self, items, units)
