"""One schedule, run: the world, its servers and pods, and the judge who looks after each step."""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from schematic_native.emulator.credits.amounts import to_credits
from tests.simulation import worlds
from tests.simulation.coverage import waiting_at
from tests.simulation.judge import Judge, ViolationError
from tests.simulation.machine import EPOCH, Clock
from tests.simulation.network import Fate, Link
from tests.simulation.pods import Pod
from tests.simulation.redis_model import RedisModel
from tests.simulation.redis_server import RedisServer
from tests.simulation.service_server import ServiceServer
from tests.simulation.world import EndlessError, World

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable

    from schematic_native import AsyncSchematic, Reservation
    from tests.simulation.schedules import Schedule, Step

LEASES = b"schematic:credit-lease:"
RESERVATIONS = b"schematic:credit-reservation"
STARTING = 0.05
# Seconds until all that waits is delivered once nothing is wrong any more: the longest pause between two tries.
DELIVERY = 45.0
# Seconds after an exchange with Redis in which what it came to is made up for, besides a sweep.
PATIENCE = 3.0
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


class Simulation:
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
        self.judge = Judge(self.has_row)
        self.hits: Counter[tuple[str, str]] = Counter()
        self.deaths: Counter[str] = Counter()
        self.violation: str | None = None
        self.trace = None if tell is None else self._traced(tell)
        self.slots = worlds.slots(scenario)
        self.service = ServiceServer(self.world, worlds.load(scenario), EPOCH)
        self.service.on_capture = lambda events: self.fail(lambda: self.judge.captured(events))
        self.redis_clock = Clock(self.world)
        self.model = RedisModel(self.redis_clock)
        self.model.is_spread = scenario.is_spread
        self.model.on_row = self._note_row
        self.model.on_delete = self._note_end
        self.model.on_expire = self._note_expiry
        self.redis = RedisServer(self.model)
        self.redis.trace = self.trace
        self.redis.seen = self.service.seen = self.judge.seen
        # What a replica has, for schedules in which it takes over.
        self._copies: list[tuple[float, Any]] = []
        self._is_copied = any(kind == "redis fails over" for _, kind, _ in schedule.steps)
        self._buried: list[_Remains] = []
        self.pods = [Pod(self, number) for number in range(scenario.pods)]
        self.steps = 0
        self.is_over = False
        self.have_clocks_moved = False
        # Whether something has happened after which credits may be missing until the lease ends.
        self.may_leak = False
        self.has_redis_failed = False
        self.has_redis_forgotten = False

    def _traced(self, tell: Callable[[str], None]) -> Callable[[str], None]:
        return lambda text: tell(f"{self.world.now:10.6f}  {text}")

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
            for pod in self.pods:
                for slot in self.slots if pod.runs else ():
                    lease = pod.client._core.lease(*slot)
                    if lease is not None:
                        self.judge.check_share(pod.name, lease)
        for pod in self.pods:
            self._look_at_failures(pod)

    def _look_at_failures(self, pod: Pod) -> None:
        for failure in (*pod.loop.failures, *self.service.loop.failures):
            raise ViolationError(f"{pod.name}: nobody took {failure.get('exception') or failure}")

    def _note_row(self, words: list[bytes]) -> None:
        """A lease that is put into Redis may be there not to be spent, as nobody knows what was spent of it."""
        key, *pairs = words
        if key.startswith(LEASES) and pairs[0] == b"leaseId":
            row = dict(zip(pairs[::2], pairs[1::2], strict=True))
            unlent = float(row[b"grantedAmount"]) - float(row[b"localRemainingCredits"])
            self.judge.leaks[row[b"leaseId"].decode()] += unlent
            self.judge.seen["a lease was put into Redis anew, with nothing to spend"] += unlent > 0

    def _note_end(self, key: bytes) -> None:
        """Let the judge know before a hold ends in Redis whether it has lapsed by then."""
        if not key.startswith(RESERVATIONS):
            return
        hold_id = key.rpartition(b":")[2].decode()
        self.judge.ends(hold_id)
        hold = self.judge.holds.get(hold_id)
        if hold is not None and hold.is_lapsed and hold.owner != self.redis.caller:
            self.judge.seen["a sweep ended the hold of another pod"] += 1

    def _note_expiry(self, key: bytes, row: Any) -> None:
        """Nobody ran who would have swept a hold: its credits come back when the lease ends."""
        if key.startswith(RESERVATIONS) and b"creditsReserved" in row:
            kept = self.model.now() - int(row[b"expiresAt"])
            if kept < KEPT and not self.have_clocks_moved:
                self._note_violation(
                    f"the row of a hold was forgotten {kept} ms after it had lapsed"
                )
            self.judge.leaks[row[b"leaseId"].decode()] += float(row[b"creditsReserved"])

    # Steps

    def _pod(self, number: int) -> Pod:
        return self.pods[number % len(self.pods)]

    def _do_check(self, pod: int, company: int, usage: float, timeout: float, failure: str) -> None:
        if self._pod(pod).runs:
            self._pod(pod).check(company, usage, timeout, failure)

    def _do_settle(self, pod: int, which: int, share: float) -> None:
        if self._pod(pod).runs:
            self._pod(pod).settle(which, share)

    def _do_settle_again(self, pod: int, which: int, share: float) -> None:
        if self._pod(pod).runs:
            hold = self._pod(pod).settle_again(which, share)
            if hold is not None and self.schedule.scenario.store == "slabs":
                # Two who settle one hold of a slab may both take its credits off.
                self.judge.leaks[hold.lease_id] += hold.credits_reserved

    def _do_settle_elsewhere(self, pod: int, other: int, which: int, share: float) -> None:
        if self._pod(pod).runs and self._pod(other).runs:
            self._pod(pod).give(self._pod(other), which, share)

    def _do_cancel(self, pod: int, which: int) -> None:
        if self._pod(pod).runs:
            self._pod(pod).cancel(which)

    def _do_hold(self, pod: int, company: int, usage: float, share: float, seconds: float) -> None:
        if self._pod(pod).runs:
            # Which pieces a block holds is its own business.
            self.may_leak = True
            self._pod(pod).hold(company, usage, share, seconds)

    def _do_prewarm(self, pod: int, company: int) -> None:
        if self._pod(pod).runs:
            self._pod(pod).prewarm(company)

    def _do_wait(self, seconds: float) -> None:
        self.world.run(seconds)

    def _do_kill(self, pod: int, fuse: int) -> None:
        self._pod(pod).kill(fuse)

    def _do_freeze(self, pod: int, seconds: float) -> None:
        if self._pod(pod).runs:
            self.hits["freeze", "pod"] += 1
            self._pod(pod).freeze(seconds)

    def _do_shut_down(self, pod: int) -> None:
        if self._pod(pod).runs:
            self._pod(pod).shut_down()

    def _do_start(self, pod: int) -> None:
        if self._pod(pod).state in {"dead", "shut"}:
            self._pod(pod).start()

    def _do_change_loop(self, pod: int) -> None:
        if self._pod(pod).runs and not self._pod(pod).loop.is_frozen:
            self.hits["loop changed", "pod"] += 1
            self._pod(pod).change_loop()

    def _links(self, server: str) -> list[Link]:
        return [pod.to_service if server == "service" else pod.to_redis for pod in self.pods]

    def _link(self, pod: int, server: str) -> Link:
        return self._links(server)[pod % len(self.pods)]

    def _do_service_fate(self, pod: int, kind: Any, status: int, operation: str | None) -> None:
        self._link(pod, "service").fates.append(Fate(kind, status, operation))

    def _do_redis_fate(self, pod: int, kind: Any, status: int, operation: str | None) -> None:
        self._link(pod, "redis").fates.append(Fate(kind, status, operation))

    def _do_service_status(self, status: int, times: int, operation: str | None) -> None:
        for link in self._links("service"):
            link.fates.extend([Fate("status", status, operation)] * times)

    def _do_down(self, pod: int, server: str, seconds: float) -> None:
        link = self._link(pod, server)
        link.go_down()
        self.world.later(seconds, link.heal)

    def _do_silent(self, pod: int, server: str, seconds: float) -> None:
        link = self._link(pod, server)
        link.is_silent = True
        self.world.later(seconds, link.heal)

    def _do_cut(self, pod: int, server: str) -> None:
        self._link(pod, server).cut()

    def _do_slow(self, pod: int, server: str, slowness: float, seconds: float) -> None:
        link = self._link(pod, server)
        link.slowness = slowness
        self.world.later(seconds, link.heal)

    def _do_redis_restarts(self) -> None:
        self.hits["restart", "redis"] += 1
        for link in self._links("redis"):
            link.cut()
        self.model.restart()
        self._copies.clear()
        self._forgotten()

    def _do_redis_fails_over(self, lag: float) -> None:
        """Go on with a replica that lagged behind: what it has not heard of is lost."""
        self.hits["failover", "redis"] += 1
        copies = [copy for at, copy in self._copies if at <= self.world.now - lag]
        if not copies:
            return
        for row in self.model.rows(LEASES).values():
            # All that was taken of a lease may be there again.
            taken = float(row[b"grantedAmount"]) - float(row[b"localRemainingCredits"])
            self.judge.allowance[row[b"leaseId"].decode()] += taken
        for link in self._links("redis"):
            link.cut()
        self.model.fail_over(copies[-1])
        self._forgotten()

    def _forgotten(self) -> None:
        """Redis has lost rows: what was held there may be gone, or back."""
        self.has_redis_forgotten = True
        for link in self._links("redis"):
            link.fail()
        self.may_leak = True

    def _do_redis_refuses(self, how: str, seconds: float) -> None:
        self.hits[how, "redis"] += 1
        # A client that is new then takes the way of a cluster, where a debit and its hold may be torn apart.
        self.may_leak = True
        for link in self._links("redis"):
            link.fail()
            self.world.later(seconds, link.fail)
        name = "is_read_only" if how == "read only" else "is_full"
        setattr(self.model, name, True)
        self.world.later(seconds, setattr, self.model, name, False)

    def _do_clock(self, pod: int, seconds: float) -> None:
        self.hits["clock jumps", "pod"] += 1
        self.have_clocks_moved = True
        mine = self._pod(pod)
        mine.clock.jump(seconds)
        if self.schedule.scenario.store != "redis":
            self.judge.doubt(h for h in self.judge.holds.values() if h.owner == mine.name)

    def _do_redis_clock(self, seconds: float) -> None:
        self.hits["clock jumps", "redis"] += 1
        self.have_clocks_moved = True
        self.redis_clock.jump(seconds)

    def _do_balance(self, company: int, amount: float) -> None:
        slot, service = self.slots[company % len(self.slots)], self.service.service

        def change() -> None:
            if slot[0] in service.directory.companies:
                service.set_balance(*slot, amount)

        self.service.push(change)

    def _do_delete(self, company: int) -> None:
        company_id, _ = self.slots[company % len(self.slots)]

        def delete() -> None:
            if company_id in self.service.service.directory.companies:
                self.service.service.delete("company", company_id)
                self.service.stream.push_delete("rulesengine.Company", company_id)

        self.service.push(delete)

    # What pods tell

    def lapse_of(self, pod: Pod, hold: Reservation) -> Callable[[], bool]:
        """Return what tells whether a hold has lapsed, by whoever decides that."""
        ends, store = hold.expires_at.timestamp(), self.schedule.scenario.store
        clock, redis_clock, world = pod.clock, self.redis_clock, self.world
        steady_end = world.now + self.schedule.scenario.ttl
        if hold.mode == "server":
            return lambda: EPOCH + world.now >= ends
        if store == "memory":
            return lambda: clock() >= ends
        if store == "redis":
            return lambda: redis_clock() >= ends
        return lambda: redis_clock() >= ends or clock() >= ends or world.now >= steady_end

    def note_death(self, pod: Pod) -> None:
        """A pod dies: see where."""
        self.tell(lambda: f"{pod.name}: dies")
        for place in waiting_at(pod.loop.tasks):
            self.deaths[place] += 1
        judge = self.judge
        judge.undeliverable.add(pod.name)
        has_usage = bool(pod.client.status().queued_events)
        judge.seen["a pod died with usage that was not delivered"] += has_usage
        mine = [h for h in judge.holds.values() if h.settler == pod.name and h.is_settling]
        # What was billed was told to Redis before, unless Redis did not hear.
        was_deaf = pod.to_redis.failed_at > self.world.now - self._patience(pod)
        judge.doubt(h for h in mine if was_deaf or h.id not in judge.billed)
        if self.schedule.scenario.is_spread or self.schedule.scenario.store == "slabs":
            self.may_leak = True

    def _patience(self, pod: Pod) -> float:
        """Seconds in which a pod makes the claims that it owes, once Redis answers."""
        is_frozen = pod.loop.is_frozen
        return math.inf if is_frozen else self.schedule.scenario.sweep_interval + PATIENCE

    def lateness_of(self, hold_id: str) -> Callable[[], bool]:
        """Return what tells whether Redis need not have heard yet of the settle of a hold."""

        def may_be_late() -> bool:
            for pod in self.pods:
                begun = pod.settling_at.get(hold_id)
                if begun is not None:
                    since = max(begun, pod.to_redis.failed_at)
                    return not pod.runs or since > self.world.now - self._patience(pod)
            return True

        return may_be_late

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

    def has_row(self, hold_id: str) -> bool:
        """Tell whether a hold is open in Redis."""
        return b"schematic:credit-reservation:" + hold_id.encode() in self.model.data

    def ended(self, pod: Pod) -> None:
        """A pod has shut down; what it held of a slab counts as used."""
        if self.schedule.scenario.store == "slabs":
            for hold in self.judge.holds.values():
                if hold.owner == pod.name and not (hold.is_settling or hold.is_lapsed):
                    self.judge.leaks[hold.lease_id] += hold.credits
        self.bury(pod)

    def bury(self, pod: Pod) -> None:
        """Keep what is left of a process until the end, for it must not be taken apart before."""
        self.has_redis_failed |= pod.to_redis.has_failed
        self._buried.append(_Remains(pod.client, pod.loop))

    # The end

    def _finish(self) -> None:
        """Heal everything, let it settle, and look whether all is back where it belongs."""
        self._heal()
        self._deliver()
        self._look()
        self._lapse()
        for pod in self.pods:
            if pod.runs:
                pod.shut_down()
        while any(pod.state == "closing" for pod in self.pods):
            self.world.run(0.5)
        self._look()
        self._check_rest()
        self.fail(self.judge.check_billing)
        self._check_service()

    def _heal(self) -> None:
        self.tell(lambda: "all is healed")
        for pod in self.pods:
            pod.loop.fuse = None
            pod.to_service.heal()
            pod.to_redis.heal()
        self.model.is_read_only = self.model.is_full = False
        while any(pod.loop.is_frozen for pod in self.pods):
            self.world.run(0.5)

    def _deliver(self) -> None:
        until = self.world.now + DELIVERY
        while self.world.now < until:
            self.world.run(1.0)
            if not any(_is_busy(pod) for pod in self.pods):
                return
        late = [pod.name for pod in self.pods if _is_busy(pod)]
        raise ViolationError(
            f"{', '.join(late)}: not all was delivered {DELIVERY:g} s after all was well"
        )

    def _lapse(self) -> None:
        """Let every hold lapse that is open, and be swept."""
        scenario = self.schedule.scenario
        if scenario.store == "memory":
            return
        running = [pod for pod in self.pods if pod.runs]
        if not running:
            self.pods[0].start()
        for pod in running[1:]:
            pod.shut_down()
        longest = scenario.ttl + 2 * scenario.sweep_interval + 3.5
        if scenario.store == "slabs":
            longest += scenario.slab_lifetime + scenario.ttl + 5.0
        self.world.run(longest)
        self._look()

    def _check_rest(self) -> None:
        self.model.expire()
        rows = self.model.rows(RESERVATIONS)
        scenario = self.schedule.scenario
        # A hold that is recorded while Redis forgets may be in no index: its row is forgotten in time.
        if scenario.store == "redis" and rows and not self.has_redis_forgotten:
            raise ViolationError(f"after all holds have lapsed there are still {sorted(rows)}")
        # A debit and its hold are two commands then, of which one may be lost.
        self.has_redis_failed |= any(pod.to_redis.has_failed for pod in self.pods)
        is_apart = scenario.is_spread or scenario.store == "slabs"
        is_torn = is_apart and self.has_redis_failed
        if scenario.store == "memory" or self.may_leak or is_torn:
            return
        for row in self.model.rows(LEASES).values():
            self.fail(lambda row=row: self.judge.check_rest(row))

    def _check_service(self) -> None:
        """When the leases have ended, all is there again but what was billed."""
        service = self.service.service
        lent = (*service.ledger.leases.values(), *service.ledger.reservations.values())
        ends = [each.expires_at for each in lent]
        self.world.run_until(max([self.world.now, *(end - EPOCH + 1.0 for end in ends)]))
        audits: list[dict[str, Any]] = []
        self.service.push(lambda: audits.append(service.audit()))
        self.world.run(0.1)
        [audit] = audits
        if not audit["balanced"]:
            raise ViolationError(f"the service's books do not balance: {audit['problems']}")
        held = {slot: units for slot, units in service.ledger._held.items() if units}
        if held:
            raise ViolationError(f"credits are still lent when all leases have ended: {held}")

    def _dispose(self) -> None:
        self.is_over = True
        self.world.close()
        for pod in self.pods:
            self.bury(pod)
        for remains in self._buried:
            remains.dispose()
        for task in self.service.loop.tasks:
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            with contextlib.suppress(BaseException):
                task.get_coro().close()  # type: ignore[union-attr]


def _is_busy(pod: Pod) -> bool:
    return pod.state == "closing" or (pod.runs and bool(pod.client.status().queued_events))


class _Remains:
    """A client and the loop that it ran on."""

    def __init__(self, client: AsyncSchematic, loop: Any) -> None:
        self.client = client
        self.loop = loop

    def dispose(self) -> None:
        """Leave nothing that the collector would have to take apart."""
        self.client._dropped.detach()
        self.client._session.forget()
        for task in self.loop.tasks:
            task._log_destroy_pending = False
            with contextlib.suppress(BaseException):
                task.get_coro().close()
