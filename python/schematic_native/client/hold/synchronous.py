"""`Hold`: the hold of the synchronous client, used with `with`.

It only waits; `ending`, `growing` and `renewing` decide.
"""

# ruff: noqa: SLF001 - a hold is part of its client

from __future__ import annotations

from typing import TYPE_CHECKING

from schematic_native._native import OpenHold
from schematic_native.client.blocking import BlockingClient
from schematic_native.client.hold.streams import StreamedHold
from schematic_native.client.waiting import outcome_of

if TYPE_CHECKING:
    from schematic_native._native import CheckResult, PendingCheck
    from schematic_native.leases.requests import CheckArguments


class Hold(StreamedHold[BlockingClient]):
    """Credits held for a block of work: see `Schematic.hold`."""

    _is_left_open: bool = False

    __enter__ = OpenHold._enter
    __exit__ = OpenHold._exit

    def _enter_slowly(self, begun: CheckResult | PendingCheck | None) -> None:
        """Begin the hold with a first check that memory could not answer, or that has special terms."""
        # A pending check is falsy.
        self._accept_first_check(begun or self._finish(self._arguments, begun))

    def _exit_slowly(self, exc: BaseException | None) -> None:
        """Settle what the native `__exit__` could not, unless the hold stays open."""
        if exc is None and (self._is_left_open or self._stream is not None) and self._is_left():
            return
        for owed in self._end():
            if isinstance(owed, str):
                self._release(owed)
            else:
                self._client._claim(owed)

    def _leave_open(self) -> None:
        """Keep the hold open when its block ends; `_close` or garbage collection ends it later."""
        self._is_left_open = self._may_outlive = True

    def _is_left(self) -> bool:
        """Tell whether the hold stays open when its block ends."""
        return self._is_left_open or (self._stream is not None and self._hands_over(None))

    def _close(self) -> None:
        """End a hold that was left open, and wait for that as the end of the block would."""
        self._is_left_open, self._stream = False, None
        self._exit_slowly(None)

    def _finish(self, arguments: CheckArguments, begun: PendingCheck | None) -> CheckResult:
        """Finish a check that memory could not answer."""
        return self._client._check_waiting(arguments, begun, self._ttl, self._repeat_key())

    def _release(self, reservation_id: str) -> None:
        limit = self._client._settings.timeout
        self._client._finish(outcome_of(lambda runtime: runtime.release(reservation_id), limit))

    def reserve(self, units: float) -> bool:
        """Hold enough for this many more units, and tell whether that succeeded.

        If the feature uses no credits, this tells whether the work is allowed.
        """
        missing = self._missing_units(units)
        if missing <= 0:
            return True
        if not self.allowed:
            return False
        arguments = self._arguments_for(missing)
        begun = self._client._begin_now(*arguments, self._ttl)
        result = begun or self._finish(arguments, begun)
        return self._is_held(result, missing)
