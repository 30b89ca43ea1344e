"""Pods: the real asynchronous client on a loop of its own, and callers who use it."""

from __future__ import annotations

import asyncio
import logging
import math
from functools import partial
from typing import TYPE_CHECKING, Any

from schematic_native import (
    AsyncSchematic,
    AsyncSchematicConfig,
    CheckResult,
    CreditBalance,
    CreditLeaseConfig,
    DataStreamConfig,
    LocalSlab,
    Reservation,
    SpoolConfig,
    TrackWithReservationOptions,
)
from schematic_native.api import ApiError
from schematic_native.cache import RedisCache
from schematic_native.config.defaults import SMALLEST_SPOOL
from tests.simulation import redis_server, redis_tracking, service_server, worlds
from tests.simulation.disk import PodSpool
from tests.simulation.freshness import HEALTH, PREFIX
from tests.simulation.gate_caller import SLACK, GateCaller
from tests.simulation.judge import Block, Held
from tests.simulation.machine import Clock, make_machine
from tests.simulation.network import Link
from tests.simulation.replicator import URL, HealthClient
from tests.simulation.world import Loop

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from schematic_native.ground.machine import Machine
    from tests.simulation.disk import Disk
    from tests.simulation.simulation import Simulation

TIMEOUT = 2.0
WORK_STEPS = 3
ROOM = 64 * 1024  # of several segments
LARGE = 12.0
PADDING = {"padding": "." * 5000}
SETTLE_LIMIT = 1.0 + SLACK
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


class Pod(GateCaller):
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

    # What callers do

    @property
    def runs(self) -> bool:
        """Whether callers can use it."""
        return self.state == "runs"

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

    def give(self, other: Pod, which: int, share: float) -> None:
        """Have a hold settled by another pod."""
        if self.holds:
            hold = Reservation.from_dict(self.holds.pop(which % len(self.holds)).to_dict())
            other.settled.append(hold)
            self.simulation.judge.seen["a hold was settled in another process"] += other is not self
            other.settle_hold(hold, share)

    def hand_over(self, other: Pod, share: float) -> None:
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
        if not self.runs:
            return
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
