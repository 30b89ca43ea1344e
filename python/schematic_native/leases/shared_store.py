"""What the core asks of a store that several processes share, done.

Each operation is a generator that a driver of the store runs, on the caller's thread or on an event
loop: it yields batches of commands and is sent their replies. So checks and settles are written
once for both clients.
"""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from schematic_native._native import CheckResult, PendingCheck
from schematic_native.ground.store_errors import StoreError
from schematic_native.redis import PAGES, Refused, SlabNote

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from schematic_native._native import (
        AcquirePlan,
        Core,
        ExtendPlan,
        OwedClaim,
        Reservation,
        SlabPlan,
    )
    from schematic_native.ground.fault_log import FaultLog
    from schematic_native.ground.slots import Slot
    from schematic_native.leases.process_store import HeldLease
    from schematic_native.redis import Late, Operation, Operations, SweptPage, WaitedStore

T = TypeVar("T")

# What a pending check may need of the store.
STORE_NEEDS = frozenset({"reserve", "record", "cancel", "refund"})
# Seconds for what no caller's deadline bounds.
STORE_TIMEOUT = 1.0
# A synchronous check with fewer seconds asks on another thread, which hears what comes too late for
# it and gives that back.
HURRY = 0.25
# The part of a closing store's time that is given to checks under way.
CHECKS_PART = 0.5
# Seconds between two tries of a claim when a client closes.
INSIST_PAUSE = 0.1
# Seconds that a hold's row outlives the hold.
ROW_GRACE = 30.0
# A slab takes at most this part of what remains of a lease.
SHARE = 4


def finish(
    operations: Operations, pending: PendingCheck, faults: FaultLog
) -> Operation[CheckResult | PendingCheck]:
    """Do what a pending check needs of the store, until it is answered or needs something else."""
    while pending.need in STORE_NEEDS:
        try:
            answer = yield from _STEPS[pending.need](operations, pending)
        except StoreError as error:
            faults.store_failed(pending.need, error)
            answer = pending.resume_lost() if error.lost else pending.resume(False)
        else:
            faults.store_answered(pending.need)
        if not isinstance(answer, PendingCheck):
            return answer
        pending = answer
    return pending


def _reserve(
    operations: Operations, pending: PendingCheck
) -> Operation[CheckResult | PendingCheck]:
    debit = yield from operations.hold(_hold(pending), pending.time_to_live)
    if isinstance(debit, Refused):
        return pending.resume_refused(debit is Refused.SHORT)
    return pending.resume_debited(
        debit.remaining, debit.granted, debit.lease_id, debit.at, debit.recorded
    )


def _record(operations: Operations, pending: PendingCheck) -> Operation[CheckResult | PendingCheck]:
    return pending.resume((yield from operations.add(_hold(pending))))


def _cancel(operations: Operations, pending: PendingCheck) -> Operation[CheckResult | PendingCheck]:
    claimed = yield from operations.consume(_hold(pending).id, 0.0, _slot(pending))
    return pending.resume_gone() if claimed is None else pending.resume(True)


def _refund(operations: Operations, pending: PendingCheck) -> Operation[CheckResult | PendingCheck]:
    hold = _hold(pending)
    yield from operations.refund(_slot(pending), hold.credits_reserved, hold.lease_id)
    return pending.resume(True)


_STEPS = {"reserve": _reserve, "record": _record, "cancel": _cancel, "refund": _refund}


def _slot(pending: PendingCheck) -> Slot:
    company_id, credit_type_id = pending.company_id, pending.credit_type_id
    if company_id is None or credit_type_id is None:
        raise RuntimeError("a check that needs the store has a slot")
    return company_id, credit_type_id


def _hold(pending: PendingCheck) -> Reservation:
    hold = pending.reservation
    if hold is None:
        raise RuntimeError("a check that needs the store has a hold, or a draft of it")
    return hold


@dataclass(frozen=True)
class Claim:
    """Credits used of a hold in the shared store, which must still be claimed there.

    What a settle owes is noted in the core as well, before the usage is queued, and stays there
    until the store has answered: whoever is interrupted, the sender and the sweep make the claim.

    Claiming twice does no harm: the store ends a hold once. So a claim that failed is made again
    while the hold's row may be there.
    """

    hold: Reservation
    credits: float
    owed: OwedClaim | None = None  # the core's note of it; None where nothing is billed

    @classmethod
    def of(cls, owed: OwedClaim) -> Claim:
        """Return the claim that a settle owes."""
        return cls(owed.reservation, owed.credits, owed)

    def make(self, operations: Operations, core: Core) -> Operation[bool]:
        """Claim the hold; tells whether it was still there."""
        if (yield from self._make_in_slab(operations, core)):
            return True
        slot = self.hold.company_id, self.hold.credit_type_id
        consumed = yield from operations.consume(self.hold.id, self.credits, slot)
        if self.owed is not None:
            core.claim_ended(self.owed, consumed is not None)
        return consumed is not None

    def _make_in_slab(self, operations: Operations, core: Core) -> Operation[bool]:
        """Claim a hold that another process carved from its slab: the slab's row is told of it.

        Until that process hears of it there, or the row is swept, it has the credits of the hold.
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
        """Whether the hold's row is gone by now: swept as unused, or forgotten.

        Until then a claim may still come before the sweep, even if the hold has lapsed.
        """
        return self.hold.expires_at.timestamp() + ROW_GRACE <= now


@dataclass
class SlabClaim:
    """Credits used of a slab, whose row is to be claimed in the shared store: as a `Claim` is.

    Args:
        row: the slab's reservation.
        credits: the credits used of it here.
        lose: told with the credits taken and left if the store has lost the row.
        held: holds of it that are still open, by id, and their credits.

    """

    row: Reservation
    credits: float
    lose: Callable[[Reservation, float, float], None]
    held: Sequence[tuple[str, float]] = ()
    # Once it was asked for, the row may be gone because that claimed it.
    is_asked: bool = False

    def make(self, operations: Operations, _: Core) -> Operation[bool]:
        """Claim the slab; tells whether it was still there."""
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


class SharedStore:
    """The slots that several processes share: the store of a lease manager, and of its checks.

    Args:
        core: tells what to ask the service for, and holds the slabs of this process.
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
        # What settles owe is in the core; here are slabs, and holds that nobody waits for.
        self._claims: list[Claim | SlabClaim] = []
        # Checks that ask the store now.
        self._checks = UnderWay()
        self._closing = False
        # Claims of settles under way, and pages of a sweep.
        self._claiming: set[asyncio.Future[None]] = set()
        self._ending: set[asyncio.Future[SweptPage]] = set()

    async def live_lease(self, slot: Slot) -> HeldLease | None:
        """Return the slot's lease if it is live."""
        lease = await self._ask(self._operations.lease(slot))
        if lease is not None and not lease.readable:
            self._faults.noted(f"the row of the lease for {slot} cannot be read: it counts as none")
        return lease if lease is not None and lease.live else None

    async def has_ended(self, slot: Slot, lease_id: str) -> bool:
        """Tell whether a lease is in the slot, and has ended by the store's clock."""
        lease = await self._ask(self._operations.lease(slot))
        return lease is not None and lease.lease_id == lease_id and not lease.live

    async def plan_acquire(self, slot: Slot) -> AcquirePlan | None:
        """Tell the lease to ask for; None while a live one is in the slot."""
        if await self.live_lease(slot) is not None:
            return None
        return self._core.plan_shared_acquire(slot[1])

    async def plan_extend(self, slot: Slot, required_credits: float | None) -> ExtendPlan | None:
        """Tell the extend to ask for; None if none is due, or the lease has expired."""
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
    ) -> str:
        """Put a lease into a slot without a live one; return the id of the lease that is there.

        `free` are the credits that may be spent of it, where that is not the whole grant.
        """
        installing = self._operations.install(slot, lease_id, granted, expires_at, free)
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
        """Let the store hear of what is about to be billed; best effort.

        Should this process die, what was billed must not come back to the lease: neither as a hold
        that was not claimed nor with the rest of a slab.
        """
        if self._claiming:
            await asyncio.wait(set(self._claiming))
        await self._claim_settles()
        try:
            await self._slabs.note_uses()
        except StoreError as error:
            self._faults.store_failed("slabs", error)
        else:
            self._faults.store_answered("slabs")

    async def sweep(self) -> None:
        """Give expired holds back, of every process; make the claims that are still open."""
        self._core.sweep()
        self._slabs.settle_closed()
        await self._slabs.look()
        # A process whose clock is fast must not end what others hold.
        now = await self._ask(self._operations.now())
        if await self._claim_again(now):
            await self._sweep(now)

    async def close(self, timeout: float) -> None:
        """Settle every slab and make the claims that are still open, in so many seconds.

        Checks that are under way come to their end first: each has its hold then, or has given
        back what it debited.
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
            _, late = await asyncio.wait(ending, timeout=max(0.0, until - loop.time()))
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        await self._store.close()

    def inherit(self, other: SharedStore) -> None:
        """Go on where a store ended whose loop ended under it."""
        self._claims += other._claims
        self._slabs.inherit(other._slabs)

    async def finish(
        self, pending: PendingCheck, timeout: float
    ) -> CheckResult | PendingCheck | None:
        """Do what a pending check needs of the store; None if that takes longer than `timeout`.

        What a check comes to hold that ended sooner, or was cancelled, is given back.
        """
        if self._closing:
            return None
        work = finish(self._operations, pending, self._faults)
        if timeout >= STORE_TIMEOUT:
            return await self._run_check(work, timeout)
        # The store has longer than the check: it may have made the debit, and only be slow to say so.
        running = asyncio.ensure_future(self._run_check(work, STORE_TIMEOUT))
        try:
            await asyncio.wait({running}, timeout=timeout)
            return await running if running.done() else None
        finally:
            running.cancel()

    async def _run_check(
        self, work: Operation[CheckResult | PendingCheck], timeout: float
    ) -> CheckResult | PendingCheck:
        """Ask the store for a check. If the caller is cancelled, that goes on, and counts until then."""
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
        self._claiming.add(ended)

        def end(_: bool | None) -> None:
            self._claiming.discard(ended)
            ended.set_result(None)

        try:
            await self._try(Claim.of(owed), end)
        except asyncio.CancelledError:
            raise  # it goes on, and has not ended yet
        except BaseException:
            end(None)
            raise
        end(None)

    async def _try(self, claim: Claim | SlabClaim, late: Late[bool] = None) -> bool:
        """Claim a hold that is settled; tells whether the store has answered."""
        try:
            await self._ask(claim.make(self._operations, self._core), late)
        except StoreError as error:
            self._faults.store_failed("claim", error)
            return False
        self._faults.store_answered("claim")
        return True

    async def _insist(self, claim: Claim | SlabClaim) -> None:
        """Claim a hold that is settled, again and again: there is no later sweep.

        If it is cut short, the store of a later loop goes on with it.
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
        """Make the claims that are open, until one fails: then the store needs a rest.

        Returns whether none is left. Until then this process must end no hold that has lapsed, as
        it may be one that it owes a claim.
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
        # One that is cut short stays where it is: to make it twice does no harm.
        while self._claims and await self._try(self._claims[0]):
            self._claims.pop(0)
        return not self._claims

    async def _claim_settles(self) -> bool:
        """Make the claims that settles owe, until one fails; tells whether none has failed."""
        for owed in self._core.owed_claims():
            if not await self._try(Claim.of(owed)):
                return False
        return True

    async def _sweep(self, now: float) -> None:
        """End the holds that have lapsed, page by page. A page that is begun is finished."""
        for _ in range(PAGES):
            page = asyncio.ensure_future(self._ask(self._operations.sweep_page(now)))
            self._ending.add(page)
            page.add_done_callback(self._ended)
            if not (await asyncio.shield(page)).is_full:
                break

    def _ended(self, page: asyncio.Future[SweptPage]) -> None:
        self._ending.discard(page)
        if not page.cancelled():
            page.exception()  # a sweep that was cut short has nobody else to take it

    def claim_later(self, claim: Claim | SlabClaim) -> None:
        """Claim a hold at the next sweep."""
        self._claims.append(claim)

    async def _ask(self, operation: Operation[T], late: Late[T] = None) -> T:
        return await self._store.run(operation, STORE_TIMEOUT, late)

    def _abandon(self, answer: CheckResult | PendingCheck | None) -> None:
        """Give back what a check has come to hold that nobody waits for any longer."""
        self._checks.end()
        if isinstance(answer, CheckResult) and answer.reservation is not None:
            self.claim_later(Claim(answer.reservation, 0.0))


class UnderWay:
    """Counts what is under way, so that somebody can wait until nothing is."""

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
        """Wait until nothing is under way, so many seconds at most."""
        over = asyncio.get_running_loop().call_later(timeout, self._over.set)
        self._over.clear()
        try:
            if self._count:
                await self._over.wait()
        finally:
            over.cancel()


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
        settle: settles the reservation of a slab, again and again until it is done.
        faults: where slabs that were lost are told of.

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
        """Hear what the rows of slabs say. Raises `StoreError`.

        A slab whose row is gone is dropped. A hold that has lapsed may have been settled elsewhere;
        if a copy of it has left and nobody tells, it counts as used, so that it cannot come back
        though it was billed.
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

        A slab whose row is gone is dropped.

        One at a time: usage that is on its way to a row must be there before it is billed, too.
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
                self._uses = noted | self._uses
                raise
            for (row, _), is_there in zip(noted.values(), said, strict=True):
                if is_there is None:
                    self._drop_lost(row)

    def inherit(self, other: Slabs) -> None:
        """Go on where another ended whose loop ended under it."""
        self._uses |= other._uses

    def close(self) -> list[SlabClaim]:
        """Take nothing more from any slab; what is left to settle of them."""
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
        """Say what the loss of a slab's row comes to: its credits may be in the lease again."""
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
        # A part is left for the other processes: a lease that is small serves its checks one by one.
        size = min(plan.credits, lease.remaining // SHARE)
        if size < plan.smallest:
            return
        taken = await self._ask(self._take(slot, size, plan), self._return)
        if taken is None:
            return
        if taken.failure is not None:
            # If its row is there, or yet will be, its claim or a sweep gives the credits back.
            self._return(taken)
            raise taken.failure
        self._core.open_slab(taken.row, plan, taken.usable_for)

    def _take(self, slot: Slot, size: float, plan: SlabPlan) -> Operation[_Taken | None]:
        """Debit a slab and record it, or give it back: in one go, whoever waits for it."""
        debit = yield from self._operations.try_reserve(slot, size)
        if isinstance(debit, Refused):
            return None
        # The row lapses by the store's clock, and what is held of the slab by a steady one of our own,
        # which began to run before the store told its time.
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
        # The server takes back what is left of a lease that has expired.
        return _Taken(row, min(plan.usable_for, debit.expires_at - debit.at), None)

    def _return(self, taken: _Taken | None) -> None:
        """Settle a slab that is not to be opened."""
        if taken is not None:
            self._settle(self._claim(taken.row, 0.0))


def _note(
    row: Reservation, used: float = 0.0, ended: Sequence[tuple[str, float | None]] = ()
) -> SlabNote:
    return SlabNote(row.id, (row.company_id, row.credit_type_id), used, ended)
