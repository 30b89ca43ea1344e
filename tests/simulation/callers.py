"""A pod's callers: they check, settle and hold credits, and each call must come back in time."""

from __future__ import annotations

import asyncio
import math
from functools import partial
from typing import TYPE_CHECKING, Any

from schematic_native import (
    CheckResult,
    CreditBalance,
    Reservation,
    TrackWithReservationOptions,
)
from schematic_native.api import ApiError
from tests.simulation import worlds
from tests.simulation.gate_caller import SLACK, GateCaller
from tests.simulation.judge import Block

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from tests.simulation.disk import PodSpool
    from tests.simulation.network import Link

TIMEOUT = 2.0
WORK_STEPS = 3
LARGE = 12.0
PADDING = {"padding": "." * 5000}
SETTLE_LIMIT = 1.0 + SLACK


class Callers(GateCaller):
    """What such callers need of a pod, and what they do with its client."""

    spool: PodSpool | None
    to_redis: Link
    holds: list[Reservation]
    settled: list[Reservation]
    settling_at: dict[str, float]
    callers: list[asyncio.Task[None]]
    frozen_for: float

    @property
    def runs(self) -> bool:
        """Whether callers can use it."""
        raise NotImplementedError

    def _answered(self, result: CheckResult) -> None:
        """Note what a check has come to."""
        raise NotImplementedError

    def check(self, company: int, usage: float, timeout: float, failure: str) -> None:
        """Check a flag for a usage."""
        self._call(self._check(company, usage, timeout, failure))

    async def _check(self, company: int, usage: float, timeout: float, failure: str) -> None:
        slot = self.simulation.slots[company % len(self.simulation.slots)]
        keys = {"id": slot[0]}

        def check() -> Coroutine[Any, Any, CheckResult]:
            return self.client.check(
                worlds.FLAG,
                keys,
                usage=usage,
                timeout=timeout,
                on_acquire_failure=failure,  # type: ignore[arg-type]
            )

        result = await self._timed("check", check, timeout + SLACK)
        if result is not None:
            self._answered(result)

    def settle(self, which: int, share: float) -> None:
        """Settle one of the open holds."""
        if self.holds:
            hold = self.holds.pop(which % len(self.holds))
            self.settled.append(hold)
            self.settle_hold(hold, share)

    def be_busy(self, company: int, usage: float, count: int, gap: float) -> None:
        """Check again and again, and settle two holds of three; the others stay open, and a large one in the end."""
        later = self.simulation.world.later
        for number in range(count):
            call = partial(self._check_and_settle, self.name, company, usage, number % 3 > 0)
            later(number * gap, call)
        # About half of the slab that such a demand comes to.
        later(count * gap, self._check_and_settle, self.name, company, usage * LARGE, False)

    def _check_and_settle(self, name: str, company: int, usage: float, is_settled: bool) -> None:
        if name == self.name and self.runs:
            self.check(company, usage, TIMEOUT, "fail-closed")
            if is_settled:
                self.settle(-1, 1.0)

    def settle_all(self, share: float) -> None:
        """Settle all open holds at once."""
        while self.holds:
            self.settle(0, share)

    def settle_again(self, which: int, share: float) -> Reservation | None:
        """Settle a hold that was settled before, and return it."""
        if not self.settled:
            return None
        hold = self.settled[which % len(self.settled)]
        self.settle_hold(hold, share)
        return hold

    def give(self, other: Callers, which: int, share: float) -> None:
        """Have a hold settled by another pod."""
        if self.holds:
            hold = Reservation.from_dict(self.holds.pop(which % len(self.holds)).to_dict())
            other.settled.append(hold)
            self.simulation.judge.holds[hold.id].is_given = True
            self.simulation.judge.seen["a hold was settled in another process"] += other is not self
            other.settle_hold(hold, share)

    def hand_over(self, other: Callers, share: float) -> None:
        """Have all open holds settled by another pod."""
        while self.holds:
            self.give(other, 0, share)

    def settle_hold(self, hold: Reservation, share: float) -> None:
        """Settle a hold with a share of what was asked for."""
        quantity = round(hold.quantity_reserved * share, 3)
        self._call(self._settle(hold, quantity))

    async def _settle(self, hold: Reservation, quantity: float) -> None:
        self.simulation.tell(lambda: f"{self.name}: settle {quantity:g} of {hold.id}")
        self.simulation.judge.settling(hold.id, math.ceil(quantity), self.name)
        self.settling_at[hold.id] = self.simulation.world.now
        await self._timed("settle", lambda: self._settle_and_spool(hold, quantity), SETTLE_LIMIT)

    async def _settle_and_spool(self, hold: Reservation, quantity: float) -> None:
        spool, client = self.spool, self.client
        # Large enough that segments are soon full.
        options = None if spool is None else TrackWithReservationOptions(traits=PADDING)
        before = client._core.spool_counts()
        await client.track_with_reservation(hold, quantity, options)
        after = client._core.spool_counts()
        if spool is not None and before is not None and after is not None:
            if before["refused"] == after["refused"]:
                spool.keep(hold.id)
            else:
                self.simulation.judge.seen["a full spool refused usage"] += 1

    def prewarm(self, company: int) -> None:
        """Acquire a lease in advance."""
        company_id, credit = self.simulation.slots[company % len(self.simulation.slots)]

        def warm() -> Coroutine[Any, Any, None]:
            return self.client.prewarm({"id": company_id}, [credit])

        self._call(self._timed("prewarm", warm, TIMEOUT + SLACK))

    def ask_balance(self, company: int) -> None:
        """Ask how many credits there are of a company."""
        self._call(self._ask_balance(*self.simulation.slots[company % len(self.simulation.slots)]))

    async def _ask_balance(self, company_id: str, credit: str) -> None:
        async def ask() -> CreditBalance | None:
            try:
                return await self.client.get_credit_balance({"id": company_id}, credit)
            except (ApiError, RuntimeError):
                return None  # it is not in memory, or the client has shut down

        sums = self.simulation.redis.sums
        before = self.simulation.changes, sums[self.name]
        balance = await self._timed("balance", ask, math.inf)
        is_asked_alone = before == (self.simulation.changes, sums[self.name] - 1)
        if (
            balance is not None
            and is_asked_alone
            and self.runs  # Redis is not asked for one that shuts down
            and self.to_redis.failed_at < self.loop.time() - 1
        ):
            self.simulation.look_at_reserved((company_id, credit), balance.reserved)

    def hold(self, company: int, usage: float, share: float, seconds: float) -> None:
        """Hold credits for a block of work that takes so long, and uses a share of its usage."""
        self._call(self._hold(company, usage, share, seconds))

    async def _hold(self, company: int, usage: float, share: float, seconds: float) -> None:
        simulation = self.simulation
        keys = {"id": simulation.slots[company % len(simulation.slots)][0]}
        name, client = str(len(simulation.judge.blocks)), self.client
        block = simulation.judge.blocks[name] = Block(self.name)

        async def work() -> None:
            async with client.hold(
                worlds.FLAG, keys, usage=usage, timeout=TIMEOUT, traits={"block": name}
            ) as hold:
                try:
                    for _ in range(WORK_STEPS):
                        await asyncio.sleep(seconds / WORK_STEPS)
                        # What is used after a shutdown cannot be billed.
                        if hold.allowed and self.runs and self.client is client:
                            block.used += usage * share / WORK_STEPS
                            hold.use(usage * share / WORK_STEPS)
                finally:
                    # A shutdown bills what was used of credits, and nothing of a block that holds none.
                    is_held = hold.result.reservation is not None
                    block.is_over = is_held or (self.runs and self.client is client)

        await self._timed("hold", work, seconds + TIMEOUT + SETTLE_LIMIT + SLACK)
        simulation.tell(lambda: f"{self.name}: block {name} has used {block.used:g}")

    def cancel(self, which: int) -> None:
        """Cancel a call where it waits."""
        waiting = [task for task in self.callers if not task.done()]
        if waiting:
            waiting[which % len(waiting)].cancel()

    def _call(self, work: Coroutine[Any, Any, None]) -> None:
        self.callers = [task for task in self.callers if not task.done()]
        self.callers.append(self.loop.create_task(work))

    async def _timed(
        self, what: str, call: Callable[[], Coroutine[Any, Any, Any]], limit: float
    ) -> Any:
        """Await a call that must come back in time, and must not raise."""
        world, judge = self.simulation.world, self.simulation.judge
        begun, frozen = world.now, self.frozen_for
        try:
            result = await call()
        except asyncio.CancelledError:
            self.simulation.judge.seen[f"a {what} was cancelled"] += 1
            return None
        except Exception as error:  # noqa: BLE001 - none may raise
            self.simulation.fail(partial(judge.raised, what, error))
            return None
        seconds = world.now - begun - (self.frozen_for - frozen)
        self.simulation.fail(lambda: judge.called(what, seconds, limit))
        return result
