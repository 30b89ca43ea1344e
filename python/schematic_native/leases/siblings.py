"""Leases that processes without a shared store have in common, and what each may spend of them.

The service hands one lease to every process that asks and tells only its total. A process must never
spend what another has added: of a lease that may be another's, only its own extends are its own.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from schematic_native.leases.joins import DUST, Joins
from schematic_native.leases.lease_ends import ends_at, is_foreign
from schematic_native.service.errors import PaymentRequiredError

if TYPE_CHECKING:
    from schematic_native._native import AcquirePlan, Core, ExtendPlan, Ingested
    from schematic_native.ground.slots import Slot
    from schematic_native.leases.lease_ends import LeaseEnds
    from schematic_native.leases.lease_store import HeldLease
    from schematic_native.service.responses import GrantedLease
    from schematic_native.service.rest import Api

# Credits of the extend that proves whose a lease is. The service carries out one extend after another,
# so only one process finds a total that nobody has added to.
PROOF = 1.0
# Credits that are asked for only to learn which lease there is.
LEAST = 1.0
# So many leases of other processes are remembered; each ends within the hour.
MOST_SHARED = 10_000


class Overlap:
    """Extends of one slot that are under way at the same time."""

    def __init__(self) -> None:
        self.asked: list[float] = []  # credits
        self.total = 0.0  # the highest total that the service has returned meanwhile


class Siblings:
    """What this process may spend of leases that other processes may spend, too.

    Args:
        core: the leases that this process holds.
        api: the lease calls.
        ends: the ends to ask for.

    """

    def __init__(self, core: Core, api: Api, ends: LeaseEnds) -> None:
        self._core = core
        self._api = api
        self._ends = ends
        self._overlaps: dict[Slot, Overlap] = {}
        # Leases that others spend as well. They are not this process's to release.
        self._shared: dict[str, None] = {}
        self.joins = Joins(core)

    def is_shared(self, lease_id: str) -> bool:
        """Tell whether other processes spend a lease."""
        return lease_id in self._shared

    def share(self, lease_id: str) -> None:
        """Note that other processes spend a lease."""
        self._shared[lease_id] = None
        if len(self._shared) > MOST_SHARED:
            del self._shared[next(iter(self._shared))]

    def inherit(self, other: Siblings) -> None:
        """Take over what another manager of this client has noted."""
        self._shared |= other._shared
        self.joins.inherit(other.joins)

    async def acquire(self, slot: Slot, credits_asked: float, asked_end: float) -> GrantedLease:
        """Acquire a lease; one that this process has already may have been joined by others."""
        self.joins.begin(slot)
        with self.joins.asking(slot, credits_asked):
            lease = await self._api.acquire_lease(*slot, credits_asked, asked_end)
        held = self._core.lease(*slot)
        if held is not None and held.lease_id == lease.lease_id and _has_more(lease, held):
            self.share(lease.lease_id)
        return lease

    async def is_alone(self, slot: Slot, lease: HeldLease, deadline: float) -> bool:
        """Tell whether no other process has added to a lease that this one has.

        The service is asked only if something hints that another has: an acquire returns the lease that is
        there, and adds nothing to it.

        Raises:
            ApiError: the service could not tell.

        """
        if self.is_shared(lease.lease_id):
            return False
        if not self.joins.is_joined(slot):
            return True
        asked_end = self._ends.unique(lease.expires_at)
        told = await self._api.acquire_lease(*slot, LEAST, asked_end, deadline)
        if told.lease_id == lease.lease_id:
            return not _has_more(told, lease)
        if not is_foreign(told, asked_end):
            await self._api.release_lease(told.lease_id, deadline)
        return False

    def hear(self, message: bytes, ingested: Ingested) -> list[tuple[Slot, str]]:
        """Take in what was sent about a company; return its leases that may have ended, each with its slot.

        A lease that nobody else spends does not end before its time.
        """
        leases = ((slot, self._core.lease(*slot)) for slot in self.joins.hear(message, ingested))
        return [
            (slot, lease.lease_id)
            for slot, lease in leases
            if lease is not None and self.is_shared(lease.lease_id)
        ]

    async def own_part_of_grant(
        self, slot: Slot, lease: GrantedLease, plan: AcquirePlan, asked_end: float
    ) -> GrantedLease:
        """Reduce a lease that was granted to the credits that this process may spend.

        What it lacks of the plan is added by an extend.
        """
        is_extended = _may_be_extended(lease, plan.requested_amount)
        own = None if is_extended else await self.own(slot, lease, plan, asked_end)
        return own or await self._add_share(slot, lease, plan)

    async def extend(self, slot: Slot, plan: ExtendPlan) -> tuple[GrantedLease, Overlap]:
        """Extend a lease; also returns the other extends of the slot that are under way."""
        overlap = self._overlaps.setdefault(slot, Overlap())
        overlap.asked.append(plan.additional_amount)
        try:
            ends = self._ends.within_the_hour(plan.expires_at)
            with self.joins.asking(slot, plan.additional_amount):
                lease = await self._api.extend_lease(plan.lease_id, plan.additional_amount, ends)
        finally:
            overlap.asked.remove(plan.additional_amount)
            if not overlap.asked:
                self._overlaps.pop(slot, None)
        return lease, overlap

    def own_part_of_extend(
        self, slot: Slot, lease: GrantedLease, plan: ExtendPlan, overlap: Overlap
    ) -> float:
        """Return how much of an extended lease this process may spend, in credits."""
        held = self._core.lease(*slot)
        if held is None or held.lease_id != plan.lease_id:
            return lease.granted
        # The service's total counts what other processes have added, and extends may be answered in
        # another order than they were carried out.
        own = held.granted + plan.additional_amount
        overlap.total = max(overlap.total, lease.granted)
        if lease.granted > own + sum(overlap.asked):
            self.share(plan.lease_id)
        return min(overlap.total, own)

    async def _add_share(self, slot: Slot, lease: GrantedLease, plan: AcquirePlan) -> GrantedLease:
        """Add to a lease that was there already what this process may spend of it, and no more."""
        held = self._core.lease(*slot)
        own = 0.0
        if held is not None and held.lease_id == lease.lease_id:
            # It is our own, which has not ended yet by the service's clock.
            own = held.granted
        else:
            self.share(lease.lease_id)
        extended = await self._extend_by(lease, plan.requested_amount, plan)
        return replace(extended, granted=min(extended.granted, own + plan.requested_amount))

    async def own(
        self, slot: Slot, lease: GrantedLease, plan: AcquirePlan, asked_end: float
    ) -> GrantedLease | None:
        """Return a lease if it was made for this process; None if another has it.

        If it has the end that was asked for in milliseconds only, an extend proves it: of two processes that
        asked for an end in the same millisecond, the later one may spend only what it adds.
        """
        if is_foreign(lease, asked_end):
            return None
        if ends_at(lease, asked_end):
            return lease
        try:
            with self.joins.asking(slot, PROOF):
                proven = await self._extend_by(lease, PROOF, plan)
        except PaymentRequiredError:
            if lease.granted != plan.requested_amount:
                raise  # a sibling has acquired or extended it, and has the credits
            return lease  # it took the company's last credits, so no sibling can have extended it
        return proven if proven.granted == plan.requested_amount + PROOF else None

    async def _extend_by(
        self, lease: GrantedLease, credits_added: float, plan: AcquirePlan
    ) -> GrantedLease:
        ends = self._ends.within_the_hour(plan.expires_at)
        return await self._api.extend_lease(lease.lease_id, credits_added, ends)


def _has_more(told: GrantedLease, held: HeldLease) -> bool:
    """Tell whether the service has granted more of a lease than this process knows of."""
    return told.granted > held.granted + DUST


def _may_be_extended(lease: GrantedLease, requested_amount: float) -> bool:
    """Tell whether others may have added credits to a new lease before its grant was answered.

    The service may lend somewhat more than it was asked for, but a share of another process is a whole lease.
    If the answer of an earlier attempt was lost, the lease may have been ours for a while: whatever its total
    is then, nobody knows which part of it is ours.
    """
    if lease.is_retried:
        return lease.granted != requested_amount
    return lease.granted >= 2 * requested_amount
