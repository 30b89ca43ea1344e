"""Pods: the real asynchronous client on a loop of its own, which starts, ends and dies."""

from __future__ import annotations

import logging
import math
from functools import partial
from typing import TYPE_CHECKING, Any

from schematic_native import (
    AsyncSchematic,
    AsyncSchematicConfig,
    CheckResult,
    CreditLeaseConfig,
    DataStreamConfig,
    LocalSlab,
    Reservation,
    SpoolConfig,
)
from schematic_native.cache import RedisCache
from schematic_native.config.defaults import SMALLEST_SPOOL
from tests.simulation import redis_server, redis_tracking, service_server, worlds
from tests.simulation.callers import SETTLE_LIMIT, TIMEOUT, Callers
from tests.simulation.disk import PodSpool
from tests.simulation.freshness import HEALTH, PREFIX
from tests.simulation.gate_caller import SLACK
from tests.simulation.judge import Held
from tests.simulation.machine import Clock, make_machine
from tests.simulation.network import Link
from tests.simulation.replicator import URL, HealthClient
from tests.simulation.world import Loop

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping

    from schematic_native.ground.machine import Machine
    from tests.simulation.disk import Disk
    from tests.simulation.simulation import Simulation

ROOM = 64 * 1024  # of several segments
# What a loop that ends has to wait for at most, as `asyncio.run` would: a block that settles.
LOOP_LIMIT = 2 * SETTLE_LIMIT
# What tells apart the dice of pods that are alike: enough for the ends of two leases to differ by some microseconds
# at least, and mostly not by a millisecond.
DIFFERENCE = 5e-5
SHUTDOWN_LIMIT = 5.0 + 1.0 + SLACK

_quiet = logging.getLogger("simulation")
_quiet.propagate = False
_quiet.addHandler(logging.NullHandler())


class _Client(AsyncSchematic):
    """A client on a machine of its own."""

    def __init__(self, machine: Machine, config: AsyncSchematicConfig) -> None:
        vars(self)["_machine"] = machine
        super().__init__(worlds.API_KEY, config)


class Pod(Callers):
    """One process: it starts, works, may die at any point, and may be started again.

    Args:
        simulation: what it is part of.
        number: tells it from the others.
        disk: where its spool is; None if it has none.

    """

    def __init__(self, simulation: Simulation, number: int, disk: Disk | None) -> None:
        self.simulation = simulation
        self.number = number
        self.disk = disk
        self.clock = Clock(simulation.world)
        self.clock.jump(simulation.schedule.scenario.skew * number)
        self.starts = 0
        self.state = "none"  # "runs", "dead", "closing", "shut"
        self.name = f"pod{number}"
        self.frozen_for = 0.0
        self.thawed_at = -math.inf
        self.start()

    def start(self) -> None:
        """Start a process, where the one before has ended."""
        simulation, world = self.simulation, self.simulation.world
        self.starts += 1
        self.name = f"pod{self.number}.{self.starts}"
        self.loop = Loop(world, self.name)
        self.loop.on_burnt = self.die
        servers = "service", "redis", "cache", "replicator"
        self.links = {name: Link(world, self.loop, name) for name in servers}
        self.to_service, self.to_redis = self.links["service"], self.links["redis"]
        for link in self.links.values():
            link.hits = simulation.hits
            link.trace = simulation.trace
            link.end = partial(self._end_as, self.name)
        seed = f"{simulation.schedule.seed}/{self.name}"
        alike_by = (
            (self.number + 1) * DIFFERENCE if simulation.schedule.scenario.are_dice_alike else None
        )
        machine = make_machine(world, self.clock, seed, self._connect, self._open_http, alike_by)
        self.spool: PodSpool | None = None
        if self.disk is not None:
            self.spool = PodSpool(
                self.disk, self.name, simulation.schedule.scenario.spool or "never"
            )
            self.spool.prepare()
            world.later(self.spool.period, self._tend, self.name)
        self.client = _Client(machine, self.config())
        self.holds: list[Reservation] = []
        self.settled: list[Reservation] = []
        self.settling_at: dict[str, float] = {}
        self.closing_at = math.inf
        self.over_at_close: set[str] = set()  # holds that had been settled, or had lapsed
        self.callers: list[asyncio.Task[None]] = []
        self.state = "runs"
        self.loop.create_task(self.client.initialize())

    def _tend(self, name: str) -> None:
        """Be the thread of the spool, as long as the process lives."""
        if self.spool is not None and name == self.name and self.state in {"runs", "closing"}:
            if not self.loop.is_frozen:
                self.spool.tend(self.client._core)
            self.simulation.world.later(self.spool.period, self._tend, name)

    async def _connect(
        self, _url: str, *, additional_headers: Mapping[str, str], **_: Any
    ) -> service_server.ClientSocket:
        return await service_server.connect(
            self.simulation.service, self.to_service, additional_headers
        )

    def _open_http(self) -> HealthClient:
        assert self.simulation.replicator is not None
        return HealthClient(self.simulation.replicator, self.links["replicator"])

    def _caches(self) -> DataStreamConfig | None:
        """Return where a replicator writes; None if the pod has a DataStream."""
        if self.simulation.replicator is None:
            return None
        client = redis_tracking.connect(self.simulation.tracking, self.links["cache"])
        names = "company", "company_lookup", "user", "user_lookup", "flag"
        return DataStreamConfig(
            **{f"{name}_cache": RedisCache[Any](client, prefix=PREFIX) for name in names},  # type: ignore[arg-type]
            replicator_mode=True,
            replicator_health_url=URL,
            replicator_health_check=int(HEALTH * 1000),
        )

    def config(self) -> AsyncSchematicConfig:
        """Return the configuration of the client."""
        scenario = self.simulation.schedule.scenario
        url, is_shared = service_server.URL, scenario.store != "memory"
        slab = None
        if scenario.store == "slabs":
            size = scenario.lease_size
            # Small ones, so that little demand is enough for the first.
            slab = LocalSlab(max(1.0, size / 100), size / 4, scenario.slab_lifetime)
        return AsyncSchematicConfig(
            base_url=url,
            event_capture_url=url,
            httpx_client=service_server.HttpClient(self.simulation.service, self.to_service),  # type: ignore[arg-type]
            use_datastream=True,
            datastream=self._caches(),
            timeout=TIMEOUT,
            event_buffer_period=scenario.buffer_period,
            logger=self.simulation.logger or _quiet,
            cache_providers=[],
            spool=None
            if self.disk is None
            else SpoolConfig(self.disk.root, scenario.spool, SMALLEST_SPOOL),  # type: ignore[arg-type]
            credit_leases=CreditLeaseConfig(
                mode=scenario.mode,  # type: ignore[arg-type]
                redis_client=redis_server.connect(
                    self.simulation.redis, self.to_redis, scenario.connections
                )
                if is_shared
                else None,
                default_lease_size=scenario.lease_size,
                default_lease_duration=scenario.duration,
                default_reservation_ttl=scenario.ttl,
                sweep_interval=scenario.sweep_interval,
                local_slab=slab,
            ),
        )

    @property
    def runs(self) -> bool:
        """Whether callers can use it."""
        return self.state == "runs"

    def _answered(self, result: CheckResult) -> None:
        hold = result.reservation
        self.simulation.tell(
            lambda: f"{self.name}: check: {result.reason if hold is None else hold}"
        )
        if hold is None:
            seen = self.simulation.judge.seen
            credits_lack = "nsufficient" in f"{result.reason}{result.error}"
            seen["a check was denied for want of credits"] += credits_lack and not result.allowed
            seen["a check was let through without its hold"] += "fail_open" in result.reason
            return
        self.holds.append(hold)
        self.simulation.look_at_lease(self, hold)
        self.simulation.judge.held(
            Held(
                hold.id,
                hold.lease_id,
                hold.credits_reserved,
                hold.consumption_rate,
                self.name,
                self.simulation.lapse_of(self, hold),
                self.simulation.lateness_of(hold.id),
                self.simulation.deafness_of(hold.id),
                # That a clock was set while its process stood still shows at the next sweep only.
                is_doubtful=self.simulation.have_clocks_moved and self.frozen_for > 0,
            )
        )

    def shut_down(self) -> None:
        """End in order."""
        self.state = "closing"
        self.closing_at = self.simulation.world.now
        # A hold of a slab that has lapsed is over with the next sweep.
        swept_at = self.closing_at - self.simulation.patience(self)
        self.over_at_close = self.simulation.judge.over(swept_at)
        self.loop.create_task(self._shut_down())

    async def _shut_down(self) -> None:
        await self._timed("shutdown", self.client.shutdown, SHUTDOWN_LIMIT)
        status = self.client.status()
        self.simulation.tell(lambda: f"{self.name}: has shut down, {status}")
        if status.queued_events or (status.spool is not None and status.spool.events):
            judge = self.simulation.judge
            judge.undeliverable.add(self.name)
            settled = judge.settled_by(self.name)
            has_room = status.spool is not None and status.spool.bytes + ROOM <= SMALLEST_SPOOL
            judge.excused |= settled if self.spool is None else self.spool.close(settled, has_room)
            judge.seen["a pod shut down with usage that was not delivered"] += 1
        self.state = "shut"
        self.simulation.ended(self)

    # What goes wrong

    def kill(self, fuse: int) -> None:
        """Die after so many turns of a callback: at whichever await it has come to then."""
        if self.state in {"runs", "closing"}:
            self.loop.fuse = fuse
            if not fuse:
                self.die()

    def die(self) -> None:
        """Die now."""
        self.simulation.note_death(self)
        self.state = "dead"
        self.loop.die()
        for link in self.links.values():
            link.cut()
        self.simulation.bury(self)

    def _end_as(self, name: str, how: str) -> None:
        """Die, shut down or change the loop, unless another process has come since."""
        if name != self.name:
            return
        if how == "fatal":
            self.kill(0)
        elif self.runs and how == "shut down":
            self.shut_down()
        elif self.runs and not self.loop.is_frozen:
            self.simulation.world.later(0.0, self._change_loop_as, name)

    def _change_loop_as(self, name: str) -> None:
        if name == self.name and self.runs:
            self.change_loop()

    def freeze(self, seconds: float) -> None:
        """Stand still for some time, as in a pause of the machine."""
        if self.loop.is_frozen:
            return
        self.loop.freeze()
        self.to_redis.fail()
        self.simulation.world.later(seconds, self._thaw, seconds)

    def _thaw(self, seconds: float) -> None:
        self.frozen_for += seconds
        self.thawed_at = self.simulation.world.now
        self.to_redis.fail()
        self.loop.thaw()

    def change_loop(self) -> None:
        """End the event loop without a shutdown, and go on with another one."""
        loop, world = self.loop, self.simulation.world
        ending = loop.tasks
        for task in ending:
            task.cancel()
        until = world.now + LOOP_LIMIT
        while loop.tasks and world.now < until:
            world.run(0.001)
        if not self.runs or self.loop is not loop:
            return  # it has died, or changed its loop, in the meantime
        self.simulation.note_end_of_loop(self, [task for task in ending if not task.done()])
        loop.close()
        loop.die()
        self.loop = Loop(world, self.name)
        self.loop.on_burnt = self.die
        self.callers = []
        for link in self.links.values():
            link.cut()
            link.fail()
            link.loop = self.loop
        self.loop.create_task(self.client.initialize())
