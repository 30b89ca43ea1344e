"""What the lease manager and the checks need of a store of leases and holds, whichever it is.

`ProcessStore` and `SharedStore` provide it. This module knows neither of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeGuard

if TYPE_CHECKING:
    from schematic_native._native import AcquirePlan, ExtendPlan
    from schematic_native.ground.slots import Slot

# Seconds for an operation of a shared store that no caller's deadline bounds.
STORE_TIMEOUT = 1.0


class HeldLease(Protocol):
    """A live lease: credits, and the service's total for it."""

    @property
    def lease_id(self) -> str:
        """Its id."""

    @property
    def expires_at(self) -> float:
        """When it ends, in epoch seconds."""

    @property
    def granted(self) -> float:
        """The service's total, in credits."""

    @property
    def remaining(self) -> float:
        """What may still be reserved, in credits."""


class LeaseStore(Protocol):
    """The slots and holds of one client. Every method may raise `StoreError`."""

    @property
    def shared(self) -> bool:
        """Whether other processes have the same slots."""

    async def live_lease(self, slot: Slot) -> HeldLease | None:
        """Return the slot's lease if it is live."""

    async def plan_acquire(self, slot: Slot) -> AcquirePlan | None:
        """Return the lease to ask for; None while a live one is in the slot."""

    async def plan_extend(self, slot: Slot, required_credits: float | None) -> ExtendPlan | None:
        """Return the extend to ask for; None if none is due, or the lease has expired."""

    async def install(
        self,
        slot: Slot,
        lease_id: str,
        granted: float,
        expires_at: float,
        free: float | None = None,
        successor_of: str | None = None,
    ) -> str:
        """Put a lease into a slot without a live one; return the id of the lease that is there.

        Args:
            slot: the company and the credit type.
            lease_id: the lease.
            granted: its credits.
            expires_at: when it ends, in epoch seconds.
            free: the credits that may be spent of it, if that is not the whole grant.
            successor_of: a lease that has ended for the service; it is replaced even if it is live
                by the store's clock.

        """

    async def extend(
        self, slot: Slot, lease_id: str, granted_total: float, expires_at: float | None
    ) -> None:
        """Reconcile a lease with the service's total for it, if it is still in the slot."""

    async def refill(self, slot: Slot) -> None:
        """Do what a slot needs that is about to run dry, apart from extending its lease."""

    async def sweep(self) -> None:
        """Give expired holds back."""

    async def close(self, timeout: float) -> None:
        """End what this process has in the store, within so many seconds."""

    async def reserved_credits(self, slot: Slot) -> float:
        """Add up a slot's open holds."""


class SharedLeaseStore(LeaseStore, Protocol):
    """A store whose slots other processes have, too."""

    async def has_ended(self, slot: Slot, lease_id: str) -> bool:
        """Tell whether a lease is in the slot, but has ended by the store's clock."""


def is_shared(store: LeaseStore) -> TypeGuard[SharedLeaseStore]:
    """Tell whether other processes have the slots of a store, too."""
    return store.shared
