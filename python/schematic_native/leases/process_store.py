"""The leases and holds of this process alone: the core's own ledger as a `LeaseStore`.

It adds nothing to what the core does, and it never waits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from schematic_native._native import AcquirePlan, Core, ExtendPlan
    from schematic_native.ground.slots import Slot
    from schematic_native.leases.lease_store import HeldLease


class ProcessStore:
    """The core's own ledger: the slots of this process alone."""

    shared = False

    def __init__(self, core: Core) -> None:
        self._core = core

    async def live_lease(self, slot: Slot) -> HeldLease | None:
        """Return the slot's lease if it is live."""
        return None if self._core.plan_acquire(*slot) is not None else self._core.lease(*slot)

    async def plan_acquire(self, slot: Slot) -> AcquirePlan | None:
        """Return the lease to ask for; None while a live one is in the slot."""
        return self._core.plan_acquire(*slot)

    async def plan_extend(self, slot: Slot, required_credits: float | None) -> ExtendPlan | None:
        """Return the extend to ask for; None if none is due, or the lease has expired."""
        return self._core.plan_extend(*slot, required_credits)

    async def install(
        self,
        slot: Slot,
        lease_id: str,
        granted: float,
        expires_at: float,
        free: float | None = None,
        successor_of: str | None = None,
    ) -> str:
        """Put a lease into a slot without a live one; return the id of the lease that is there."""
        held = self._core.lease(*slot)
        if held is not None and held.lease_id == successor_of:
            self._core.drop_lease(*slot)
        own = granted if free is None else free
        return self._core.install_lease(*slot, lease_id, own, expires_at)

    async def extend(
        self, slot: Slot, lease_id: str, granted_total: float, expires_at: float | None
    ) -> None:
        """Reconcile a lease with the service's total for it, if it is still in the slot."""
        self._core.apply_extend(*slot, lease_id, granted_total, expires_at)

    async def refill(self, slot: Slot) -> None:
        """Do nothing: a slot of this process needs no more than extends."""

    async def sweep(self) -> None:
        """Give expired holds back."""
        self._core.sweep()

    async def close(self, timeout: float) -> None:
        """Do nothing: the leases are released, and holds end with them."""

    async def reserved_credits(self, slot: Slot) -> float:
        """Add up a slot's open holds."""
        return self._core.reserved_credits(*slot)
