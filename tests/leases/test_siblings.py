"""Processes without a shared store that are handed one lease: together they never have more than it."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from schematic_native._native import Core
from schematic_native.config.lease_settings import LeaseSettings
from schematic_native.ground.fault_log import FaultLog
from schematic_native.leases.manager import Leases
from schematic_native.leases.work import Work
from schematic_native.service.errors import ApiError
from schematic_native.service.responses import GrantedLease

if TYPE_CHECKING:
    from collections.abc import Callable

SLOT = ("comp_acme", "credit_inference")
START = 1_700_000_000.0
PROCESSES = 3
SIZE = 1000.0


class Service:
    """Keeps one lease for the slot, and hands it to everybody who asks, as the real one does."""

    def __init__(self, keep: Callable[[float], float]) -> None:
        self.now = START
        self.totals: dict[str, float] = {}
        self._keep = keep
        self._current: tuple[str, float] | None = None

    def acquire(self, amount: float, ends: float) -> GrantedLease:
        if self._current is None or self._current[1] <= self.now:
            self._current = f"lse_{len(self.totals)}", self._keep(ends)
            self.totals[self._current[0]] = amount
        lease_id, end = self._current
        return GrantedLease(lease_id, self.totals[lease_id], end)

    def extend(self, lease_id: str, amount: float, ends: float) -> GrantedLease:
        if self._current is None or self._current[0] != lease_id or self._current[1] <= self.now:
            raise ApiError(f"{lease_id} has ended", 400)
        self.totals[lease_id] += amount
        end = max(self._current[1], self._keep(ends))
        self._current = lease_id, end
        return GrantedLease(lease_id, self.totals[lease_id], end)

    def is_lent(self, lease_id: str) -> bool:
        return self._current is not None and self._current[0] == lease_id

    def release(self, lease_id: str) -> None:
        if self._current is not None and self._current[0] == lease_id:
            self._current = None


class Process:
    """The lease manager of one process; answers of the service may be lost on the way to it."""

    def __init__(self, service: Service, duration: float, slow: float, jitter: float) -> None:
        self._service = service
        self.core = Core(
            api_key="k",
            clock=lambda: service.now - slow,
            lease_size=SIZE,
            lease_duration=duration,
        )
        faults = FaultLog(logging.getLogger("siblings"), "")
        self.leases = Leases(Work(self.core, self, faults), LeaseSettings(), jitter=lambda: jitter)
        self.is_lost = False
        self.goes_on = asyncio.Event()
        self.acquiring: asyncio.Task[object] | None = None

    async def acquire_lease(
        self, _company: str, _credit: str, amount: float, ends: float
    ) -> GrantedLease:
        lease = self._service.acquire(amount, ends)
        if not self.is_lost:
            return lease
        await self.goes_on.wait()
        lease = self._service.acquire(amount, ends)
        return GrantedLease(lease.lease_id, lease.granted, lease.expires_at, is_retried=True)

    async def extend_lease(self, lease_id: str, amount: float, ends: float) -> GrantedLease:
        return self._service.extend(lease_id, amount, ends)

    async def release_lease(self, lease_id: str, _deadline: float | None = None) -> None:
        self._service.release(lease_id)


# Few, so that two processes often pick the same millisecond.
JITTERS = [0.1, 0.100_01, 0.100_02, 0.9]


def drawn(jitters: st.SearchStrategy[list[float]]) -> Any:
    """Draw the processes of a machine, each with its lease's duration, its clock, and the end it asks for."""
    of_each = {"min_size": PROCESSES, "max_size": PROCESSES}
    return initialize(
        durations=st.lists(st.sampled_from([60.0, 300.0]), **of_each),
        slow=st.lists(st.sampled_from([0.0, 2.0]), **of_each),
        jitters=jitters,
        in_millis=st.booleans(),
    )


class Siblings(RuleBasedStateMachine):
    """Any order of acquires, lost answers, retries and extends."""

    too_much = 0.0  # credits that processes may have beyond what was granted

    def __init__(self) -> None:
        super().__init__()
        self.processes: list[Process] = []

    @drawn(st.permutations(JITTERS).map(lambda drawn: drawn[:PROCESSES]))
    def begin(
        self, durations: list[float], slow: list[float], jitters: list[float], in_millis: bool
    ) -> None:
        self.open(durations, slow, jitters, in_millis)

    def open(
        self, durations: list[float], slow: list[float], jitters: list[float], in_millis: bool
    ) -> None:
        self.loop = asyncio.new_event_loop()
        keep = (lambda end: int(end * 1000) / 1000) if in_millis else (lambda end: end)
        self.service = Service(keep)
        self.processes = [
            Process(self.service, *of) for of in zip(durations, slow, jitters, strict=True)
        ]

    def teardown(self) -> None:
        if not self.processes:
            return
        for process in self.processes:
            process.goes_on.set()
        for process in self.processes:
            if process.acquiring is not None:
                self.loop.run_until_complete(process.acquiring)
        self.loop.close()

    def _idle(self) -> list[Process]:
        return [one for one in self.processes if one.acquiring is None]

    @rule(which=st.integers(0, PROCESSES - 1))
    def acquire(self, which: int) -> None:
        process = self.processes[which]
        if process.acquiring is None:
            self.loop.run_until_complete(process.leases.acquire_if_needed(*SLOT))

    @rule(which=st.integers(0, PROCESSES - 1))
    def acquire_and_lose_the_answer(self, which: int) -> None:
        process = self.processes[which]
        if process.acquiring is not None:
            return
        process.is_lost = True
        process.acquiring = self.loop.create_task(process.leases.acquire_if_needed(*SLOT))
        for _ in range(5):
            self.loop.run_until_complete(asyncio.sleep(0))
        if process.acquiring.done():  # its lease was live
            process.is_lost, process.acquiring = False, None

    @precondition(lambda self: len(self._idle()) < PROCESSES)
    @rule(which=st.integers(0, PROCESSES - 1))
    def answer_the_retry(self, which: int) -> None:
        process = self.processes[which]
        if process.acquiring is None:
            return
        process.goes_on.set()
        self.loop.run_until_complete(process.acquiring)
        process.is_lost, process.acquiring = False, None
        process.goes_on.clear()

    @rule(which=st.integers(0, PROCESSES - 1), more=st.sampled_from([1.0, 500.0, 2500.0]))
    def extend(self, which: int, more: float) -> None:
        process = self.processes[which]
        lease = process.core.lease(*SLOT)
        if lease is not None:
            extending = process.leases.maybe_extend(*SLOT, lease.remaining + more)
            self.loop.run_until_complete(extending)

    @rule(seconds=st.sampled_from([0.5, 59.0, 301.0]))
    def pass_time(self, seconds: float) -> None:
        self.service.now += seconds

    @invariant()
    def never_more_than_was_granted(self) -> None:
        held: dict[str, float] = {}
        for process in self.processes:
            lease = process.core.lease(*SLOT)
            if lease is not None:
                held[lease.lease_id] = held.get(lease.lease_id, 0.0) + lease.granted
        most = {one: total + self.too_much for one, total in self.service.totals.items()}
        over = {one: total for one, total in held.items() if total > most[one]}
        assert over == {}


async def test_a_lease_that_ends_before_a_slow_clock_says_so_is_replaced():
    service = Service(keep=lambda end: end)
    slow = Process(service, duration=60.0, slow=2.0, jitter=0.0)
    await slow.leases.acquire_if_needed(*SLOT)
    service.now += 59.0
    lease = slow.core.lease(*SLOT)
    assert (lease.lease_id, lease.expires_at - slow.core.now()) == ("lse_0", 1.0)
    await slow.leases.maybe_extend(*SLOT, 2.5 * SIZE)
    lease = slow.core.lease(*SLOT)
    assert (lease.lease_id, lease.remaining) == ("lse_1", 2.5 * SIZE)
    assert service.totals == {"lse_0": SIZE, "lse_1": 2.5 * SIZE}


class Twins(Siblings):
    """Processes of which several draw the same end, to the microsecond: each takes the grant for its own.

    That is all that they have too much: one grant for each process but one, however much they extend.
    """

    too_much = (PROCESSES - 1) * SIZE

    @drawn(st.just([0.1] * PROCESSES))
    def begin(
        self, durations: list[float], slow: list[float], jitters: list[float], in_millis: bool
    ) -> None:
        self.open(durations, slow, jitters, in_millis)


async def test_two_that_draw_the_same_end_have_one_grant_too_much_and_never_more():
    service = Service(keep=lambda end: end)
    twins = [Process(service, duration=300.0, slow=0.0, jitter=0.5) for _ in range(2)]
    for twin in twins:
        await twin.leases.acquire_if_needed(*SLOT)
    for _ in range(3):
        for twin in twins:
            lease = twin.core.lease(*SLOT)
            await twin.leases.maybe_extend(*SLOT, lease.remaining + 1)
    held = sum(twin.core.lease(*SLOT).granted for twin in twins)
    assert service.totals == {"lse_0": 7 * SIZE}
    assert held == 8 * SIZE
    for twin in twins:
        await twin.leases.close(asyncio.get_running_loop().time() + 1)
    assert service.is_lent("lse_0"), "each has seen that there are others"


@pytest.mark.parametrize("apart", [-2, -1, 1, 2])
async def test_an_end_one_microsecond_off_is_that_of_another_process(apart):
    service = Service(keep=lambda end: round(end + apart / 1e6, 6))
    process = Process(service, duration=300.0, slow=0.0, jitter=0.5)
    await process.leases.acquire_if_needed(*SLOT)
    assert service.totals == {"lse_0": 2 * SIZE}, "it was extended by a share of its own"
    assert process.core.lease(*SLOT).granted == SIZE


async def test_a_twin_takes_no_share_that_others_have_added_meanwhile():
    service = Service(keep=lambda end: end)
    first, second, third = (
        Process(service, duration=300.0, slow=0.0, jitter=jitter) for jitter in (0.5, 0.9, 0.5)
    )
    for process in (first, second, third):
        await process.leases.acquire_if_needed(*SLOT)
        await process.leases.maybe_extend(*SLOT, 1.5 * SIZE)
    held = [process.core.lease(*SLOT).granted for process in (first, second, third)]
    assert held == [2 * SIZE] * 3
    assert service.totals == {"lse_0": 6 * SIZE}


TestSiblings = Siblings.TestCase
TestSiblings.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
TestTwins = Twins.TestCase
TestTwins.settings = TestSiblings.settings
