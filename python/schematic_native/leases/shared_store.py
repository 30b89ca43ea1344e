"""The leases and holds that several processes share, as one process uses them.

It carries out what the core asks of the store, and makes the claims that are still open: before usage is
billed, at each sweep and when it closes. It never decides an amount; the core and the store do.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

from schematic_native._native import CheckResult, PendingCheck
from schematic_native.ground.store_errors import StoreError
from schematic_native.leases.check_steps import finish
from schematic_native.leases.claims import Claim, SlabClaim
from schematic_native.leases.lease_store import STORE_TIMEOUT
from schematic_native.leases.slabs import Slabs
from schematic_native.redis import PAGES

if TYPE_CHECKING:
    from schematic_native._native import AcquirePlan, Core, ExtendPlan, OwedClaim
    from schematic_native.ground.fault_log import FaultLog
    from schematic_native.ground.slots import Slot
    from schematic_native.leases.lease_store import HeldLease
    from schematic_native.redis import LapsedPage, Late, Operation, SweptPage, WaitedStore

T = TypeVar("T")

# The part of a closing store's time that is given to checks under way.
CHECKS_PART = 0.5
# Seconds between two tries of a claim when a client closes.
INSIST_PAUSE = 0.1


class SharedStore:
    """The slots that several processes share, for a lease manager and its checks.

    Args:
        core: plans what to ask the service for, and holds the slabs of this process.
        store: where leases and holds live.
        faults: where failures are reported.

    """

    shared = True

    def __init__(self, core: Core, store: WaitedStore, faults: FaultLog) -> None:
        self._core = core
        self._store = store
        self._operations = store.operations
        self._faults = faults
        self._slabs = Slabs(core, store, self.claim_later, faults)
        # Open claims of slabs, and of holds that no caller waits for. Those of settles are in the core.
        self._claims: list[Claim | SlabClaim] = []
        # Checks that ask the store now.
        self._checks = UnderWay()
        self._closing = False
        # Claims of settles under way, and pages of a sweep.
        self._claiming: dict[asyncio.Future[None], None] = {}
        self._ending: dict[asyncio.Future[SweptPage], None] = {}

    async def live_lease(self, slot: Slot) -> HeldLease | None:
        """Return the slot's lease if it is live."""
        lease = await self._ask(self._operations.lease(slot))
        if lease is not None and not lease.readable:
            self._faults.noted(f"the row of the lease for {slot} cannot be read: it counts as none")
        return lease if lease is not None and lease.live else None

    async def has_ended(self, slot: Slot, lease_id: str) -> bool:
        """Tell whether a lease is in the slot, but has ended by the store's clock."""
        lease = await self._ask(self._operations.lease(slot))
        return lease is not None and lease.lease_id == lease_id and not lease.live

    async def plan_acquire(self, slot: Slot) -> AcquirePlan | None:
        """Return the lease to ask for; None while a live one is in the slot."""
        if await self.live_lease(slot) is not None:
            return None
        return self._core.plan_shared_acquire(slot[1])

    async def plan_extend(self, slot: Slot, required_credits: float | None) -> ExtendPlan | None:
        """Return the extend to ask for; None if none is due, or the lease has expired."""
        lease = await self.live_lease(slot)
        if lease is None:
            return None
        return self._core.plan_shared_extend(
            slot[1], lease.lease_id, lease.granted, lease.remaining, required_credits
        )

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
        installing = self._operations.install(
            slot, lease_id, granted, expires_at, free, successor_of
        )
        return (await self._ask(installing)).lease_id

    async def extend(
        self, slot: Slot, lease_id: str, granted_total: float, expires_at: float | None
    ) -> None:
        """Reconcile a lease with the service's total for it, if it is still in the slot."""
        await self._ask(self._operations.extend(slot, granted_total, expires_at, lease_id))

    async def reserved_credits(self, slot: Slot) -> float:
        """Add up a slot's open holds."""
        return await self._ask(self._operations.reserved_credits(slot))

    async def refill(self, slot: Slot) -> None:
        """Take a slab for a slot that is about to run dry."""
        await self._slabs.refill(slot)

    async def before_billing(self) -> None:
        """Tell the store, best effort, what is about to be billed.

        If this process dies, what was billed must not go back to the lease, neither with a hold that was not
        claimed nor with the unused part of a slab.
        """
        if self._claiming:
            await asyncio.wait(set(self._claiming))
        await self._claim_settles()
        try:
            await self._slabs.note_uses()
        except StoreError as error:
            self._faults.store_failed("slabs", error)
        else:
            self._faults.store_answered(slabs=True)

    async def sweep(self) -> None:
        """Make the claims that are still open, and end expired holds of every process."""
        self._core.sweep()
        self._slabs.settle_closed()
        await self._slabs.note_owed_uses()
        await self._slabs.look()
        # By the store's clock: a process whose own is fast must not end the holds of others.
        lapsed = await self._ask(self._operations.lapsed())
        if await self._claim_again(lapsed.now) and lapsed.members:
            await self._sweep(lapsed)

    async def close(self, timeout: float) -> None:
        """Settle every slab and make the claims that are still open, within so many seconds.

        Checks under way end first: then each has its hold, or has given back what it debited.
        """
        self._closing = True
        loop = asyncio.get_running_loop()
        until = loop.time() + timeout
        await self._checks.wait(timeout * CHECKS_PART)
        claims, self._claims = [*self._claims, *self._slabs.close()], []
        claims += map(Claim.of, self._core.owed_claims())
        ending: list[asyncio.Future[Any]] = [*self._claiming, *self._ending]
        ending += [asyncio.ensure_future(self._insist(claim)) for claim in claims]
        if ending:
            await asyncio.wait(ending, timeout=max(0.0, until - loop.time()))
            late = [one for one in ending if not one.done()]
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        await self._store.close()

    def inherit(self, other: SharedStore) -> None:
        """Take over the open claims of a store whose event loop has ended."""
        self._claims += other._claims
        self._slabs.inherit(other._slabs)

    async def finish(
        self, pending: PendingCheck, timeout: float
    ) -> CheckResult | PendingCheck | None:
        """Do what a pending check needs of the store; None if that takes longer than `timeout`.

        If the caller is gone by then, what the check comes to hold is given back.
        """
        if self._closing:
            return None
        work = finish(self._operations, pending, self._faults)
        if timeout >= STORE_TIMEOUT:
            return await self._run_check(work, timeout)
        # The store is given longer than the check: it may have made the debit and only reply slowly.
        running = asyncio.ensure_future(self._run_check(work, STORE_TIMEOUT))
        try:
            await asyncio.wait({running}, timeout=timeout)
            return await running if running.done() else None
        finally:
            running.cancel()

    async def _run_check(
        self, work: Operation[CheckResult | PendingCheck], timeout: float
    ) -> CheckResult | PendingCheck | None:
        """Run a check's operation. If the caller is cancelled, it goes on, and counts as under way.

        Nothing is sent once the store closes, which may have happened before this task had its first turn.
        """
        if self._closing:
            return None
        self._checks.begin()
        try:
            answer = await self._store.run(work, timeout, self._abandon)
        except asyncio.CancelledError:
            raise
        except BaseException:
            self._checks.end()
            raise
        self._checks.end()
        return answer

    async def claim_settle(self, owed: OwedClaim) -> None:
        """Make the claim of a settle, which goes on if the caller is cancelled.

        If it fails, the core goes on owing it.
        """
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._claiming[ended] = None

        def end(_: bool | None) -> None:
            self._claiming.pop(ended, None)
            ended.set_result(None)

        try:
            await self._try(Claim.of(owed), end)
        except asyncio.CancelledError:
            raise  # the claim goes on
        except BaseException:
            end(None)
            raise
        end(None)

    async def _try(self, claim: Claim | SlabClaim, late: Late[bool] = None) -> bool:
        """Make a claim; returns whether the store has answered."""
        try:
            is_made = await self._ask(claim.make(self._operations, self._core), late)
        except StoreError as error:
            self._faults.store_failed("claim", error)
            return False
        self._faults.store_answered(claim=is_made)
        return True

    async def _insist(self, claim: Claim | SlabClaim) -> None:
        """Make a claim again and again, as there is no later sweep.

        If it is cancelled, a later event loop's store takes it over.
        """
        is_made = False
        try:
            while True:
                is_made = await self._try(claim)
                if is_made:
                    return
                await asyncio.sleep(INSIST_PAUSE)
        finally:
            if not is_made:
                self.claim_later(claim)

    async def _claim_again(self, now: float) -> bool:
        """Make the open claims until one fails; returns whether none is left.

        As long as one is left, this process must not sweep: the hold of that claim may have lapsed.
        """
        owed = [claim for claim in self._core.owed_claims() if Claim.of(claim).is_over(now)]
        for claim in owed:
            self._core.claim_ended(claim, has_ended_hold=False)
        open_claims = [claim for claim in self._claims if not claim.is_over(now)]
        if lapsed := len(owed) + len(self._claims) - len(open_claims):
            self._faults.noted(f"{lapsed} holds lapsed before the store heard of their settles")
        self._claims = open_claims
        if not await self._claim_settles():
            return False
        # One that is cancelled stays in the list: making it twice does no harm.
        while self._claims and await self._try(self._claims[0]):
            self._claims.pop(0)
        return not self._claims

    async def _claim_settles(self) -> bool:
        """Make the claims of settles until one fails; returns whether none has failed."""
        for owed in self._core.owed_claims():
            if not await self._try(Claim.of(owed)):
                return False
        return True

    async def _sweep(self, lapsed: LapsedPage) -> None:
        """End the holds that have lapsed, page by page."""
        swept = await self._end_page(self._operations.end_page(lapsed.members))
        for _ in range(1, PAGES):
            if not swept.is_full:
                break
            swept = await self._end_page(self._operations.sweep_page(lapsed.now))

    async def _end_page(self, ending: Operation[SweptPage]) -> SweptPage:
        """End the holds of a page; no cancellation interrupts that."""
        page = asyncio.ensure_future(self._ask(ending))
        self._ending[page] = None
        page.add_done_callback(self._ended)
        return await asyncio.shield(page)

    def _ended(self, page: asyncio.Future[SweptPage]) -> None:
        self._ending.pop(page, None)
        if not page.cancelled():
            page.exception()  # retrieved here in case the sweep was cancelled

    def claim_later(self, claim: Claim | SlabClaim) -> None:
        """Claim a hold at the next sweep."""
        self._claims.append(claim)

    async def _ask(self, operation: Operation[T], late: Late[T] = None) -> T:
        return await self._store.run(operation, STORE_TIMEOUT, late)

    def _abandon(self, answer: CheckResult | PendingCheck | None) -> None:
        """Give back what a check holds whose caller is gone."""
        self._checks.end()
        if isinstance(answer, CheckResult) and answer.reservation is not None:
            self.claim_later(Claim(answer.reservation, 0.0))


class UnderWay:
    """Counts what is under way, so that one can wait until nothing is."""

    def __init__(self) -> None:
        self._count = 0
        self._over = asyncio.Event()

    def begin(self) -> None:
        """Count one more."""
        self._count += 1

    def end(self) -> None:
        """Count one less."""
        self._count -= 1
        if not self._count:
            self._over.set()

    async def wait(self, timeout: float) -> None:
        """Wait until nothing is under way, for so many seconds at most."""
        over = asyncio.get_running_loop().call_later(timeout, self._over.set)
        self._over.clear()
        try:
            if self._count:
                await self._over.wait()
        finally:
            over.cancel()
