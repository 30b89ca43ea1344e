"""What the steps do that are about a replicator: to what it copies, to its cache, and to itself."""

from __future__ import annotations

import random
from functools import partial
from typing import TYPE_CHECKING, Any

from tests.simulation import worlds
from tests.simulation.freshness import BEHIND, HEALTH, PREFIX, WAY, Freshness
from tests.simulation.network import Fate
from tests.simulation.redis_tracking import Tracking
from tests.simulation.replicator import Replicator
from tests.simulation.steps import Steps

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.simulation.redis_server import RedisServer


# Seconds until all go by what a replicator has written once nothing is wrong: until it is found to be ready, and
# the longest pause between two tries to follow it.
HEALED = 2 * HEALTH + 5.0 + 6.0
# Seconds between two changes of which somebody does not hear.
UNHEARD = 0.3
# Seconds between two changes of an entity that is read meanwhile: it changes during each read whose reply is held up.
BETWEEN_CHANGES = 0.05
# Reads of which that is so: of what it is found by, and as many of itself as are made before it is used as it is.
READS = 6


class ReplicatorSteps(Steps):
    """A simulation as these steps change it."""

    redis: RedisServer
    freshness: Freshness
    tracking: Tracking
    replicator: Replicator | None = None
    # How often each company, and the flag, has been changed.
    _changes: dict[str, int]

    def _begin_replicating(self) -> None:
        """Have a replicator copy what the service has, if the schedule has one."""
        self._changes = {}
        self.freshness = Freshness(lambda: self.world.now)
        self.tracking = Tracking(self.redis, is_served=self.schedule.scenario.is_tracked)
        if self.schedule.scenario.is_replicated:
            for company_id, _ in self.slots:
                self.freshness.note(f"company {company_id}", "0")
            self.freshness.note("flag", "0")
            self.freshness.note("version", "1")
            self.model.on_change = self._note_change
            draw = random.Random(f"replicator {self.schedule.seed}")
            self.replicator = Replicator(self.world, draw, self.service, self.model)

    def _note_change(self, key: bytes) -> None:
        value = self.model.data.get(key)
        self.freshness.note_cache(key, value if isinstance(value, bytes) else None)
        self.tracking.changed(key)

    def _ask_gates(self) -> None:
        """Have each pod answer by what the service has, once it has had the time to hear of all."""
        if self.replicator is None:
            return
        self.replicator.is_up = True
        self.replicator.look_again()
        self.world.run(HEALED)
        for pod in self.pods:
            for number, (company_id, _) in enumerate(self.slots):
                if pod.runs:
                    pod.ask_gate(
                        number, 2.0, lambda rule, of=company_id: self._look_at_rule(of, rule)
                    )
            if pod.runs and not pod.client.status().ready:
                self._note_violation(
                    f"{pod.name}: all is well, and it does not go by the replicator"
                )
        self.world.run(2.0)

    def _look_at_rule(self, company_id: str, rule: str | None) -> None:
        right = self.freshness.now_of(company_id)
        if rule != right:
            self._note_violation(
                f"all is well, and {company_id} is decided by {rule}, not by {right}"
            )

    def _do_ask_gate(self, pod: int, company: int, timeout: float) -> None:
        if self._pod(pod).runs:
            self._pod(pod).ask_gate(company, timeout)

    def _do_ask_everywhere(self, company: int) -> None:
        for pod in range(len(self.pods)):
            self._do_ask_gate(pod, company, 2.0)

    def _do_ask_often(self, company: int, count: int, gap: float) -> None:
        """Ask every pod again and again."""
        for number in range(count):
            self._after(number * gap, self._do_ask_everywhere, company)

    def _do_change_often(self, company: int, count: int, gap: float) -> None:
        for number in range(count):
            self._after(number * gap, self._do_change_company, company)

    def _do_change_unheard(self, pod: int, company: int, how: str, seconds: float) -> None:
        """Change a company while a pod does not hear of it and when it does again, and ask all the while."""
        if how == "cut":
            self._do_cut(pod, "cache")
        else:
            (self._do_down if how == "down" else self._do_silent)(pod, "cache", seconds)
        self._do_change_often(company, 1 + int(seconds / UNHEARD), UNHEARD)
        self._do_ask_often(company, 4 + int(2 * seconds / UNHEARD), UNHEARD)

    def _do_change_while_read(self, company: int, what: str, count: int, timeout: float) -> None:
        """Change an entity again and again while all pods read it, and ask for it some time later; nobody else does."""
        change = (
            self._do_change_gate if what == "gate" else partial(self._do_change_company, company)
        )
        for number in range(count):
            self._after(number * BETWEEN_CHANGES, change)
        for pod in range(len(self.pods)):
            self._link(pod, "cache").fates.extend([Fate("held up", operation="get")] * READS)
            self._after(2 * BETWEEN_CHANGES, self._do_ask_gate, pod, company, timeout)
        self.world.run(count * BETWEEN_CHANGES + BEHIND + WAY)
        self._do_ask_everywhere(company)

    def _next(self, name: str) -> int:
        self._changes[name] = self._changes.get(name, 0) + 1
        return self._changes[name]

    def _do_change_company(self, company: int) -> None:
        company_id, _ = self.slots[company % len(self.slots)]

        def change() -> None:
            known = self.service.service.directory.companies.get(company_id)
            if known is not None:
                self._set_company(known)

        self.service.push(change)

    def _do_company_comes_back(self, company: int) -> None:
        slot, scenario = self.slots[company % len(self.slots)], self.schedule.scenario

        def come_back() -> None:
            if slot[0] not in self.service.service.directory.companies:
                self._set_company(worlds.company(*slot, scenario.rate, scenario.balance))

        self.service.push(come_back)

    def _set_company(self, company: dict[str, Any]) -> None:
        number = worlds.number(self._next(company["id"]))
        changed = {name: value for name, value in company.items() if name != "credit_balances"}
        self.service.service.set_company({**changed, "traits": number})
        self.freshness.note(f"company {company['id']}", number[0]["value"])

    def _do_change_gate(self) -> None:
        def change() -> None:
            number = self._next("flag")
            self.service.service.set_flag(worlds.gate(number))
            self.freshness.note("flag", f"{number}")

        self.service.push(change)

    def _do_delete(self, company: int) -> None:
        super()._do_delete(company)
        company_id, _ = self.slots[company % len(self.slots)]
        self.service.push(lambda: self.freshness.note(f"company {company_id}", None))

    def _do_cache_fate(self, pod: int, kind: Any, operation: str | None) -> None:
        self._link(pod, "cache").fates.append(Fate(kind, operation=operation))

    def _do_health_fate(self, pod: int, kind: Any) -> None:
        self._link(pod, "replicator").fates.append(Fate(kind, operation="health"))

    def _do_replicator_stops(self, seconds: float) -> None:
        """Have it write nothing and answer nothing for some time."""
        self._with_replicator("stopped", lambda it: setattr(it, "is_up", False))
        self._after(seconds, self._with_replicator, None, lambda it: setattr(it, "is_up", True))

    def _do_replicator_restarts(self, is_newer: bool, company: int, seconds: float) -> None:
        """Have it write all anew, some time after a change of what pods have; a newer version writes other keys."""
        self._do_ask_everywhere(company)
        self._with_replicator("restarted", lambda it: setattr(it, "is_up", False))
        self._do_change_company(company)
        self._do_change_gate()
        self._after(seconds, self._with_replicator, None, lambda it: it.restart(is_newer=is_newer))
        if is_newer:
            self._after(seconds, self._note_version)

    def _note_version(self) -> None:
        if self.replicator is not None:
            self.freshness.note("version", f"{self.replicator.version}")

    def _with_replicator(self, what: str | None, do: Callable[[Replicator], object]) -> None:
        if self.replicator is not None:
            if what is not None:
                self.hits[what, "replicator"] += 1
            do(self.replicator)

    def _do_key_is_deleted(self, what: str, company: int) -> None:
        """Delete a key that the replicator believes to be there."""
        if self.replicator is not None:
            version, company_id = self.replicator.version, self.slots[company % len(self.slots)][0]
            names = {
                "flag": f"flags:{version}:{worlds.GATE}",
                "company": f"company:{version}:{company_id}",
                "lookup": f"company:{version}:id:{company_id}",
            }
            self.hits["key deleted", what] += 1
            self.model.execute([b"DEL", f"{PREFIX}:{names[what]}".encode()])

    def _forgotten(self) -> None:
        super()._forgotten()
        if self.replicator is not None:
            self.freshness.forget_cache()
            for key, value in self.model.data.items():
                if isinstance(value, bytes):
                    self.freshness.note_cache(key, value)
            self.replicator.look_again()
