"""The lease manager: it acquires, extends, sweeps and releases the leases of one client.

The core decides what to ask for, the store where it lives; this module makes the calls and lets
concurrent callers share them. It never raises for a fault: whoever waits for a lease finds either a
lease or none.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, TypeVar

from schematic_native.ground.store_errors import StoreError
from schematic_native.ground.time_limit import before
from schematic_native.leases.company_lookup import CompanyLookup
from schematic_native.leases.endings import Endings
from schematic_native.leases.extend_backoff import ExtendBackoff
from schematic_native.leases.flights import Calls, Flight, SingleFlight
from schematic_native.leases.last_credits import affordable
from schematic_native.leases.lease_ends import LeaseEnds
from schematic_native.leases.lease_store import is_shared
from schematic_native.leases.process_store import ProcessStore
from schematic_native.leases.siblings import Siblings
from schematic_native.service.errors import ApiError, PaymentRequiredError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from schematic_native._native import AcquirePlan, ExtendPlan, Ingested
    from schematic_native.config.lease_settings import LeaseSettings
    from schematic_native.ground.slots import Slot
    from schematic_native.leases.lease_store import HeldLease, LeaseStore, SharedLeaseStore
    from schematic_native.leases.work import Work
    from schematic_native.service.responses import GrantedLease

T = TypeVar("T")

# A caller that needs more than the call under way asks for joins so many calls at most before it starts
# its own.
MAX_JOINS = 2
# A process that was given a lease has so many intervals, in seconds, to put it into a shared store.
INSTALL_POLLS = 10
INSTALL_POLL_INTERVAL = 0.025
# A lease may end for the service so many seconds before it does by our clock and the store's.
MOST_CLOCK_SKEW = 10.0
# What the service says to an extend of a lease that has ended.
ENDED_STATUSES = frozenset({400, 404, 409, 410, 422})
# So many leases of other processes may end under an acquire before it gives up.
MAX_SIBLINGS_MET = 3
SWEEP_TOPIC = "the sweep of holds"
# So many leases are released at once when a client closes.
RELEASES_AT_ONCE = 16


class Leases:
    """The lease manager of one client.

    Args:
        work: the core resolves companies, and is the store where no other is given; the API has the
            lease calls.
        settings: intervals, in seconds.
        store: where leases and holds live; None for the core's own ledger.
        request_company: asks the DataStream for a company by keys until a deadline; None without
            DataStream.
        jitter: for tests; returns a number from 0 to 1.

    A deadline is an instant of the loop's clock; None means no limit but the request's own.

    """

    def __init__(
        self,
        work: Work,
        settings: LeaseSettings,
        *,
        store: LeaseStore | None = None,
        request_company: Callable[[Mapping[str, str], float], Awaitable[bool]] | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        core, api, faults = work
        self._core, self._api, self._faults = work
        self._settings = settings
        self._store: LeaseStore = ProcessStore(core) if store is None else store
        self._companies = CompanyLookup(core, request_company, settings.prewarm_resolve_timeout)
        self._calls = Calls(faults)
        self._acquires = SingleFlight(self._calls)
        self._extends = SingleFlight(self._calls)
        self._backoff = ExtendBackoff(jitter)
        self._ends = LeaseEnds(core.now, jitter)
        self._siblings = Siblings(core, api, self._ends)
        self.joins = self._siblings.joins
        self._endings = Endings(self._calls, self._replace_shared)
        self._closing = False

    async def acquire_if_needed(
        self,
        company_id: str,
        credit_type_id: str,
        deadline: float | None = None,
        required_credits: float = 0.0,
    ) -> HeldLease | None:
        """Return the live lease of a slot, acquiring one if there is none.

        Returns None if no lease comes in time, or if the service refused no more than the required credits
        a moment ago.
        """
        slot = (company_id, credit_type_id)
        lease = await self._read(self._store.live_lease(slot), deadline)
        flight = self._acquires.by_slot.get(slot)
        if lease is None and flight is not None:
            await flight.join(deadline)
            lease = await self._read(self._store.live_lease(slot), deadline)
            if not self._is_outdated(flight, slot):
                return lease
        elif self._core.was_refused(*slot, required_credits):
            return lease
        if lease is None and not self._closing:
            flight = self._acquires.by_slot.get(slot) or self._acquires.start(
                slot,
                Flight(0.0, self._core.company_balance(*slot)),
                lambda flight: self._acquire(flight, slot, required_credits),
            )
            await flight.join(deadline)
            lease = await self._read(self._store.live_lease(slot), deadline)
        return lease

    async def maybe_extend(
        self,
        company_id: str,
        credit_type_id: str,
        required_credits: float | None = None,
        deadline: float | None = None,
    ) -> None:
        """Extend the lease of a slot if it is low, or holds less than is required."""
        slot = (company_id, credit_type_id)
        joins = 0
        store = self._store
        while plan := await self._read(store.plan_extend(slot, required_credits), deadline):
            flight = self._extends.by_slot.get(slot)
            if flight is None or joins == MAX_JOINS:
                refused = required_credits and self._core.was_refused(*slot, required_credits)
                if self._closing or refused:
                    return
                flight = self._extends.start(
                    slot,
                    Flight(plan.additional_amount, self._core.company_balance(*slot)),
                    lambda flight: self._extend(flight, slot, required_credits),
                )
                await flight.join(deadline)
                return
            joins += 1
            if not await flight.join(deadline):
                return
            if plan.additional_amount <= flight.asked and not self._is_outdated(flight, slot):
                return

    def extend_low_slots(self) -> None:
        """Start a background extend for each slot that has run low."""
        for slot in self._core.take_low_slots():
            if not self._closing:
                extend = not self._backoff.is_paused(slot)
                self._calls.spawn(self._replenish(slot, extend=extend))

    async def sweep(self) -> None:
        """Refund expired holds at each interval, until cancelled."""
        while True:
            await asyncio.sleep(self._settings.sweep_interval)
            try:
                await self._store.sweep()
            except StoreError as error:
                self._faults.raised(SWEEP_TOPIC, error)
            else:
                self._faults.cleared(SWEEP_TOPIC)

    async def prewarm(
        self,
        company: Mapping[str, str],
        credit_type_ids: Sequence[str],
        deadline: float | None = None,
    ) -> None:
        """Acquire a lease for each credit type, best effort."""
        company_id = await self._companies.find(company, deadline)
        if company_id is None:
            self._faults.noted(f"prewarm: no company was found by the keys {sorted(company)}")
            return
        acquires = [self.acquire_if_needed(company_id, c, deadline) for c in credit_type_ids]
        await asyncio.gather(*acquires)

    def hear(self, message: bytes, ingested: Ingested) -> None:
        """Take in what the DataStream has sent about a company, where no store is shared."""
        for slot, lease_id in self._siblings.hear(message, ingested):
            if not self._closing:
                self._endings.suspect(slot, lease_id)

    def _is_told(self, slot: Slot) -> bool:
        return self._closing or self.joins.is_told(slot)

    def inherit(self, other: Leases) -> None:
        """Take over what a manager knew whose event loop has ended."""
        self._siblings.inherit(other._siblings)

    async def close(self, deadline: float) -> None:
        """Start nothing new, let what is under way end, then release this process's own leases.

        All until the deadline.
        """
        self._closing = self._companies.is_closing = True
        loop = asyncio.get_running_loop()
        # A call that hangs may use up half of the time, so that some is left for the releases. What
        # hangs is cancelled before the leases are counted, so that none can come afterwards.
        await self._calls.drain((loop.time() + deadline) / 2)
        await self._store.close(max(0.0, deadline - loop.time()))
        leases = [] if self._store.shared else self._core.live_leases()
        for lease in leases:
            # Dropped before it is released: no check may reserve from a lease that is being released.
            self._core.drop_lease(lease.company_id, lease.credit_type_id)
        gate = asyncio.Semaphore(RELEASES_AT_ONCE)

        async def leave(lease: HeldLease, slot: Slot) -> None:
            async with gate:
                await self._leave(lease, slot, deadline)

        await asyncio.gather(*(leave(one, (one.company_id, one.credit_type_id)) for one in leases))

    async def _leave(self, lease: HeldLease, slot: Slot, deadline: float) -> None:
        """Release a lease of this process alone; one that others spend is left to expire."""
        try:
            is_alone = await self._siblings.is_alone(slot, lease, deadline)
        except ApiError as error:
            self._note_unreleased(lease.lease_id, error)
            return
        if is_alone:
            await self._release(lease.lease_id, deadline)

    async def _replenish(self, slot: Slot, *, extend: bool) -> None:
        """Refill a slot that has run low, and extend its lease unless that failed lately."""
        try:
            await self._store.refill(slot)
        except StoreError as error:
            self._faults.store_failed("slab", error)
        else:
            self._faults.store_answered(slab=True)
        if extend:
            await self.maybe_extend(*slot)

    def _is_outdated(self, flight: Flight, slot: Slot) -> bool:
        """Tell whether a call was refused for want of credits, and the company's balance is another now."""
        return flight.is_refused and self._core.company_balance(*slot) != flight.balance

    async def _acquire(self, flight: Flight, slot: Slot, required_credits: float) -> None:
        """Acquire a lease over the wire, unless one has come meanwhile."""
        topic = _acquire_topic(slot)
        balance = flight.balance
        try:
            plan = await self._store.plan_acquire(slot)
            if plan is None:
                return
            await self._obtain_affordable(slot, plan, balance, required_credits)
        except PaymentRequiredError:
            # The company has too few credits. That is a valid answer: the service works.
            flight.is_refused = True
            if required_credits:
                self._core.note_spent(*slot, required_credits, balance)
            self._faults.cleared(topic)
            return
        except (ApiError, StoreError) as error:
            self._core.forget_spent(*slot)
            self._faults.raised(topic, error)
            return
        self._core.forget_spent(*slot)
        self._faults.cleared(topic)

    async def _obtain_affordable(
        self,
        slot: Slot,
        plan: AcquirePlan,
        balance: float | None,
        required_credits: float,
        successor_of: str | None = None,
    ) -> None:
        """Acquire a lease as planned, or of what the company's balance still allows."""
        try:
            await self._obtain(slot, plan, successor_of)
        except PaymentRequiredError:
            less = affordable(balance, plan.requested_amount, required_credits)
            if less is None:
                raise
            await self._obtain(slot, plan.with_amount(less), successor_of)

    async def _obtain(
        self, slot: Slot, plan: AcquirePlan, successor_of: str | None, siblings_met: int = 0
    ) -> None:
        """Acquire a lease and put it into its slot; one that came too late is released again."""
        ends = self._ends.unique(plan.expires_at)
        lease = await self._siblings.acquire(slot, plan.requested_amount, ends)
        if lease.lease_id == successor_of:
            return  # the service has one lease for a slot, so it has not ended
        free, store = None, self._store
        if not is_shared(store):
            try:
                lease = await self._siblings.own_part_of_grant(slot, lease, plan, ends)
            except ApiError as error:
                if error.status not in ENDED_STATUSES or siblings_met == MAX_SIBLINGS_MET:
                    raise
                # Its owner has released it before this process added its share: the service grants another.
                await self._obtain(slot, plan, successor_of, siblings_met + 1)
                return
        else:
            own = await self._siblings.own(slot, lease, plan, ends)
            if own is None:
                free = await self._rejoin(store, slot, lease, successor_of)
            lease = own or lease
        kept = await self._install(slot, lease, plan, free, successor_of)
        if not is_shared(store) and self._siblings.is_shared(kept):
            self._endings.confirm(slot, kept, self._is_told)
        if is_shared(store) and free is not None and kept == lease.lease_id:
            lease = await self._renew(store, slot, lease, plan)
        if kept != lease.lease_id and not self._siblings.is_shared(lease.lease_id):
            self._calls.spawn(self._release(lease.lease_id, None))

    async def _install(
        self,
        slot: Slot,
        lease: GrantedLease,
        plan: AcquirePlan,
        free: float | None,
        successor_of: str | None = None,
    ) -> str:
        """Put a lease into its slot; returns the id of the lease that is there then."""
        expires_at = plan.expires_at if lease.expires_at is None else lease.expires_at
        return await self._store.install(
            slot, lease.lease_id, lease.granted, expires_at, free, successor_of
        )

    async def _renew(
        self, store: SharedLeaseStore, slot: Slot, lease: GrantedLease, plan: AcquirePlan
    ) -> GrantedLease:
        """Move the end of a lease that is live for the service, but has ended for the store.

        That happens if the store's clock is ahead: the service hands out no other lease until this one has
        ended by its own clock, too.
        """
        if await store.live_lease(slot) is not None:
            return lease
        if not await store.has_ended(slot, lease.lease_id):
            # An extend would not change that, and each check would ask for another.
            self._faults.noted(
                f"the row of the lease for {slot} names another slot: it counts as none"
            )
            return lease
        ends = self._ends.within_the_hour(plan.expires_at)
        renewed = await self._api.extend_lease(lease.lease_id, plan.requested_amount, ends)
        await self._install(slot, renewed, plan, 0.0)
        return renewed

    async def _extend(self, flight: Flight, slot: Slot, required_credits: float | None) -> None:
        """Extend a lease over the wire, unless another extend has made that needless."""
        topic = f"extend of the lease for {slot}"
        balance = flight.balance
        try:
            plan = await self._store.plan_extend(slot, required_credits)
            if plan is None:
                return
            flight.asked = plan.additional_amount
            try:
                await self._add(slot, plan)
            except PaymentRequiredError:
                less = affordable(balance, plan.additional_amount, plan.shortfall)
                if less is None:
                    raise
                await self._add(slot, plan.with_amount(less))
            except ApiError as error:
                if not await self._replace_if_ended(slot, plan, error, required_credits or 0.0):
                    raise
                further = await self._store.plan_extend(slot, required_credits)
                if further is not None:
                    await self._add(slot, further)
        except PaymentRequiredError:
            flight.is_refused = True
            self._backoff.failed(slot)
            if required_credits:
                self._core.note_spent(*slot, required_credits, balance)
            self._faults.cleared(topic)
            return
        except (ApiError, StoreError) as error:
            self._backoff.failed(slot)
            self._core.forget_spent(*slot)
            self._faults.raised(topic, error)
            return
        self._backoff.succeeded(slot)
        self._core.forget_spent(*slot)
        self._faults.cleared(topic)
        # A lease that is extended each time is never acquired again.
        self._faults.cleared(_acquire_topic(slot))

    async def _add(self, slot: Slot, plan: ExtendPlan) -> None:
        """Extend a lease by what is planned."""
        lease, overlap = await self._siblings.extend(slot, plan)
        granted = lease.granted
        if not self._store.shared:
            granted = self._siblings.own_part_of_extend(slot, lease, plan, overlap)
        await self._store.extend(slot, plan.lease_id, granted, lease.expires_at)

    async def _replace_if_ended(
        self, slot: Slot, plan: ExtendPlan, error: ApiError, needed: float
    ) -> bool:
        """Replace a lease that cannot be extended because it has ended for the service.

        By the store's clock it may still be live. What is left of it there must not be spent any more: the
        service has taken it back. Returns whether it has ended, perhaps replaced by a sibling.
        """
        if error.status not in ENDED_STATUSES:
            return False
        lease = await self._store.live_lease(slot)
        if lease is not None and lease.lease_id == plan.lease_id:
            if not self._store.shared and self._siblings.is_shared(lease.lease_id):
                # Its owner has released it, and with it what this process has added.
                self._core.drop_lease(*slot)
                await self.acquire_if_needed(*slot, None, needed)
                return True
            if lease.expires_at > self._core.now() + MOST_CLOCK_SKEW:
                return False
            fresh = self._core.plan_shared_acquire(slot[1])
            fresh = fresh.with_amount(max(fresh.requested_amount, needed))
            balance = self._core.company_balance(*slot)
            await self._obtain_affordable(slot, fresh, balance, needed, plan.lease_id)
            lease = await self._store.live_lease(slot)
        return lease is None or lease.lease_id != plan.lease_id

    async def _replace_shared(self, slot: Slot, lease_id: str) -> None:
        """Replace a lease that others spend, if one of them has released it.

        The service hands out a lease as long as it lives, even to a company without credits.
        """
        held = self._core.lease(*slot)
        if self._closing or held is None or held.lease_id != lease_id:
            return
        topic = _acquire_topic(slot)
        plan, balance = self._core.plan_shared_acquire(slot[1]), self._core.company_balance(*slot)
        try:
            await self._obtain_affordable(slot, plan, balance, 0.0, lease_id)
        except PaymentRequiredError:
            held = self._core.lease(*slot)
            if held is not None and held.lease_id == lease_id:
                self._core.drop_lease(*slot)
        except (ApiError, StoreError) as error:
            self._faults.raised(topic, error)
            return
        self._faults.cleared(topic)

    async def _read(self, answer: Awaitable[T], deadline: float | None = None) -> T | None:
        """Read from the store until the deadline; None if it fails or is too slow."""
        try:
            if deadline is None or not self._store.shared:
                told = await answer
            else:
                told = await before(deadline, answer)
        except asyncio.TimeoutError:
            return None
        except StoreError as error:
            self._faults.store_failed("lease", error)
            return None
        self._faults.store_answered(lease=True)
        return told

    async def _rejoin(
        self, store: SharedLeaseStore, slot: Slot, lease: GrantedLease, successor_of: str | None
    ) -> float:
        """Return the credits that are free of a lease that was there, but not in the shared store.

        That is none, as nobody knows what was spent of it: its row may have been evicted, or lost in a
        failover. A check that needs credits then adds them by an extend. But first a sibling that has just
        been given the lease gets a moment to put it there with its whole grant.
        """
        self._siblings.share(lease.lease_id)
        if await self._read(store.has_ended(slot, lease.lease_id)):
            return 0.0  # its row is there, so no sibling is about to put it there
        for _ in range(INSTALL_POLLS):
            live = await self._read(store.live_lease(slot))
            if live is not None and live.lease_id != successor_of:
                break
            await asyncio.sleep(INSTALL_POLL_INTERVAL)
        return 0.0

    async def _release(self, lease_id: str, deadline: float | None) -> None:
        try:
            await self._api.release_lease(lease_id, deadline)
        except ApiError as error:
            self._note_unreleased(lease_id, error)

    def _note_unreleased(self, lease_id: str, error: ApiError) -> None:
        # Nothing is lost for good: the service takes the lease back when it expires.
        self._faults.noted(f"lease {lease_id} could not be released: {error}")


def _acquire_topic(slot: Slot) -> str:
    return f"acquire of a lease for {slot}"
