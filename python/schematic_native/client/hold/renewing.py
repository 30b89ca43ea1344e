"""How a hold is renewed before its pieces expire, in the background on the client's event loop.

It must settle an old piece with what was used of it, and never twice.
"""

# ruff: noqa: SLF001 - a hold is part of its client

from __future__ import annotations

import math
from typing import TYPE_CHECKING
from weakref import ref

from schematic_native._native import HOLD_LOW, CheckResult
from schematic_native.client.hold.denied import CreditsDenied
from schematic_native.client.hold.ending import ROUNDING, C, Ending, spread
from schematic_native.client.hold.growing import GrowingHold
from schematic_native.client.hold.schedule import RENEWED_AT

if TYPE_CHECKING:
    from schematic_native._native import Reservation
    from schematic_native.client.runtime import Runtime

# The time between two attempts, as a fraction of the time to live.
TRIED_AGAIN_AFTER = 1 / 12
# Failures that say nothing about the credits that are left: the old pieces are kept.
_FAULTS = frozenset({"lease_store_error", "server_reservation_failed", "engine_error"})


class RenewedHold(GrowingHold[C]):
    """A hold that is renewed before its pieces expire."""

    def _accept_first_check(self, result: CheckResult) -> None:
        """Begin the hold with the answer of its first check."""
        self._result = result
        reservation = result.reservation
        if reservation is not None:
            self._held = self._usage
            self._low = HOLD_LOW * self._usage
            if self._key is not None:
                self._names = {reservation.id: self._name(reservation.event_subtype, 0)}
            holds = self._holds
            lead = holds.lead if self._ttl is None else min(holds.lead, RENEWED_AT * self._ttl)
            self._due = holds.monotonic() + lead
            self._watch()
        elif result.allowed:
            self._watch()  # never due, but a shutdown bills what was used so far
        elif self._is_required:
            self._ending = []
            self._has_ended = True
            raise CreditsDenied(result)

    async def _renew(self, runtime: Runtime) -> None:
        """Reserve anew what is still unused, then settle the old pieces with what was used."""
        with self._holds.lock:
            if self._ending is not None or not self._pieces:
                return
            if self._is_busy:
                self._try_again()
                return
            self._is_busy = True
            old, left = self._pieces, self._held - self._used
        try:
            result = await self._check_again(runtime, left)
            if result is not None and result.reservation is None and result.error in _FAULTS:
                self._try_again()
                return
            new = None if result is None else result.reservation
            self._settle_without_waiting(self._replace(old, new, left))
            if result is not None and new is None:
                # The credits did not suffice for the old and the new reservation at once. The old one
                # has been released by now, so a second attempt may succeed.
                result = await self._check_again(runtime, left)
                if result is not None:
                    self._settle_without_waiting(self._accept_further_check(result, left))
            self._watch_newest()
        finally:
            self._is_busy = False

    async def _check_again(self, runtime: Runtime, units: float) -> CheckResult | None:
        if units <= 0:
            return None
        begun = self._client._begin_now(*self._arguments_for(units), self._ttl)
        if isinstance(begun, CheckResult):
            return begun
        return await self._ask(runtime, units, begun)

    def _replace(
        self, old: tuple[Reservation, ...], new: Reservation | None, units: float
    ) -> list[Ending]:
        """Replace old pieces by a new one; returns the endings of the old ones."""
        with self._holds.lock:
            if self._ending is not None or self._pieces[: len(old)] != old:
                # They have been settled meanwhile, by the end of the hold or a shutdown.
                return [] if new is None else [(new, 0)]
            endings = self._bill_whole(old)
            # Pieces that were added during the check are at the end, and stay.
            self._pieces = self._pieces[len(old) :]
            self._held = self._billed + sum(piece.quantity_reserved for piece in self._pieces)
            if new is not None:
                self._add(new)
                self._held += units
            return endings

    def _watch_newest(self) -> None:
        if not self._pieces:
            return
        piece = self._pieces[-1]
        left = piece.expires_at.timestamp() - self._client._core.now()
        lead = min(self._holds.lead, RENEWED_AT * left)
        self._due = self._holds.monotonic() + max(lead, 0.0)
        self._watch()

    def _try_again(self) -> None:
        life = self._holds.lead / RENEWED_AT if self._ttl is None else self._ttl
        self._due = self._holds.monotonic() + TRIED_AGAIN_AFTER * life
        self._watch()

    def _settle_so_far(self) -> None:
        """Bill what was used so far, before the client shuts down: by every piece, or without one if none is left."""
        with self._holds.lock:
            if self._ending is not None:
                return
            pieces, self._pieces = self._pieces, ()
            # Rounded up, because no later piece will bill the fraction.
            units = math.ceil(self._used - ROUNDING) - self._billed
            self._billed += units
            endings = spread(pieces, units) if pieces else []
            self._held = self._billed
            self._low = -math.inf
        self._settle_without_waiting(endings)
        if units and not pieces and self._result is not None and self._result.allowed:
            self._track(units, self._event_key())

    def _hands_over(self, error: BaseException | None) -> bool:
        """Tell whether the hold stays open for a stream that has not begun.

        It does not if an exception ends the block.
        """
        stream = self._stream
        if error is not None or not isinstance(stream, ref):
            return False
        live = stream()
        return live is not None and live.takes_over()
