"""Slabs: parts of a shared lease that one process debits at once and then serves checks from in memory.

A slab is one reservation in the store. What was used of it must be noted there before it is billed, so
that no sweep can give it back.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from schematic_native.ground.store_errors import StoreError
from schematic_native.leases.claims import SlabClaim
from schematic_native.leases.lease_store import STORE_TIMEOUT
from schematic_native.redis import Refused, SlabNote

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from schematic_native._native import Core, Reservation, SlabPlan
    from schematic_native.ground.fault_log import FaultLog
    from schematic_native.ground.slots import Slot
    from schematic_native.redis import Late, Operation, WaitedStore

T = TypeVar("T")

# A slab takes at most this part of what remains of a lease.
SHARE = 4


class _Taken(NamedTuple):
    """A slab that was debited: its row, how long it serves, and why its row may not be there."""

    row: Reservation
    usable_for: float  # seconds since the plan
    failure: StoreError | None


class Slabs:
    """Takes slabs of shared leases and settles those that are used up.

    Args:
        core: cuts slabs and serves checks from them.
        store: where a slab is one reservation.
        settle: claims the reservation of a slab, again and again until that succeeds.
        faults: where the loss of a slab is reported.

    """

    def __init__(
        self,
        core: Core,
        store: WaitedStore,
        settle: Callable[[SlabClaim], None],
        faults: FaultLog,
    ) -> None:
        self._core = core
        self._store = store
        self._operations = store.operations
        self._settle = settle
        self._faults = faults
        self._cutting: set[Slot] = set()
        # Credits used of slabs whose rows do not say so yet, by the id of the row.
        self._uses: dict[str, tuple[Reservation, float]] = {}
        # Whether the store has not taken what was to be noted, so that usage was billed without.
        self._is_owing = False
        self._noting = asyncio.Lock()

    async def refill(self, slot: Slot) -> None:
        """Take a slab for a slot that is about to run dry, if its lease can spare one.

        Raises `StoreError`.
        """
        if slot in self._cutting:
            return
        self._cutting.add(slot)
        try:
            await self._cut(slot)
        finally:
            self._cutting.discard(slot)
            self.settle_closed()

    def settle_closed(self) -> None:
        """Settle the slabs whose last hold has ended."""
        for row, used in self._core.take_closed_slabs():
            self._uses[row.id] = row, used
            self._settle(self._claim(row, used))

    async def look(self) -> None:
        """Read the rows of slabs. Raises `StoreError`.

        A slab whose row is gone is dropped. A hold that has lapsed may have been settled by another process:
        if a copy of it has left this one and its row does not say, it counts as used, so that it is not
        refunded although it was billed.
        """
        rows = {row.id: row for row in self._core.take_slabs_in_use()}
        lapsed: dict[str, list[Reservation]] = {}
        ended: dict[str, list[tuple[str, float | None]]] = {}
        for row, hold, has_left in self._core.lapsed():
            rows[row.id] = row
            lapsed.setdefault(row.id, []).append(hold)
            told = hold.credits_reserved if has_left else None
            ended.setdefault(row.id, []).append((hold.id, told))
        if not rows:
            return
        notes = [_note(row, ended=ended.get(row.id, ())) for row in rows.values()]
        said = await self._ask(self._operations.note(notes))
        for (row_id, row), noted in zip(rows.items(), said, strict=True):
            if noted is None:
                self._drop_lost(row)
                continue
            for hold, settled in zip(lapsed.get(row_id, ()), noted.settled, strict=True):
                self._core.end_lapsed(hold, settled or 0.0)
        self.settle_closed()

    async def note_uses(self) -> None:
        """Take what was used of slabs off their rows. Raises `StoreError`.

        A slab whose row is gone is dropped. One call at a time: a caller that is about to bill must also
        wait for the usage that another call is sending.
        """
        async with self._noting:
            # In this order: a slab that closes in between is found among those that are closed.
            self._uses |= {row.id: (row, used) for row, used in self._core.take_slab_uses()}
            self.settle_closed()
            noted, self._uses = self._uses, {}
            if not noted:
                return
            notes = [_note(row, used) for row, used in noted.values()]
            try:
                said = await self._ask(self._operations.note(notes))
            except BaseException:
                self._uses, self._is_owing = noted | self._uses, True
                raise
            self._is_owing = False
            for (row, _), is_there in zip(noted.values(), said, strict=True):
                if is_there is None:
                    self._drop_lost(row)

    async def note_owed_uses(self) -> None:
        """Note the uses that the store has not taken before they were billed. Raises `StoreError`."""
        if self._is_owing:
            await self.note_uses()

    def inherit(self, other: Slabs) -> None:
        """Take over the uses that were noted on an event loop that has ended."""
        self._uses |= other._uses
        self._is_owing |= other._is_owing

    def close(self) -> list[SlabClaim]:
        """Close every slab; returns the claims that are left to make."""
        self._uses.clear()
        return [
            SlabClaim(row, used, self._tell_loss, held)
            for row, used, held in self._core.close_slabs()
        ]

    def _claim(self, row: Reservation, used: float) -> SlabClaim:
        return SlabClaim(row, used, self._tell_loss)

    def _drop_lost(self, row: Reservation) -> None:
        """Drop a slab whose row is gone, if it is still open."""
        loss = self._core.lose_slab(row)
        if loss is not None:
            self._tell_loss(row, *loss)

    def _tell_loss(self, row: Reservation, taken: float, left: float) -> None:
        """Report the loss of a slab's row: its credits may have gone back to the lease."""
        if taken > 0:
            self._faults.noted(
                f"the row {row.id} of a slab of {row.credits_reserved:.15g} credits is gone from the "
                f"store: up to {taken:.15g} credits that were taken of it may be spent a second time, "
                f"{left:.15g} are not served"
            )

    async def _ask(self, operation: Operation[T], late: Late[T] = None) -> T:
        return await self._store.run(operation, STORE_TIMEOUT, late)

    async def _cut(self, slot: Slot) -> None:
        plan = self._core.plan_slab(*slot)
        lease = None if plan is None else await self._ask(self._operations.lease(slot))
        if plan is None or lease is None or not lease.live:
            return
        # Some is left for the other processes; a lease that is too small for that serves checks one by one.
        size = min(plan.credits, lease.remaining // SHARE)
        if size < plan.smallest:
            return
        taken = await self._ask(self._take(slot, size, plan), self._return)
        if taken is None:
            return
        if taken.failure is not None:
            # Whether its row exists is unknown: its claim or a sweep gives the credits back.
            self._return(taken)
            raise taken.failure
        self._core.open_slab(taken.row, plan, taken.usable_for)

    def _take(self, slot: Slot, size: float, plan: SlabPlan) -> Operation[_Taken | None]:
        """Debit a slab and record it, or give it back, in one operation that no cancellation splits."""
        debit = yield from self._operations.try_reserve(slot, size)
        if isinstance(debit, Refused):
            return None
        # The row lapses by the store's clock, holds of the slab by a steady clock of this process. Its
        # measurement began before the store read its own, so the holds lapse first.
        row = self._core.slab_row(*slot, debit.lease_id, size, debit.at + plan.kept_for)
        try:
            recorded = yield from self._operations.add(row)
        except StoreError as error:
            if error.lost:
                return _Taken(row, 0.0, error)
            recorded = False
        if not recorded:
            yield from self._operations.refund(slot, row.credits_reserved, row.lease_id)
            return None
        # When a lease expires, the service takes back what is left of it.
        return _Taken(row, min(plan.usable_for, debit.expires_at - debit.at), None)

    def _return(self, taken: _Taken | None) -> None:
        """Settle a slab that is not to be opened."""
        if taken is not None:
            self._settle(self._claim(taken.row, 0.0))


def _note(
    row: Reservation, used: float = 0.0, ended: Sequence[tuple[str, float | None]] = ()
) -> SlabNote:
    return SlabNote(row.id, (row.company_id, row.credit_type_id), used, ended)
