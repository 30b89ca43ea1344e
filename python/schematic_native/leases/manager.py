"""Keeping leases: acquire, extend, sweep, release.

The core decides what to ask for and what an answer means; this module owns the wire calls and lets
concurrent callers share them. It never raises for a fault: whoever waits for a lease finds either a
lease or none.
"""

from __future__ import annotations

import asyncio
import math
import random
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from schematic_native.config.defaults import LONGEST_HOLD
from schematic_native.ground.store_errors import StoreError
from schematic_native.leases.process_store import ProcessStore
from schematic_native.service.errors import ApiError, PaymentRequiredError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence

    from schematic_native._native import AcquirePlan, Core, ExtendPlan
    from schematic_native.config.lease_settings import LeaseSettings
    from schematic_native.ground.fault_log import FaultLog
    from schematic_native.ground.slots import Slot
    from schematic_native.leases.process_store import HeldLease, LeaseStore
    from schematic_native.service.responses import GrantedLease
    from schematic_native.service.rest import Api

T = TypeVar("T")

# A caller that needs more than a flight asks for waits for at most so many flights before it starts
# its own.
MAX_JOINS = 2
PREWARM_POLL_INTERVAL = 0.1
COMPANY_ID_PREFIX = "comp_"
FIRST_EXTEND_PAUSE = 1.0
LONGEST_EXTEND_PAUSE = 30.0
# The server keeps one lease for a slot and hands it to every process that asks. To tell our own, we
# ask for an end that nobody else asks for, up to 30 s early, and see if we got it, or the millisecond
# that it is in. Of two processes that ask at once for leases of 300 s, one in seven million takes the
# other's for its own. Of a server that keeps milliseconds it would be one in fifteen thousand, so
# there an extend makes sure. A server that rounds more makes every lease look like another's, which costs an
# extend and is safe.
EXPIRY_JITTER = 30.0
# Of a lease that is short, at most this part.
MOST_EXPIRY_JITTER = 0.1
EXPIRY_TOLERANCE = 2e-6
# Microseconds before and after a full millisecond in which no end is asked for.
NEXT_TO_MILLISECOND = 10
# Credits of the extend that makes sure of a lease. The server carries out one extend after another,
# so only one process finds a total that nobody has added to.
PROOF = 1.0
# A process that was given a lease has so many intervals, in seconds, to put it where siblings look.
INSTALL_POLLS = 10
INSTALL_POLL_INTERVAL = 0.025
# Leases of other processes that are remembered; they end within the hour.
MOST_SHARED = 10_000
SWEEP_TOPIC = "the sweep of holds"
# So many leases are released at once when a client closes.
RELEASES_AT_ONCE = 16


class _Flight:
    """One wire call that several callers wait for."""

    def __init__(self, asked: float) -> None:
        self.asked = asked  # credits
        self.task: asyncio.Task[None]


class _Overlap:
    """Extends of one slot that are under way together."""

    def __init__(self) -> None:
        self.asked: list[float] = []  # credits
        self.total = 0.0  # the highest that the server told meanwhile


class Leases:
    """The lease manager of one client.

    Args:
        core: resolves companies, and is the store where no other is given.
        api: the lease calls.
        settings: intervals, in seconds.
        faults: where failures are reported.
        store: where leases and holds live; None for the core's own ledger.
        request_company: asks the DataStream for a company by keys until a deadline; None without
            DataStream.
        jitter: for tests; returns a number from 0 to 1.

    A deadline is an instant of the loop's clock; None means no limit but the request's own.

    """

    def __init__(
        self,
        core: Core,
        api: Api,
        settings: LeaseSettings,
        faults: FaultLog,
        *,
        store: LeaseStore | None = None,
        request_company: Callable[[Mapping[str, str], float], Awaitable[bool]] | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._core = core
        self._api = api
        self._settings = settings
        self._faults = faults
        self._store: LeaseStore = ProcessStore(core) if store is None else store
        self._request_company = request_company
        self._jitter = jitter
        self._acquires: dict[Slot, _Flight] = {}
        self._extends: dict[Slot, _Flight] = {}
        self._overlaps: dict[Slot, _Overlap] = {}
        self._pauses: dict[Slot, tuple[float, int]] = {}
        self._wire: set[asyncio.Task[None]] = set()
        # Leases that other processes spend too. Of those only what this process has added is its own
        # to spend, and they are not its own to release.
        self._shared: dict[str, None] = {}
        self._closing = False

    async def acquire_if_needed(
        self,
        company_id: str,
        credit_type_id: str,
        deadline: float | None = None,
        required_credits: float = 0.0,
    ) -> HeldLease | None:
        """Return the live lease of a slot, acquiring one if there is none.

        None if none can be had in time, or the service has just refused as little as is required.
        """
        slot = (company_id, credit_type_id)
        lease = await self._read(self._store.live_lease(slot), deadline)
        if lease is None:
            flight = self._acquires.get(slot)
            if flight is None:
                if self._closing or self._core.was_refused(*slot, required_credits):
                    return None
                flight = self._fly(
                    self._acquires, slot, 0.0, lambda _: self._acquire(slot, required_credits)
                )
            await _join(flight, deadline)
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
            flight = self._extends.get(slot)
            if flight is None or joins == MAX_JOINS:
                refused = required_credits and self._core.was_refused(*slot, required_credits)
                if self._closing or refused:
                    return
                flight = self._fly(
                    self._extends,
                    slot,
                    plan.additional_amount,
                    lambda flight: self._extend(flight, slot, required_credits),
                )
                await _join(flight, deadline)
                return
            joins += 1
            if not await _join(flight, deadline) or plan.additional_amount <= flight.asked:
                return

    def extend_low_slots(self) -> None:
        """Start a background extend for each slot that has run low."""
        now = asyncio.get_running_loop().time()
        for slot in self._core.take_low_slots():
            if not self._closing:
                is_resting = self._pauses.get(slot, (now, 0))[0] > now
                self._spawn(self._replenish(slot, extend=not is_resting))

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
        company_id = await self._resolve_company(company, deadline)
        if company_id is None:
            self._faults.noted(f"prewarm: no company was found by the keys {sorted(company)}")
            return
        acquires = [self.acquire_if_needed(company_id, c, deadline) for c in credit_type_ids]
        await asyncio.gather(*acquires)

    def inherit(self, other: Leases) -> None:
        """Go on where a manager ended whose loop ended under it."""
        self._shared |= other._shared

    async def close(self, deadline: float) -> None:
        """Start nothing new, drain what is under way, then release this process's own leases.

        All until the deadline.
        """
        self._closing = True
        loop = asyncio.get_running_loop()
        # A call that hangs may use up half of the time, so that some is left for the releases.
        drained_by = (loop.time() + deadline) / 2
        while self._wire and (left := drained_by - loop.time()) > 0:
            await asyncio.wait(set(self._wire), timeout=left)
        # What hangs is given up before the leases are counted, so that none can come afterwards.
        rest = list(self._wire)
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
        await self._store.close(max(0.0, deadline - loop.time()))
        leases = [] if self._store.shared else self._core.live_leases()
        for lease in leases:
            # Dropped before it is released: no check may reserve from a lease that is being given
            # back.
            self._core.drop_lease(lease.company_id, lease.credit_type_id)
        gate = asyncio.Semaphore(RELEASES_AT_ONCE)

        async def release(lease_id: str) -> None:
            async with gate:
                await self._release(lease_id, deadline)

        await asyncio.gather(
            *(release(lease.lease_id) for lease in leases if lease.lease_id not in self._shared)
        )

    async def _replenish(self, slot: Slot, *, extend: bool) -> None:
        """Attend to a slot that has run low; without an extend where that failed lately."""
        try:
            await self._store.refill(slot)
        except StoreError as error:
            self._faults.store_failed("slab", error)
        else:
            self._faults.store_answered("slab")
        if extend:
            await self.maybe_extend(*slot)

    def _fly(
        self,
        registry: dict[Slot, _Flight],
        slot: Slot,
        asked: float,
        call: Callable[[_Flight], Coroutine[object, object, None]],
    ) -> _Flight:
        """Start a flight and register it.

        It leaves the registry by identity, as another may have taken its place.
        """
        flight = _Flight(asked)

        def leave(_task: asyncio.Task[None]) -> None:
            if registry.get(slot) is flight:
                del registry[slot]

        flight.task = self._spawn(call(flight))
        flight.task.add_done_callback(leave)
        registry[slot] = flight
        return flight

    def _spawn(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._wire.add(task)
        task.add_done_callback(self._landed)
        return task

    def _landed(self, task: asyncio.Task[None]) -> None:
        self._wire.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._faults.raised("credit leases", f"{type(error).__name__}: {error}")

    async def _acquire(self, slot: Slot, required_credits: float) -> None:
        """Acquire a lease over the wire, unless one has come meanwhile."""
        topic = f"acquire of a lease for {slot}"
        # As it was before the service was asked: a top-up that comes meanwhile makes it rise.
        balance = self._core.company_balance(*slot)
        try:
            plan = await self._store.plan_acquire(slot)
            if plan is None:
                return
            try:
                await self._obtain(slot, plan)
            except PaymentRequiredError:
                less = _affordable(balance, plan.requested_amount, required_credits)
                if less is None:
                    raise
                await self._obtain(slot, plan.with_amount(less))
        except PaymentRequiredError:
            # The company has too few credits, which is an answer: the service works.
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

    async def _obtain(self, slot: Slot, plan: AcquirePlan) -> None:
        """Acquire a lease and put it into its slot; one that came too late is released again."""
        ends = self._own_end(plan.expires_at)
        lease = await self._api.acquire_lease(*slot, plan.requested_amount, ends)
        free = None
        if self._store.shared:
            if _is_foreign(lease, ends):
                free = await self._rejoin(slot, lease)
        elif _is_foreign(lease, ends) or _may_be_extended(lease, plan.requested_amount):
            lease = await self._add_share(slot, lease, plan)
        elif not _ends_at(lease, ends):
            lease = await self._make_sure(lease, plan)
        kept = await self._install(slot, lease, plan, free)
        if free is not None and kept == lease.lease_id:
            lease = await self._renew(slot, lease, plan)
        if kept != lease.lease_id and lease.lease_id not in self._shared:
            self._spawn(self._release(lease.lease_id, None))

    async def _install(
        self, slot: Slot, lease: GrantedLease, plan: AcquirePlan, free: float | None
    ) -> str:
        """Put a lease into its slot; returns the id of the lease that is there then."""
        expires_at = plan.expires_at if lease.expires_at is None else lease.expires_at
        return await self._store.install(slot, lease.lease_id, lease.granted, expires_at, free)

    async def _renew(self, slot: Slot, lease: GrantedLease, plan: AcquirePlan) -> GrantedLease:
        """Move the end of a lease that is live for the service and has ended for the store.

        So it is where the store's clock is ahead: until the service calls the lease ended, too, it
        hands out no other.
        """
        if await self._store.live_lease(slot) is not None:
            return lease
        ends = self._within_the_hour(plan.expires_at)
        renewed = await self._api.extend_lease(lease.lease_id, plan.requested_amount, ends)
        await self._install(slot, renewed, plan, 0.0)
        return renewed

    async def _extend(self, flight: _Flight, slot: Slot, required_credits: float | None) -> None:
        """Extend a lease over the wire, unless another extend has made that needless."""
        topic = f"extend of the lease for {slot}"
        # As it was before the service was asked: a top-up that comes meanwhile makes it rise.
        balance = self._core.company_balance(*slot)
        try:
            plan = await self._store.plan_extend(slot, required_credits)
            if plan is None:
                return
            flight.asked = plan.additional_amount
            try:
                await self._add(slot, plan)
            except PaymentRequiredError:
                less = _affordable(balance, plan.additional_amount, plan.shortfall)
                if less is None:
                    raise
                await self._add(slot, plan.with_amount(less))
        except PaymentRequiredError:
            self._pause(slot)
            if required_credits:
                self._core.note_spent(*slot, required_credits, balance)
            self._faults.cleared(topic)
            return
        except (ApiError, StoreError) as error:
            self._pause(slot)
            self._core.forget_spent(*slot)
            self._faults.raised(topic, error)
            return
        self._pauses.pop(slot, None)
        self._core.forget_spent(*slot)
        self._faults.cleared(topic)

    async def _add(self, slot: Slot, plan: ExtendPlan) -> None:
        """Extend a lease by what is planned."""
        lease, overlap = await self._ask_to_extend(slot, plan)
        granted = self._own_part(slot, lease, plan, overlap)
        await self._store.extend(slot, plan.lease_id, granted, lease.expires_at)

    async def _ask_to_extend(self, slot: Slot, plan: ExtendPlan) -> tuple[GrantedLease, _Overlap]:
        """Extend a lease over the wire, and tell what else is on its way there."""
        overlap = self._overlaps.setdefault(slot, _Overlap())
        overlap.asked.append(plan.additional_amount)
        try:
            ends = self._within_the_hour(plan.expires_at)
            lease = await self._api.extend_lease(plan.lease_id, plan.additional_amount, ends)
        finally:
            overlap.asked.remove(plan.additional_amount)
            if not overlap.asked:
                self._overlaps.pop(slot, None)
        return lease, overlap

    def _own_part(
        self, slot: Slot, lease: GrantedLease, plan: ExtendPlan, overlap: _Overlap
    ) -> float:
        """Tell how much of an extended lease this process, or who shares its store, may spend."""
        held = None if self._store.shared else self._core.lease(*slot)
        if held is None or held.lease_id != plan.lease_id:
            return lease.granted
        # The server's total counts what other processes have added, which is not ours to spend.
        # Extends may be answered in another order than they were carried out.
        own = held.granted + plan.additional_amount
        overlap.total = max(overlap.total, lease.granted)
        if lease.granted > own + sum(overlap.asked):
            self._share(plan.lease_id)
        return min(overlap.total, own)

    async def _read(self, answer: Awaitable[T], deadline: float | None = None) -> T | None:
        """Read from the store until the deadline; None if nothing was to be had."""
        try:
            if deadline is None or not self._store.shared:
                told = await answer
            else:
                left = deadline - asyncio.get_running_loop().time()
                told = await asyncio.wait_for(answer, left)
        except asyncio.TimeoutError:
            return None
        except StoreError as error:
            self._faults.store_failed("lease", error)
            return None
        self._faults.store_answered("lease")
        return told

    async def _add_share(self, slot: Slot, lease: GrantedLease, plan: AcquirePlan) -> GrantedLease:
        """Add to a lease that was there already what this process may spend of it, and no more."""
        held = self._core.lease(*slot)
        own = 0.0
        if held is not None and held.lease_id == lease.lease_id:
            # Our own, which has not ended there yet.
            own = held.granted
        else:
            self._share(lease.lease_id)
        ends = self._within_the_hour(plan.expires_at)
        extended = await self._api.extend_lease(lease.lease_id, plan.requested_amount, ends)
        return replace(extended, granted=min(extended.granted, own + plan.requested_amount))

    async def _make_sure(self, lease: GrantedLease, plan: AcquirePlan) -> GrantedLease:
        """Find out whether a lease is ours that ends in the millisecond we asked for.

        If it is another's, of two who asked for that millisecond, we spend what we add.
        """
        ends = self._within_the_hour(plan.expires_at)
        try:
            proven = await self._api.extend_lease(lease.lease_id, PROOF, ends)
        except PaymentRequiredError:
            return lease  # it took the company's last credits, so nobody else's extend will tell
        if proven.granted == plan.requested_amount + PROOF:
            return proven
        self._share(lease.lease_id)
        extended = await self._api.extend_lease(lease.lease_id, plan.requested_amount, ends)
        return replace(extended, granted=min(extended.granted, PROOF + plan.requested_amount))

    def _own_end(self, expires_at: float) -> float:
        """Return an end to ask for that no other process asks for."""
        ends = self._within_the_hour(expires_at)
        most = min(EXPIRY_JITTER, MOST_EXPIRY_JITTER * (ends - self._core.now()))
        end = ends - most * self._jitter()
        if most and not NEXT_TO_MILLISECOND < end * 1e6 % 1000 < 1000 - NEXT_TO_MILLISECOND:
            # Kept to the millisecond it would look as if it had been kept to the microsecond.
            end -= 5 * NEXT_TO_MILLISECOND / 1e6
        return round(end, 6)

    def _within_the_hour(self, expires_at: float) -> float:
        """Return an end that the service takes for one within the hour, if its clock is slow too."""
        return min(expires_at, self._core.now() + LONGEST_HOLD)

    async def _rejoin(self, slot: Slot, lease: GrantedLease) -> float:
        """Return the credits that are free of a lease that was there, but not in the shared store.

        None are, as nobody knows what was spent of it: its row was evicted, or lost in a failover.
        What a check then needs is added by an extend. First a sibling that was given the lease just
        now has a moment to put it there, whole.
        """
        self._share(lease.lease_id)
        if await self._read(self._store.has_ended(slot, lease.lease_id)):
            return 0.0  # its row is there, and nobody puts it there anew
        for _ in range(INSTALL_POLLS):
            if await self._read(self._store.live_lease(slot)) is not None:
                break
            await asyncio.sleep(INSTALL_POLL_INTERVAL)
        return 0.0

    def _share(self, lease_id: str) -> None:
        self._shared[lease_id] = None
        if len(self._shared) > MOST_SHARED:
            del self._shared[next(iter(self._shared))]

    def _pause(self, slot: Slot) -> None:
        """Rest background extends of a slot, as every check of a low lease would ask for one."""
        failures = self._pauses.get(slot, (0.0, 0))[1]
        length = min(LONGEST_EXTEND_PAUSE, FIRST_EXTEND_PAUSE * 2**failures)
        until = asyncio.get_running_loop().time() + length * (0.5 + 0.5 * self._jitter())
        self._pauses[slot] = (until, min(failures + 1, 16))

    async def _release(self, lease_id: str, deadline: float | None) -> None:
        try:
            await self._api.release_lease(lease_id, deadline)
        except ApiError as error:
            # Nothing is lost for good: the server takes the lease back when it expires.
            self._faults.noted(f"lease {lease_id} could not be released: {error}")

    async def _resolve_company(self, company: Mapping[str, str], until: float | None) -> str | None:
        """Find a company's id: in the cache, over the DataStream, or among the keys themselves."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._settings.prewarm_resolve_timeout
        if until is not None:
            deadline = min(deadline, until)
        while (found := self._core.company_id(company)) is None:
            if self._request_company is None or loop.time() >= deadline or self._closing:
                break
            if not await self._request_company(company, deadline):
                # The stream may still be connecting, or the company may be about to be created.
                left = max(0.0, deadline - loop.time())
                await asyncio.sleep(min(PREWARM_POLL_INTERVAL, left))
        if found is not None:
            return found
        return next((v for v in company.values() if v.startswith(COMPANY_ID_PREFIX)), None)


def _affordable(balance: float | None, refused: float, needed: float) -> float | None:
    """Return the credits to ask for once more after a refusal: the company's last; None for none.

    Args:
        balance: the company's, as it is cached.
        refused: credits that were refused.
        needed: credits that a check waits for; 0 if none does.

    """
    if balance is None or balance < needed:
        return None
    less = max(float(math.floor(balance)), needed)
    return less if 0 < less < refused else None


def _is_foreign(lease: GrantedLease, asked_end: float) -> bool:
    """Tell whether a lease that the server gave was there already, for another process.

    Its own ends when this process asked for, to the microsecond or the millisecond.
    """
    if lease.expires_at is None:
        return False
    in_millis = (round(asked_end, 3), math.floor(asked_end * 1000) / 1000)
    return not any(_ends_at(lease, end) for end in (asked_end, *in_millis))


def _ends_at(lease: GrantedLease, end: float) -> bool:
    """Tell whether a lease ends at an instant, to the microsecond; one without an end may."""
    return lease.expires_at is None or abs(lease.expires_at - end) <= EXPIRY_TOLERANCE


def _may_be_extended(lease: GrantedLease, requested_amount: float) -> bool:
    """Tell whether others may have added credits to a lease before we were told of it.

    The answer of an earlier attempt was lost, so the lease may have been ours for a while. If its
    total is not what we asked for, nobody knows which part of it is ours.
    """
    return lease.is_retried and lease.granted != requested_amount


async def _join(flight: _Flight, deadline: float | None) -> bool:
    """Wait for a flight until the deadline; the flight itself goes on.

    Returns whether it has landed.
    """
    timeout = None if deadline is None else deadline - asyncio.get_running_loop().time()
    if timeout is None or timeout > 0:
        await asyncio.wait({flight.task}, timeout=timeout)
    return flight.task.done()
