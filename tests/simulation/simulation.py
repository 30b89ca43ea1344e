"""One schedule, run: the world, its servers and pods, and the judge who looks after each step."""

from __future__ import annotations

import math
import random
from asyncio import events
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from schematic_native.emulator.credits.amounts import to_credits
from tests.simulation import worlds
from tests.simulation.coverage import waiting_at
from tests.simulation.disk import Disk
from tests.simulation.ending import RESERVATIONS, Ending
from tests.simulation.judge import TOLERANCE, Judge, ViolationError
from tests.simulation.machine import EPOCH, Clock
from tests.simulation.pods import Pod
from tests.simulation.redis_model import RedisModel
from tests.simulation.redis_server import RedisServer
from tests.simulation.remains import Remains, close
from tests.simulation.sequences import Sequences
from tests.simulation.service_server import ServiceServer
from tests.simulation.sharing import Sharing
from tests.simulation.steps import LEASES
from tests.simulation.world import EndlessError, World

if TYPE_CHECKING:
    import asyncio
    import logging
    from collections.abc import Callable, Sequence

    from schematic_native import Reservation
    from tests.simulation.schedules import Scenario, Schedule, Step

RESERVATION = b"schematic:credit-reservation:"
STARTING = 0.05
# Seconds after an exchange with Redis in which what it came to is made up for, besides a sweep.
PATIENCE = 3.0
HALF_A_MILLISECOND = 0.0005
# Milliseconds that the row of a hold outlives it at least, so that a sweep finds it.
KEPT = 29_000


@dataclass
class Outcome:
    """What a schedule has come to."""

    schedule: Schedule
    violation: str | None = None
    steps: int = 0
    hits: Counter[tuple[str, str]] = field(default_factory=Counter)
    deaths: Counter[str] = field(default_factory=Counter)
    seen: Counter[str] = field(default_factory=Counter)


class Simulation(Ending, Sequences):
    """A schedule and everything that it happens to.

    Args:
        schedule: what happens.
        tell: told what happens, line by line; None tells nobody.
        logger: of the clients; None is silent.

    """

    def __init__(
        self,
        schedule: Schedule,
        tell: Callable[[str], None] | None = None,
        logger: logging.Logger | None = None,
    ) -> None:
        scenario = schedule.scenario
        self.schedule = schedule
        self.logger = logger
        self.world = World(schedule.seed)
        self.judge = Judge(self.has_row, lambda: self.world.now)
        self.hits: Counter[tuple[str, str]] = Counter()
        self.deaths: Counter[str] = Counter()
        self.violation: str | None = None
        self.disks: list[Disk] = []
        self.trace = None if tell is None else self._traced(tell)
        self.slots = worlds.slots(scenario)
        self.service = ServiceServer(self.world, worlds.load(scenario), EPOCH)
        self.service.on_capture = lambda events: self.fail(lambda: self.judge.captured(events))
        self.service.on_release = self._note_release
        self.redis_clock = Clock(self.world)
        self.model = RedisModel(self.redis_clock)
        self.model.is_spread = scenario.is_spread
        self.model.on_row = self._note_row
        self.model.on_delete = self._note_end
        self.model.on_expire = self._note_expiry
        self.redis = RedisServer(self.model)
        self.redis.trace = self.trace
        self.redis.seen = self.service.seen = self.judge.seen
        self._begin_replicating()
        self._copies = []
        self._is_copied = any(kind == "redis fails over" for _, kind, _ in schedule.steps)
        self._buried: list[Remains] = []
        self._sharing = Sharing(self.world)
        self.have_clocks_moved = scenario.skew != 0.0
        self.disks = _disks(self.world, scenario)
        self.pods = [
            Pod(self, number, self.disks[number % len(self.disks)] if self.disks else None)
            for number in range(scenario.pods)
        ]
        self.steps = 0
        self.is_over = False
        self.has_redis_failed = False
        self.changes = 0  # of rows in Redis
        self._recorded: set[str] = set()  # holds that have, or had, a row there
        self.has_redis_forgotten = False

    def _traced(self, tell: Callable[[str], None]) -> Callable[[str], None]:
        def trace(text: str) -> None:
            for number, disk in enumerate(self.disks):
                text = text.replace(f"{disk.root}", f"disk{number}")
            tell(f"{self.world.now:10.6f}  {text}")

        return trace

    def tell(self, text: Callable[[], str]) -> None:
        """Tell what happens, if anybody listens."""
        if self.trace is not None:
            self.trace(text())

    def fail(self, look: Callable[[], None]) -> None:
        """Look whether a promise was broken; the first one that was stands."""
        if self.is_over:
            return
        try:
            look()
        except ViolationError as violation:
            self._note_violation(str(violation))

    def _note_violation(self, violation: str) -> None:
        self.tell(lambda: f"VIOLATION: {violation}")
        self.violation = self.violation or violation

    def run(self) -> Outcome:
        """Run the schedule to its end, or to the first promise that is broken."""
        try:
            self._run()
        except (ViolationError, EndlessError) as violation:
            self._note_violation(str(violation))
        finally:
            self._dispose()
        return Outcome(
            self.schedule, self.violation, self.steps, self.hits, self.deaths, self.judge.seen
        )

    def _run(self) -> None:
        self.world.run(STARTING)
        for step in self.schedule.steps:
            self._take(step)
            if self.violation is not None:
                return
        self._finish()

    def _take(self, step: Step) -> None:
        gap, kind, particulars = step
        if gap:
            self.world.run(gap)
            self._look()
        if self._is_copied:
            self._copies.append((self.world.now, self.model.copy()))
        self.steps += 1
        self.tell(lambda: f"step {self.steps}: {kind} {particulars}")
        getattr(self, f"_do_{kind.replace(' ', '_')}")(*particulars)

    def _look(self) -> None:
        """Have the judge look."""
        ledger = self.service.service.ledger
        granted = {lease.id: to_credits(lease.granted) for lease in ledger.leases.values()}
        granted |= {hold.id: to_credits(hold.reserved) for hold in ledger.reservations.values()}
        self.judge.check(granted, self.model.rows(LEASES).values())
        if self.schedule.scenario.store == "memory":
            shares = [(pod.name, lease) for pod, lease in self._shares()]
            self.judge.check_shares(granted, shares)
            if not self.may_rejoin:
                self.judge.check_own(shares)
        for pod in self.pods:
            self._look_at_failures(pod)

    def _shares(self) -> list[tuple[Pod, Any]]:
        """Return the leases that running pods have in memory."""
        return [
            (pod, lease)
            for pod in self.pods
            for slot in (self.slots if pod.runs else ())
            if (lease := pod.client._core.lease(*slot)) is not None
        ]

    def _look_at_failures(self, pod: Pod) -> None:
        for failure in (*pod.loop.failures, *self.service.loop.failures):
            raise ViolationError(f"{pod.name}: nobody took {failure!r}")

    def _note_row(self, words: Sequence[bytes]) -> None:
        """A lease that is put into Redis may be there not to be spent, as nobody knows what was spent of it."""
        key, *pairs = words
        self.changes += 1
        if key.startswith(RESERVATION):
            self._recorded.add(key.removeprefix(RESERVATION).decode())
        if key.startswith(LEASES) and pairs[0] == b"leaseId":
            row = dict(zip(pairs[::2], pairs[1::2], strict=True))
            unlent = float(row[b"grantedAmount"]) - float(row[b"localRemainingCredits"])
            self.judge.leaks[row[b"leaseId"].decode()] += unlent
            self.judge.seen["a lease was put into Redis anew, with nothing to spend"] += unlent > 0

    def _note_release(self, name: str, lease_id: str) -> None:
        """A pod gives a lease back: what was settled of it there must be billed by then, if nothing was in the way."""
        for pod in self.pods:
            if pod.name == name:
                settled = {
                    hold_id
                    for hold_id, begun in pod.settling_at.items()
                    if pod.to_service.failed_at < begun < pod.closing_at
                }
                self.fail(lambda settled=settled: self.judge.released(lease_id, settled))
                if self.schedule.scenario.store == "memory" and not self.have_clocks_moved:
                    shares = self._shares()
                    self.fail(
                        lambda pod=pod, shares=shares: self._sharing.given_back(
                            pod, lease_id, shares
                        )
                    )

    def _note_end(self, key: bytes) -> None:
        """Let the judge know before a hold ends in Redis whether it has lapsed by then."""
        self.changes += 1
        if not key.startswith(RESERVATIONS):
            return
        hold_id = key.rpartition(b":")[2].decode()
        self.judge.ends(hold_id)
        hold = self.judge.holds.get(hold_id)
        if hold is not None and hold.is_lapsed and hold.owner != self.redis.caller:
            self.judge.seen["a sweep ended the hold of another pod"] += 1

    def _note_expiry(self, key: bytes, row: Any) -> None:
        """Nobody ran who would have swept a hold: its credits come back when the lease ends."""
        self.changes += 1
        if key.startswith(RESERVATIONS) and b"creditsReserved" in row:
            self.is_index_uncertain = True
            kept = self.model.now() - int(row[b"expiresAt"])
            if kept < KEPT and not self.have_clocks_moved:
                self._note_violation(
                    f"the row of a hold was forgotten {kept} ms after it had lapsed"
                )
            self.judge.leaks[row[b"leaseId"].decode()] += float(row[b"creditsReserved"])

    # What pods tell

    def lapse_of(self, pod: Pod, hold: Reservation) -> Callable[[], bool]:
        """Return what tells whether a hold has lapsed, by whoever decides that."""
        ends, store = hold.expires_at.timestamp(), self.schedule.scenario.store
        clock, redis_clock, world = pod.clock, self.redis_clock, self.world
        steady_end = world.now + self.schedule.scenario.ttl
        if hold.mode == "server":
            return lambda: EPOCH + world.now >= ends
        # A clock that a client is handed counts as the nearest of its milliseconds.
        by_clock = ends - HALF_A_MILLISECOND
        if store == "memory":
            return lambda: clock() >= by_clock
        if store == "redis":
            return lambda: redis_clock() >= ends
        return lambda: redis_clock() >= ends or clock() >= by_clock or world.now >= steady_end

    def note_death(self, pod: Pod) -> None:
        """A pod dies: see where."""
        self.tell(lambda: f"{pod.name}: dies")
        for place in waiting_at(pod.loop.tasks):
            self.deaths[place] += 1
        judge = self.judge
        judge.undeliverable.add(pod.name)
        settled = judge.settled_by(pod.name)
        has_usage = bool(pod.client.status().queued_events)
        if pod.spool is not None:
            settled = pod.spool.die(pod.client._core, settled)
            judge.seen["a pod died with usage that is on its disk"] += has_usage
        judge.excused |= settled
        judge.seen["a pod died with usage that was not delivered"] += has_usage
        mine = [h for h in judge.holds.values() if h.settler == pod.name and h.is_settling]
        # What was billed was told to Redis before, unless Redis did not hear.
        was_deaf = self._may_be_deaf(pod)
        judge.doubt(
            h for h in mine if not self._is_claimed(h.id) and (was_deaf or h.id not in judge.billed)
        )
        if self.schedule.scenario.is_spread or self.schedule.scenario.store == "slabs":
            self.may_leak = True

    def _is_claimed(self, hold_id: str) -> bool:
        """Tell whether a hold had a row in Redis that is gone: what was used of it is spent."""
        return hold_id in self._recorded and not self.has_row(hold_id)

    def patience(self, pod: Pod) -> float:
        """Seconds in which a pod makes the claims that it owes, once Redis answers."""
        is_frozen = pod.loop.is_frozen
        return math.inf if is_frozen else self.schedule.scenario.sweep_interval + PATIENCE

    def _may_be_deaf(self, pod: Pod) -> bool:
        """Tell whether Redis may not have heard lately of what a pod has to say."""
        refuses = self.model.is_read_only or self.model.is_full
        return refuses or pod.to_redis.failed_at > self.world.now - self.patience(pod)

    def lateness_of(self, hold_id: str) -> Callable[[], bool]:
        """Return what tells whether Redis need not have heard yet of the settle of a hold."""

        def may_be_late() -> bool:
            for pod in self.pods:
                begun = pod.settling_at.get(hold_id)
                if begun is not None:
                    is_recent = begun > self.world.now - self.patience(pod)
                    return not pod.runs or is_recent or self._may_be_deaf(pod)
            return True

        return may_be_late

    def deafness_of(self, hold_id: str) -> Callable[[], bool]:
        """Return what tells whether Redis may not hear now of the settle of a hold."""

        def is_deaf() -> bool:
            for pod in self.pods:
                if hold_id in pod.settling_at and pod.state in {"runs", "closing"}:
                    return self._may_be_deaf(pod)
            return True

        return is_deaf

    def look_at_lease(self, pod: Pod, hold: Reservation) -> None:
        """Credits must come from a lease that the service has not ended."""
        lease = self.service.service.ledger.leases.get(hold.lease_id)
        if lease is None:
            return
        if (lease.company_id, lease.credit_type_id) != (hold.company_id, hold.credit_type_id):
            self._note_violation(f"hold {hold.id} is of a lease of {lease.company_id}")
        if self.have_clocks_moved or pod.frozen_for:
            return
        ended_for = EPOCH + self.world.now - lease.expires_at
        self.fail(lambda: self.judge.taken(hold.id, hold.lease_id, ended_for))
        if self.schedule.scenario.store == "memory":
            leases = self.service.service.ledger.leases.values()
            self.fail(lambda: self._sharing.taken(pod, lease, leases))

    def look_at_reserved(self, slot: tuple[str, str], told: float) -> None:
        """What is told to be reserved of a slot must be the holds of it, where each is one script's work."""
        scenario = self.schedule.scenario
        self.model.expire()  # what nobody has swept in time leaves its place in the index behind
        if scenario.store != "redis" or scenario.is_spread or self.is_index_uncertain:
            return
        rows = self.model.rows(RESERVATIONS).values()
        held = math.fsum(
            float(row[b"creditsReserved"])
            for row in rows
            if (row.get(b"companyId"), row.get(b"creditTypeId")) == tuple(map(str.encode, slot))
        )
        if not math.isclose(told, held, abs_tol=TOLERANCE):
            self._note_violation(f"{told} are told to be reserved of {slot}, {held} are held")

    def has_row(self, hold_id: str) -> bool:
        """Tell whether a hold is open in Redis."""
        return RESERVATION + hold_id.encode() in self.model.data

    def note_end_of_loop(self, pod: Pod, left: list[asyncio.Task[Any]]) -> None:
        """A loop has ended, and what was cancelled for that has had its time."""
        self._buried.append(Remains(pod.client, pod.loop))
        if left:
            names = ", ".join(sorted(task.get_name() for task in left))
            self._note_violation(f"{pod.name}: {names} went on when the loop was to end")
        self.fail(lambda: self._look_at_failures(pod))

    def ended(self, pod: Pod) -> None:
        """A pod has shut down; what it held of a slab counts as used."""
        if self.schedule.scenario.store == "slabs":
            for hold in self.judge.holds.values():
                is_over = hold.is_settling or hold.id in pod.over_at_close
                if hold.owner == pod.name and not is_over:
                    self.judge.leaks[hold.lease_id] += hold.credits
        self.bury(pod)

    def bury(self, pod: Pod) -> None:
        """Keep what is left of a process until the end, for it must not be taken apart before."""
        self.has_redis_failed |= pod.to_redis.has_failed
        self._buried.append(Remains(pod.client, pod.loop))

    def _dispose(self) -> None:
        self.is_over = True
        self.world.close()
        for pod in self.pods:
            self.bury(pod)
        for remains in self._buried:
            remains.dispose()
        close(self.service.loop)
        for disk in self.disks:
            disk.close()
        # Whatever interrupted a turn of a loop: none runs any longer.
        events._set_running_loop(None)


def _disks(world: World, scenario: Scenario) -> list[Disk]:
    """Return the disks on which spools are: one for all pods, one for each, or none."""
    if scenario.spool is None:
        return []
    count = 1 if scenario.shares_disk else scenario.pods
    return [Disk(world, random.Random(f"{world.random.random()}")) for _ in range(count)]
