"""The end of a schedule: all is healed and delivered, and everything must be back where it belongs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.simulation.judge import ViolationError
from tests.simulation.machine import EPOCH
from tests.simulation.network import LATE
from tests.simulation.replicator_steps import ReplicatorSteps
from tests.simulation.steps import LEASES

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.simulation.pods import Pod

# Seconds until all that waits is delivered once nothing is wrong any more: the longest pause between two tries.
DELIVERY = 45.0
RESERVATIONS = b"schematic:credit-reservation"


class Ending(ReplicatorSteps):
    """A simulation as its end finds it."""

    has_redis_failed: bool

    def tell(self, text: Callable[[], str]) -> None:
        """Tell what happens, if anybody listens."""
        raise NotImplementedError

    def fail(self, look: Callable[[], None]) -> None:
        """Look whether a promise was broken; the first one that was stands."""
        raise NotImplementedError

    def _look(self) -> None:
        """Have the judge look."""
        raise NotImplementedError

    def _finish(self) -> None:
        """Heal everything, let it settle, and look whether all is back where it belongs."""
        self._heal()
        self._deliver()
        self._look()
        self._ask_gates()
        self._lapse()
        for pod in self.pods:
            if pod.runs:
                pod.shut_down()
        while any(pod.state == "closing" for pod in self.pods):
            self.world.run(0.5)
        self._look()
        self._check_rest()
        for disk in self.disks:
            self.judge.note_parked(disk.parked())
        self.fail(self.judge.check_billing)
        self._check_disks()
        self._check_service()

    def _heal(self) -> None:
        self.tell(lambda: "all is healed")
        self.is_healed = True
        for pod in self.pods:
            pod.loop.fuse = None
            for link in pod.links.values():
                link.heal()
        self.model.is_read_only = self.model.is_full = False
        for disk in self.disks:
            disk.is_full = False
        while any(pod.loop.is_frozen for pod in self.pods):
            self.world.run(0.5)

    def _start_those_with_spools(self) -> None:
        """Have what is on the disks delivered, also of a process that a request from before the healing kills."""
        for pod in self.pods:
            while pod.disk is not None and pod.state == "closing":
                self.world.run(0.5)
            if _must_start(pod):
                pod.start()

    def _deliver(self) -> None:
        until = self.world.now + DELIVERY
        while self.world.now < until:
            self._start_those_with_spools()
            self.world.run(1.0)
            if not any(_is_busy(pod) or _must_start(pod) for pod in self.pods):
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
        longest = scenario.ttl + 2 * scenario.sweep_interval + 3.5 + self.redis_clock.set_back
        if scenario.store == "slabs":
            longest += scenario.slab_lifetime + scenario.ttl + 5.0
        self._run_until_nothing_is_held(longest)
        self._look()

    def _run_until_nothing_is_held(self, longest: float) -> None:
        """Let so many seconds pass, or fewer if no hold is in Redis or listed there, and none can still come."""
        until = quiet_since = self.world.now + longest
        while self.world.now < until:
            self.world.run(min(1.0, until - self.world.now))
            if self.model.rows(RESERVATIONS):
                quiet_since = until
            elif quiet_since == until:
                quiet_since = self.world.now
            elif self.world.now - quiet_since > LATE + 1.0:
                return

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

    def _check_disks(self) -> None:
        for disk in self.disks:
            if left := disk.left():
                raise ViolationError(
                    f"all is delivered, and {', '.join(left)} are still on the disk"
                )
            if disk.is_damaged and not disk.has_told:
                raise ViolationError("a record was damaged, and nobody was told")

    def _check_service(self) -> None:
        """When the leases have ended, all is there again but what was billed."""
        self.world.run(2 * LATE)  # then nothing that would acquire another is on its way
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


def _must_start(pod: Pod) -> bool:
    return pod.disk is not None and not pod.runs and pod.state != "closing"


def _is_busy(pod: Pod) -> bool:
    if not pod.runs:
        return pod.state == "closing"
    status = pod.client.status()
    return bool(status.queued_events or (status.spool is not None and status.spool.events))
