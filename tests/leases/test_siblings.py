"""Processes without a shared store that are handed one lease: together they never have more than it."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

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


class Siblings(RuleBasedStateMachine):
    """Any order of acquires, lost answers, retries and extends."""

    def __init__(self) -> None:
        super().__init__()
        self.processes: list[Process] = []

    @initialize(
        durations=st.lists(st.sampled_from([60.0, 300.0]), min_size=PROCESSES, max_size=PROCESSES),
        slow=st.lists(st.sampled_from([0.0, 2.0]), min_size=PROCESSES, max_size=PROCESSES),
        jitters=st.lists(
            # Few, so that two processes often pick the same millisecond.
            st.sampled_from([0.1, 0.100_01, 0.100_02, 0.9]),
            min_size=PROCESSES,
            max_size=PROCESSES,
            unique=True,
        ),
        in_millis=st.booleans(),
    )
    def begin(
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
        over = {one: total for one, total in held.items() if total > self.service.totals[one]}
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


TestSiblings = Siblings.TestCase
TestSiblings.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
