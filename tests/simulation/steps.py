"""What the steps of a schedule do: to pods, to the links between them and servers, to Redis, disks and the service."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from tests.simulation.network import Fate, Link

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable

    from tests.simulation.disk import Disk
    from tests.simulation.judge import Judge
    from tests.simulation.machine import Clock
    from tests.simulation.pods import Pod
    from tests.simulation.redis_model import RedisModel
    from tests.simulation.schedules import Schedule
    from tests.simulation.service_server import ServiceServer
    from tests.simulation.world import World

LEASES = b"schematic:credit-lease:"
PAYMENT_REQUIRED = 402


class Steps:
    """A simulation as its steps change it: each kind of step has a method of its name."""

    schedule: Schedule
    world: World
    judge: Judge
    hits: Counter[tuple[str, str]]
    service: ServiceServer
    redis_clock: Clock
    model: RedisModel
    slots: list[tuple[str, str]]
    pods: list[Pod]
    disks: list[Disk]
    # What Redis had, for schedules in which a replica takes over.
    _copies: list[tuple[float, Any]]
    have_clocks_moved = False
    # Whether something has happened after which credits may be missing until the lease ends.
    may_leak = False
    has_redis_forgotten = False
    # Whether holds may be listed that are not there, or the other way round.
    is_index_uncertain = False
    # Whether a pod may have been told that its company has no credits, and have left a lease that lives: what it
    # adds to it later then counts anew, and what it still holds of it does not.
    may_rejoin = False
    # Whether nothing may go wrong any more.
    is_healed = False

    def patience(self, pod: Pod) -> float:
        """Seconds in which a pod makes the claims that it owes, once Redis answers."""
        raise NotImplementedError

    def _note_violation(self, violation: str) -> None:
        raise NotImplementedError

    def _after(self, seconds: float, call: Callable[..., object], *arguments: Any) -> None:
        """Do something in so many seconds, unless all is healed by then."""

        def do() -> None:
            if not self.is_healed:
                call(*arguments)

        self.world.later(seconds, do)

    def _pod(self, number: int) -> Pod:
        return self.pods[number % len(self.pods)]

    def _do_check(self, pod: int, company: int, usage: float, timeout: float, failure: str) -> None:
        if self._pod(pod).runs:
            self._pod(pod).check(company, usage, timeout, failure)

    def _do_settle(self, pod: int, which: int, share: float) -> None:
        if self._pod(pod).runs:
            self._pod(pod).settle(which, share)

    def _do_check_many(
        self, pod: int, company: int, usage: float, timeout: float, failure: str, count: int
    ) -> None:
        for _ in range(count):
            self._do_check(pod, company, usage, timeout, failure)

    def _do_check_everywhere(
        self, company: int, usage: float, timeout: float, failure: str
    ) -> None:
        for pod in range(len(self.pods)):
            self._do_check(pod, company, usage, timeout, failure)

    def _do_check_unheard(
        self, pod: int, company: int, kind: Any, delay: float, quiet: float = 0.0
    ) -> None:
        """Lose the answer to the next acquire of a pod, and have the others acquire meanwhile."""
        self.world.run(quiet)
        self._do_service_fate(pod, kind, 503, "acquire")
        self._do_check(pod, company, 1.0, 2.0, "fail-closed")
        for other in range(len(self.pods)):
            if self._pod(other) is not self._pod(pod):
                check = partial(self._do_check, other, company, 1.0, 2.0, "fail-closed")
                self.world.later(delay, check)

    def _do_be_busy(self, pod: int, company: int, usage: float, count: int, gap: float) -> None:
        if self._pod(pod).runs:
            self._pod(pod).be_busy(company, usage, count, gap)

    def _do_settle_all(self, pod: int, share: float) -> None:
        if self._pod(pod).runs:
            self._pod(pod).settle_all(share)

    def _do_settle_again(self, pod: int, which: int, share: float) -> None:
        if self._pod(pod).runs:
            hold = self._pod(pod).settle_again(which, share)
            if hold is not None and self.schedule.scenario.store == "slabs":
                # Two who settle one hold of a slab may both take its credits off.
                self.judge.leaks[hold.lease_id] += hold.credits_reserved

    def _do_settle_elsewhere(self, pod: int, other: int, which: int, share: float) -> None:
        if self._pod(pod).runs and self._pod(other).runs:
            self._pod(pod).give(self._pod(other), which, share)

    def _do_hand_over(self, pod: int, other: int, share: float, fuse: int | None) -> None:
        """Have all open holds of a pod settled by another, and kill it after so many turns of a callback, if any."""
        if self._pod(pod).runs and self._pod(other).runs:
            self._pod(pod).hand_over(self._pod(other), share)
            if fuse is not None and self._pod(pod) is not self._pod(other):
                self._pod(pod).kill(fuse)

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

    def _do_ask_balance(self, pod: int, company: int) -> None:
        if self._pod(pod).runs:
            self._pod(pod).ask_balance(company)

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

    def _do_roll(self, company: int, usage: float, delay: float) -> None:
        """Have all pods use one company, and the one that has its lease for the longest shut down; the others go on."""
        for pod in range(len(self.pods)):
            self.world.later(0.1 * pod, self._do_check, pod, company, usage, 2.0, "fail-closed")
        last = 0.1 * len(self.pods)
        self.world.later(last + delay, self._do_shut_down, 0)
        for pod in range(1, len(self.pods)):
            self.world.later(
                last + delay + 4.0, self._do_check, pod, company, 1.0, 2.0, "fail-closed"
            )

    def _do_start(self, pod: int) -> None:
        if self._pod(pod).state in {"dead", "shut"}:
            self._pod(pod).start()

    def _do_change_loop(self, pod: int) -> None:
        if self._pod(pod).runs and not self._pod(pod).loop.is_frozen:
            self.hits["loop changed", "pod"] += 1
            self._pod(pod).change_loop()

    def _links(self, server: str) -> list[Link]:
        return [pod.links[server] for pod in self.pods]

    def _link(self, pod: int, server: str) -> Link:
        return self._links(server)[pod % len(self.pods)]

    def _do_service_fate(self, pod: int, kind: Any, status: int, operation: str | None) -> None:
        self._link(pod, "service").fates.append(Fate(kind, status, operation))
        self.may_rejoin |= status == PAYMENT_REQUIRED

    def _do_redis_fate(self, pod: int, kind: Any, status: int, operation: str | None) -> None:
        self._link(pod, "redis").fates.append(Fate(kind, status, operation))

    def _do_service_status(self, status: int, times: int, operation: str | None) -> None:
        for link in self._links("service"):
            link.fates.extend([Fate("status", status, operation)] * times)
        self.may_rejoin |= status == PAYMENT_REQUIRED

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

    def _do_disk_fills(self, pod: int, seconds: float) -> None:
        disk = self._pod(pod).disk
        if disk is not None:
            self.hits["full", "disk"] += 1
            disk.is_full = True
            self.world.later(seconds, setattr, disk, "is_full", False)

    def _do_disk_is_damaged(self, pod: int, how: str) -> None:
        """Damage the files of the next process there that dies."""
        disk = self._pod(pod).disk
        if disk is not None:
            self.hits[how, "disk"] += 1
            disk.damages.append(how)

    def _do_disk_loses_power(self, pod: int) -> None:
        """Kill all pods of a machine, and forget what was not synced."""
        disk = self._pod(pod).disk
        if disk is not None:
            self.hits["power lost", "disk"] += 1
            for each in self.pods:
                if each.disk is disk:
                    each.kill(0)
            self.judge.excused |= disk.lose_power()

    def _replace_redis(self) -> None:
        """Have another process be the server: its connections are new."""
        for link in self._links("redis") + self._links("cache"):
            link.cut()
        self.redis.begin_anew()

    def _do_redis_restarts(self) -> None:
        self.hits["restart", "redis"] += 1
        self._replace_redis()
        self.model.restart()
        self._copies.clear()
        self._forgotten()

    def _do_redis_fails_over(self, lag: float) -> None:
        """Go on with a replica that lagged behind: what it has not heard of is lost."""
        self.hits["failover", "redis"] += 1
        copies = [copy for at, copy in self._copies if at <= self.world.now - lag]
        if not copies:
            return
        # All that was taken of a lease may be there again, be it one that has been replaced since.
        taken = self.judge.spent()
        for row in self.model.rows(LEASES).values():
            gone = float(row[b"grantedAmount"]) - float(row[b"localRemainingCredits"])
            taken[row[b"leaseId"].decode()] = gone
        for lease_id, gone in taken.items():
            self.judge.allowance[lease_id] += gone
        self._replace_redis()
        self.model.fail_over(copies[-1])
        self._forgotten()

    def _forgotten(self) -> None:
        """Redis has lost rows: what was held there may be gone, or back."""
        self.has_redis_forgotten = self.is_index_uncertain = True
        for link in self._links("redis"):
            link.fail()
        self.may_leak = True

    def _do_redis_refuses(self, how: str, seconds: float) -> None:
        self.hits[how, "redis"] += 1
        # A client that is new then takes the way of a cluster, where a debit and its hold may be torn apart.
        self.may_leak = self.is_index_uncertain = True
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
