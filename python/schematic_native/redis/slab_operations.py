"""What is done to the slabs of a store, each of which is one reservation there.

Credits that were used of a slab are taken off its row, and never put back.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from schematic_native.redis import scripts
from schematic_native.redis.commands import accept, as_list, call, send
from schematic_native.redis.hold_operations import HoldOperations
from schematic_native.redis.reservation_row import read_slab
from schematic_native.redis.values import amount, number, remainder, text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from schematic_native._native import Reservation
    from schematic_native.ground.slots import Slot
    from schematic_native.redis.commands import Command, Operation


class SlabNote(NamedTuple):
    """What is written to a slab's row, and asked of it.

    Args:
        row_id: the id of the slab's reservation.
        slot: the company and the credit type.
        used: credits that the process which owns the slab has used of it so far.
        ended: holds of it that another process may have settled: the id, and the credits to note as
            used, or None to ask only.

    """

    row_id: str
    slot: Slot
    used: float = 0.0
    ended: Sequence[tuple[str, float | None]] = ()


class Noted(NamedTuple):
    """What a slab's row says about the holds that were asked for."""

    first: int  # how many of them were noted for the first time
    settled: list[
        float | None
    ]  # credits that each was settled with by another process; None if it was not


class SlabOperations(HoldOperations):
    """The operations on slabs. Amounts are credits."""

    def note(self, notes: Sequence[SlabNote]) -> Operation[list[Noted | None]]:
        """Reduce the rows of slabs by what was used of each, so that no sweep refunds that.

        Returns what their rows say; None for a row that is gone.
        """
        calls = [self._note(note) for note in notes]
        replies = [as_list(reply) for reply in (yield from send(calls))]
        lowered = [
            call(scripts.LOWER, self._keys.by_credit(note.slot), note.row_id, text(reply[0]))
            for note, reply in zip(notes, replies, strict=True)
            if reply and (note.used or note.ended)
        ]
        for reply in (yield from send(lowered)):
            accept(reply, lost=True)
        return [_noted(reply) if reply else None for reply in replies]

    def _note(self, note: SlabNote) -> Command:
        ended = [
            word
            for hold_id, settled in note.ended
            for word in (hold_id, "" if settled is None else amount(settled))
        ]
        key = self._keys.reservation(note.row_id)
        return call(scripts.NOTE, key, amount(note.used), *ended)

    def close_slab(
        self, row: Reservation, used: float, held: Sequence[tuple[str, float]] = ()
    ) -> Operation[bool]:
        """Claim a slab, once, and refund to its lease what neither this nor another process has used.

        `used` are the credits used here. Holds of it that are open (`held`) count as used, unless its
        row tells with what another process settled them. Returns whether there is such a slab.
        """
        [reply] = yield [call(scripts.CLOSE, self._keys.reservation(row.id))]
        fields = as_list(reply)
        if not fields:
            return False
        claimed, settled = read_slab(fields)
        open_here = (each for hold_id, each in held if hold_id not in settled)
        unused = remainder(row.credits_reserved, chain([used], settled.values(), open_here))
        yield from self._finish(claimed, unused)
        return True


def _noted(reply: Sequence[object]) -> Noted:
    _, first, *settled = reply
    return Noted(int(number(first)), [None if not text(each) else number(each) for each in settled])
