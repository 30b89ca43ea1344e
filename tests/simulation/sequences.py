"""Steps that are several in a row: what comes together seldom when each is drawn alone, and hurts then."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from tests.simulation.steps import Steps

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.simulation.pods import Pod

# Seconds after which the service forgets a key, and the spool sends no event.
DAY = 86_400.0
# Seconds that a service is away from a pod that ends, which is longer than a shutdown takes.
AWAY = 8.0
# Checks that come at once and use up whatever slab there is.
DRAIN = 40


class Sequences(Steps):
    """A simulation as these steps change it."""

    def _later(self, seconds: float, pod: Pod, call: Callable[[], object]) -> None:
        """Do something with a process in so many seconds, if it runs then."""
        name = pod.name

        def do() -> None:
            if pod.name == name and pod.runs:
                call()

        self._after(seconds, do)

    def _do_settle_and_end(
        self, pod: int, share: float, server: str, what: str | None, kind: Any
    ) -> None:
        """Settle all, shut down, and have something befall the pod in the midst of that."""
        mine = self._pod(pod)
        if mine.runs:
            mine.settle_all(share)
            (self._do_service_fate if server == "service" else self._do_redis_fate)(
                pod, kind, 503, what
            )
            self._later(0.0, mine, mine.shut_down)

    def _do_settle_refused(
        self, pod: int, how: str, seconds: float, share: float, company: int
    ) -> None:
        """Settle while Redis refuses, and die some time after it has stopped to."""
        mine = self._pod(pod)
        if mine.runs:
            mine.be_busy(company, 1.0, 20, 0.06)
            self._after(1.0, self._do_redis_refuses, how, seconds)
            self._later(1.05, mine, partial(mine.settle_all, share))
            after = 1.0 + seconds + self.patience(mine)
            self._later(after + 0.2, mine, mine.die)

    def _do_idle_after_refusal(
        self, pod: int, how: str, seconds: float, share: float, company: int
    ) -> None:
        """Use a slab, settle while Redis refuses, and leave all alone until the pod dies: nothing more is billed."""
        mine = self._pod(pod)
        if mine.runs and not mine.loop.is_frozen:
            mine.be_busy(company, 1.0, 40, 0.06)
            self._after(2.0, self._do_redis_refuses, how, seconds)
            self._later(2.05, mine, partial(mine.settle_all, share))
            dies = 2.0 + seconds + self.patience(mine) + 0.2
            self._later(dies, mine, mine.die)
            self.world.run(dies + 0.1)

    def _do_hand_over_and_drain(self, pod: int, other: int, company: int, usage: float) -> None:
        """Have another pod settle what is held of a slab, and check a lot when that has lapsed."""
        mine, scenario = self._pod(pod), self.schedule.scenario
        if mine.runs and self._pod(other).runs:
            mine.be_busy(company, usage, 20, 0.06)
            self._later(1.4, mine, partial(self._do_hand_over, pod, other, 1.0, None))
            lapsed = 1.4 + scenario.ttl + scenario.sweep_interval
            drain = partial(self._do_check_many, pod, company, usage, 2.0, "fail-closed", DRAIN)
            self._later(lapsed + 0.1, mine, drain)
            self._later(lapsed + 0.3, mine, partial(mine.settle_all, 1.0))

    def _do_hold_and_end(
        self, pod: int, company: int, part: float, share: float, end: float
    ) -> None:
        """Hold a part of a lease, have the others take the rest, and shut down when a renewal was due."""
        mine, scenario = self._pod(pod), self.schedule.scenario
        usage = round(part * scenario.lease_size / scenario.rate, 1)
        seconds = 3 * scenario.ttl
        if mine.runs:
            self._do_hold(pod, company, usage, share, seconds)
            self._after(
                0.3, self._do_check_many, pod + 1, company, usage / 2, 2.0, "fail-closed", 6
            )
            self._later(end * seconds, mine, mine.shut_down)

    def _do_block_overtaken(
        self, pod: int, company: int, seconds: float, kind: Any, operation: str | None
    ) -> None:
        """Have something befall a pod in the midst of what one of its blocks ends with."""
        if self._pod(pod).runs:
            self._do_hold(pod, company, 3.0, 1.0, seconds)
            self._after(seconds, self._do_redis_fate, pod, kind, 0, operation)

    def _do_acquire_together(self, pod: int, company: int, quiet: float) -> None:
        """Have a pod extend a lease at the same instant at which the others ask for one."""
        scenario = self.schedule.scenario
        usage = round(scenario.lease_size * 0.6 / scenario.rate, 1)
        self.world.run(quiet)
        self._do_check(pod, company, usage, 2.0, "fail-closed")
        self.world.run(0.5)
        self._do_check_everywhere(company, usage, 2.0, "fail-closed")

    def _do_spool_late(self, pod: int, company: int, seconds: float) -> None:
        """Settle more than a full disk takes, and shut down without a service when it has room again."""
        mine = self._pod(pod)
        if mine.runs:
            self._do_check_many(pod, company, 1.0, 2.0, "fail-closed", DRAIN)
            self._after(0.4, self._do_down, pod, "service", AWAY)
            self._after(0.4, self._do_disk_fills, pod, 0.5)
            self._later(0.5, mine, partial(mine.settle_all, 1.0))
            self._later(0.9 + seconds, mine, mine.shut_down)

    def _do_a_day_goes_by(self, more: float, fuse: int) -> None:
        """End all pods while the service is away, and start them a day later."""
        for pod in self.pods:
            pod.to_service.go_down()
            if pod.runs:
                pod.settle_all(1.0)
        self.world.run(0.5)
        for pod in self.pods:
            if pod.state in {"runs", "closing"}:
                pod.kill(fuse)
        self.world.run(0.5)
        for pod in self.pods:
            if pod.state in {"runs", "closing"}:
                pod.kill(0)
        self.hits["a day goes by", "pod"] += 1
        # The rows of holds are forgotten before anybody takes them out of the indexes.
        self.is_index_uncertain = True
        self.world.run(DAY + more)
        for pod in self.pods:
            pod.start()
