"""What a process tells and returns of a slab that closes, is cut short or has lost its row."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from schematic_native._testing import try_reserve
from schematic_native.ground.store_errors import StoreError
from schematic_native.leases.claims import Claim, SlabClaim
from schematic_native.leases.shared_store import SharedStore
from schematic_native.leases.slabs import Slabs
from schematic_native.redis import SlabNote
from schematic_native.redis.slab_operations import Noted
from tests.leases.gates import USED, Gate, books, core, gate, settled, shared
from tests.stores.callers import SLOT, hold

if TYPE_CHECKING:
    from collections.abc import Sequence

    from schematic_native import Reservation
    from schematic_native._native import Core
    from schematic_native.redis import Late

__all__ = ["core", "gate", "shared"]


class ClosingSlab:
    """A core whose slab closes just after it was asked for the slabs that are open."""

    def __init__(self, row: Reservation) -> None:
        self._row = row
        self._closed: list[tuple[Reservation, float]] = []

    def take_slab_uses(self) -> list[tuple[Reservation, float]]:
        self._closed = [(self._row, USED)]
        return []

    def take_closed_slabs(self) -> list[tuple[Reservation, float]]:
        closed, self._closed = self._closed, []
        return closed


class Listener:
    """A store that keeps what it is told about slabs."""

    def __init__(self) -> None:
        self.operations: Any = self
        self.notes: list[SlabNote] = []

    def note(self, notes: Sequence[SlabNote]) -> Sequence[SlabNote]:
        return notes

    async def run(
        self, notes: Sequence[SlabNote], timeout: float | None = None, late: Late[Any] = None
    ) -> list[Noted]:
        del timeout, late
        self.notes += notes
        return [Noted(0, [])] * len(notes)


async def test_what_was_used_of_a_slab_that_closes_meanwhile_is_told(faults):
    row, store = hold("slab"), Listener()
    core: Any = ClosingSlab(row)
    await Slabs(core, store, lambda _: None, faults).note_uses()
    assert store.notes == [SlabNote(row.id, SLOT, USED)]


class SlabCore:
    """A core that wants a slab of ten holds whenever it is asked."""

    def __init__(self) -> None:
        self.opened: list[Reservation] = []
        self.taken = 0

    def plan_slab(self, *_: object) -> Any:
        return SimpleNamespace(credits=200.0, smallest=1.0, usable_for=10.0, kept_for=75.0)

    def slab_row(self, *_: object) -> Reservation:
        self.taken += 1
        return hold(f"slab_{self.taken}", credits_reserved=200.0)

    def open_slab(self, row: Reservation, *_: object) -> None:
        self.opened.append(row)

    def take_closed_slabs(self) -> list[tuple[Reservation, float]]:
        return []


async def test_a_slab_whose_taking_is_cut_short_is_returned(gate, shared, faults):
    core: Any = SlabCore()
    slabs = Slabs(core, gate, shared.claim_later, faults)
    turns = 0
    # More of them where Redis takes longer than 40 turns of the loop to answer.
    while turns < 40 or not core.taken:
        refill = asyncio.ensure_future(slabs.refill(SLOT))
        for _ in range(turns):
            await asyncio.sleep(0)
        refill.cancel()
        await asyncio.wait({refill})
        for row in core.opened:
            shared.claim_later(Claim(row, 0.0))
        core.opened.clear()
        await settled(gate, shared)
        turns += max(1, turns - 39)


async def open_slab(gate: Gate, core: Core) -> Reservation:
    """Take a slab of 200 credits."""
    plan = core.plan_slab(*SLOT)
    assert plan is not None
    row = core.slab_row(*SLOT, "lease_1", 200.0, time.time() + plan.kept_for)
    await gate.run(gate.operations.try_reserve(SLOT, 200.0))
    assert await gate.run(gate.operations.add(row))
    assert core.open_slab(row, plan, plan.usable_for)
    return row


async def lose(gate: Gate, row: Reservation) -> None:
    """Forget a slab and its debit, as a replica that lags has never heard of either."""
    assert await gate.run(gate.operations.consume(row.id, 0.0)) is not None


async def test_a_sweep_drops_a_slab_that_serves_though_its_row_is_lost(gate, core, faults, caplog):
    shared = SharedStore(core, gate, faults)
    row = await open_slab(gate, core)
    assert try_reserve(core, *SLOT, 30.0) is not None
    await shared.sweep()
    assert try_reserve(core, *SLOT, 20.0) is not None
    await lose(gate, row)
    await shared.sweep()
    assert try_reserve(core, *SLOT, 1.0) is None
    assert "50 credits that were taken of it may be spent a second time" in caplog.text
    assert "150 are not served" in caplog.text
    await shared.close(5)
    assert await books(gate) == (1000, 0)


async def test_a_slab_that_closes_after_its_row_was_lost_tells_the_loss(gate, core, faults, caplog):
    shared = SharedStore(core, gate, faults)
    row = await open_slab(gate, core)
    assert try_reserve(core, *SLOT, 30.0) is not None
    await lose(gate, row)
    await shared.close(5)
    assert "30 credits that were taken of it may be spent a second time" in caplog.text


async def test_a_claim_of_a_slab_whose_answer_was_lost_tells_no_loss(gate, core, faults, caplog):
    row = await open_slab(gate, core)
    losses: list[tuple[object, ...]] = []
    claim = SlabClaim(row, 30.0, lambda *loss: losses.append(loss))
    claiming = claim.make(gate.operations, core)
    batch = next(claiming)
    with pytest.raises(StoreError):
        claiming.throw(StoreError("no answer", lost=True))
    assert batch
    await lose(gate, row)
    assert not await gate.run(claim.make(gate.operations, core))
    assert losses == []
