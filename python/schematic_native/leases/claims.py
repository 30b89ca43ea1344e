"""Claims: credits that were used here of a hold or a slab, and that the shared store must hear of.

A claim ends its row in the store exactly once, however often it is made. It never bills anything: that
is the event's part.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from schematic_native.ground.store_errors import StoreError
from schematic_native.redis import SlabNote

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from schematic_native._native import Core, OwedClaim, Reservation
    from schematic_native.redis import Operation, Operations

# Seconds that a hold's row outlives the hold.
ROW_GRACE = 30.0


class Claim(NamedTuple):
    """A hold whose use must still be claimed in the shared store.

    The core notes the claim of a settle before its usage is queued, and keeps the note until the store has
    answered. So if the settle is interrupted, the sender of events or the sweep makes the claim.

    Claiming twice does no harm, as the store ends a hold once. So a claim that failed is made again as long
    as the hold's row may exist.
    """

    hold: Reservation
    credits: float
    owed: OwedClaim | None = None  # the core's note of it; None where nothing is billed

    @classmethod
    def of(cls, owed: OwedClaim) -> Claim:
        """Return the claim that a settle owes."""
        return cls(owed.reservation, owed.credits, owed)

    def make(self, operations: Operations, core: Core) -> Operation[bool]:
        """Claim the hold; returns whether it was still there."""
        if (yield from self._make_in_slab(operations, core)):
            return True
        slot = self.hold.company_id, self.hold.credit_type_id
        consumed = yield from operations.consume(self.hold.id, self.credits, slot)
        if self.owed is not None:
            core.claim_ended(self.owed, consumed is not None)
        return consumed is not None

    def _make_in_slab(self, operations: Operations, core: Core) -> Operation[bool]:
        """Claim a hold that another process took from its slab, by a note in the slab's row.

        The credits of the hold stay with that process until it reads the note, or the row is swept.
        """
        hold, row_id = self.hold, core.slab_of(self.hold)
        if row_id is None:
            return False
        used = max(0.0, min(self.credits, hold.credits_reserved))
        note = SlabNote(row_id, (hold.company_id, hold.credit_type_id), ended=[(hold.id, used)])
        [noted] = yield from operations.note([note])
        if noted is not None and self.owed is not None:
            core.claim_ended(self.owed, bool(noted.first))
        return noted is not None

    def is_over(self, now: float) -> bool:
        """Whether the hold's row is gone by now, swept or expired.

        Until then a claim may still come before the sweep, even if the hold has lapsed.
        """
        return self.hold.expires_at.timestamp() + ROW_GRACE <= now


@dataclass
class SlabClaim:
    """A slab whose use must still be claimed in the shared store, as a `Claim` of a hold.

    Args:
        row: the slab's reservation.
        credits: the credits used of it here.
        lose: called with the credits taken and left if the store has lost the row.
        held: holds of it that are still open, by id, and their credits.

    """

    row: Reservation
    credits: float
    lose: Callable[[Reservation, float, float], None]
    held: Sequence[tuple[str, float]] = ()
    # If it was asked for before, that may have claimed the row, so its absence is no loss.
    is_asked: bool = False

    def make(self, operations: Operations, _: Core) -> Operation[bool]:
        """Claim the slab; returns whether it was still there."""
        was_asked, self.is_asked = self.is_asked, True
        try:
            is_there = yield from operations.close_slab(self.row, self.credits, self.held)
        except StoreError as error:
            self.is_asked = was_asked or error.lost
            raise
        if not is_there and not was_asked:
            taken = math.fsum([self.credits, *(each for _, each in self.held)])
            self.lose(self.row, taken, self.row.credits_reserved - taken)
        return is_there

    def is_over(self, now: float) -> bool:
        """Whether the row is gone by now."""
        return self.row.expires_at.timestamp() + ROW_GRACE <= now
