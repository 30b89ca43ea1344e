"""Schedules: what is set up, what callers do and what goes wrong, all drawn from one seed.

A schedule is plain data, so that it can be shrunk, printed and run again. Whatever a step refers to is counted
among what there is when the step comes, so a schedule stays one when steps are left out.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from tests.simulation.network import ENDS, KINDS

if TYPE_CHECKING:
    from collections.abc import Callable

# Seconds until it happens after the step before, what happens, and its particulars.
Step: TypeAlias = "tuple[float, str, tuple[Any, ...]]"

# The share of schedules that have a replicator.
REPLICATED = 0.2
# The share of those in which Redis tells of changes.
TRACKED = 0.75
STATUSES = (402, 408, 413, 429, 500, 503)
REDIS_OPERATIONS = (None, "extend", "install", "lease", "zrangebyscore", "time")
# By one script, by one script for each key, and of slabs besides.
WHOLE_OPERATIONS = ("hold", "hold", "settle", "settle")
SPLIT_OPERATIONS = ("reserve", "record", "record", "claim", "refund", "refund")
SLAB_OPERATIONS = ("note", "note", "close", "reserve", "record", "refund")
# What becomes of a request that has no status.
LOSSES = ("lost", "cut", "unanswered", "cut after", "late")
SERVICE_OPERATIONS = (
    None,
    "acquire",
    "acquire",
    "extend",
    "capture",
    "release",
    "capture",
    "subscribe",
    "reserve",
)


@dataclass(frozen=True)
class Scenario:
    """What is there before the first step.

    Attributes:
        store: where leases live: in each process, in Redis, or in Redis with slabs.
        is_spread: whether scripts of several keys are refused, as by a cluster.

    """

    store: str = "redis"  # or "memory", "slabs"
    is_spread: bool = False
    pods: int = 2
    companies: int = 1
    has_colons: bool = False  # in ids, so that two slots share a key
    rate: float = 1.0
    balance: float = 1e6
    lease_size: float = 100.0
    duration: float = 30.0
    ttl: float = 5.0
    sweep_interval: float = 1.0
    slab_lifetime: float = 2.0
    mode: str = "client"
    skew: float = 0.0  # seconds that the clock of each pod is ahead of that of the pod before
    buffer_period: float = 1.0
    connections: int = 8  # to Redis, of each pod, at most
    spool: float | str | None = (
        None  # seconds between two syncs, "always" or "never"; None is no spool
    )
    shares_disk: bool = False
    is_replicated: bool = False  # entities come from Redis, where a replicator writes them
    is_tracked: bool = True  # Redis tells of changes
    are_dice_alike: bool = False  # what pods draw to differ from each other differs by little


@dataclass(frozen=True)
class Schedule:
    """A scenario, and what happens in it."""

    seed: int
    scenario: Scenario = field(default_factory=Scenario)
    steps: tuple[Step, ...] = ()

    def without(self, first: int, last: int) -> Schedule:
        """Leave out steps."""
        return replace(self, steps=self.steps[:first] + self.steps[last:])

    def with_step(self, at: int, step: Step) -> Schedule:
        """Put another step in the place of one."""
        return replace(self, steps=(*self.steps[:at], step, *self.steps[at + 1 :]))


def draw_schedule(seed: int, steps: int) -> Schedule:
    """Draw a schedule of so many steps."""
    draw = random.Random(f"schedule {seed}")
    scenario = draw_scenario(draw)
    if scenario.store != "memory":
        # The Redis that the replicator fills has the leases, too.
        is_replicated, is_tracked = draw.random() < REPLICATED, draw.random() < TRACKED
        scenario = replace(
            scenario, is_replicated=is_replicated, is_tracked=is_tracked or not is_replicated
        )
    mood = _Mood(draw, scenario)
    return Schedule(seed, scenario, tuple(_step(draw, scenario, mood) for _ in range(steps)))


class _Mood:
    """How often each kind of step comes in one schedule: some are rare there, and some abound.

    So a schedule has many steps of the few kinds that it takes to break something.
    """

    def __init__(self, draw: random.Random, scenario: Scenario) -> None:
        # Of some schedules nothing goes wrong, of most a little, of some a lot.
        self.trouble = draw.choice((0.0, 0.1, 0.2, 0.35))
        actions = ACTIONS | (SLAB_ACTIONS if scenario.store == "slabs" else {})
        actions |= MEMORY_ACTIONS if scenario.store == "memory" else {}
        actions |= REPLICATOR_ACTIONS if scenario.is_replicated else {}
        self.actions = _swayed(draw, actions)
        lacks = ("redis", "settle refused", "block") * (scenario.store == "memory")
        lacks += ("disk", "spool", "a day") * (scenario.spool is None)
        # To look after a replicator for a day takes long.
        lacks += ("a day",) * scenario.is_replicated
        faults = FAULTS | (MEMORY_FAULTS if scenario.store == "memory" else {})
        faults |= SLAB_FAULTS if scenario.store == "slabs" else {}
        faults |= REPLICATOR_FAULTS if scenario.is_replicated else {}
        self.faults = _swayed(draw, {k: v for k, v in faults.items() if not k.startswith(lacks)})


def _swayed(draw: random.Random, weights: dict[str, float]) -> dict[str, float]:
    return {kind: weight * draw.choice(SWAY) for kind, weight in weights.items()}


def draw_scenario(draw: random.Random) -> Scenario:
    """Draw what is there before the first step."""
    store = draw.choices(("memory", "redis", "slabs"), (3, 5, 3))[0]
    lease_size = draw.choice((20.0, 100.0, 100.0, 1000.0))
    return Scenario(
        store=store,
        is_spread=store != "memory" and draw.random() < 0.35,
        pods=draw.choice((1, 2, 2, 3)),
        companies=draw.choice((1, 1, 2)),
        has_colons=store != "memory" and draw.random() < 0.15,
        rate=draw.choice((1.0, 1.0, 0.1, 2.5)),
        balance=draw.choice((lease_size * 1.5, lease_size * 2, lease_size * 4, 1e6, 1e6)),
        lease_size=lease_size,
        duration=draw.choice((6.0, 20.0, 20.0, 60.0)),
        ttl=draw.choice((2.0, 2.0, 5.0, 5.0, 12.0)),
        sweep_interval=draw.choice((0.5, 2.0, 2.0, 4.0)),
        slab_lifetime=draw.choice((2.0, 10.0, 10.0)),
        skew=draw.choice(
            (0.0, 0.0, 0.0, 0.4, -3.0) if store == "memory" else (0.0,) * 5 + (0.4, -3.0)
        ),
        buffer_period=draw.choice((1.0, 1.0, 0.25)),
        connections=draw.choice((8, 8, 2)),
        spool=draw.choice((None, None, None, None, None, 0.5, "always", "never")),
        shares_disk=draw.random() < 0.5,
        are_dice_alike=store == "memory" and draw.random() < 0.3,
        mode="server" if store == "memory" and draw.random() < 0.1 else "client",
    )


def _gap(draw: random.Random) -> float:
    """Seconds between two steps: often none, mostly a few milliseconds, now and then some seconds."""
    kind = draw.random()
    if kind < 0.3:
        return 0.0
    if kind < 0.75:
        return round(draw.expovariate(300.0), 6)
    if kind < 0.95:
        return round(draw.expovariate(4.0), 4)
    return round(draw.uniform(1.0, 4.0), 3)


def _step(draw: random.Random, scenario: Scenario, mood: _Mood) -> Step:
    """Draw something that a caller does, or that goes wrong."""
    gap = _gap(draw)
    pod = draw.randrange(scenario.pods)
    weights = mood.faults if draw.random() < mood.trouble else mood.actions
    kind = draw.choices([*weights], [*weights.values()])[0]
    return gap, kind, _PARTICULARS[kind](_Drawing(draw, scenario, pod))


# How often each is drawn, if the mood of the schedule does not sway it.
SWAY = (0.25, 1.0, 1.0, 4.0)
ACTIONS: dict[str, float] = {
    "check": 50, "settle": 37, "be busy": 0.5, "check many": 2, "check everywhere": 2, "settle all": 2,
    "settle again": 2, "settle elsewhere": 4, "hand over": 1, "cancel": 4, "prewarm": 2, "hold": 3,
    "ask balance": 2, "wait": 3,
}  # fmt: skip
# Slabs are cut for who is busy.
SLAB_ACTIONS: dict[str, float] = {
    "be busy": 5, "settle elsewhere": 12, "hand over": 4, "hand over and drain": 3,
}  # fmt: skip
# One lease, of which each process has its own part.
MEMORY_ACTIONS: dict[str, float] = {"acquire together": 2, "check unheard": 2}
FAULTS: dict[str, float] = {
    "check unheard": 3, "service fate": 10, "redis fate": 14, "service status": 3,
    "down": 3, "silent": 3, "slow": 2, "cut": 3,
    "kill": 6, "freeze": 2, "shut down": 3, "start": 4, "change loop": 2,
    "settle and end": 4, "settle refused": 2, "hold and end": 3, "block overtaken": 3,
    "spool late": 4, "a day goes by": 3,
    "redis restarts": 1, "redis fails over": 1, "redis refuses": 2,
    "disk fills": 4, "disk is damaged": 6, "disk loses power": 4,
    "clock": 2, "redis clock": 1, "balance": 2, "delete": 0.5,
}  # fmt: skip
# Of leases that are in no shared store.
MEMORY_FAULTS: dict[str, float] = {"roll": 4}
SLAB_FAULTS: dict[str, float] = {"idle after refusal": 4}
REPLICATOR_ACTIONS: dict[str, float] = {
    "ask gate": 30, "ask often": 4, "change company": 10, "change often": 4, "change gate": 4,
}  # fmt: skip
REPLICATOR_FAULTS: dict[str, float] = {
    "cache fate": 10, "health fate": 2, "replicator stops": 3, "replicator restarts": 5, "key is deleted": 5,
    "change unheard": 8, "change while read": 8,
    "delete": 2, "company comes back": 4,
}  # fmt: skip
CACHE_OPERATIONS = (None, "get", "get", "client", "subscribe", "ping")
SECONDS = (0.2, 0.7, 1.5, 4.0)
JUMPS = (-3.0, -0.4, 0.4, 3.0)


class _Drawing:
    """What the particulars of a fault are drawn from."""

    def __init__(self, draw: random.Random, scenario: Scenario, pod: int) -> None:
        self.of = draw.choice
        self.below = draw.randrange
        self.scenario = scenario
        self.pod = pod

    def server(self) -> str:
        servers = ["service"] if self.scenario.store == "memory" else ["service", "redis"]
        return self.of(servers + ["cache", "cache", "replicator"] * self.scenario.is_replicated)

    def redis_operation(self) -> str | None:
        usual = SPLIT_OPERATIONS if self.scenario.is_spread else WHOLE_OPERATIONS
        slabs = SLAB_OPERATIONS if self.scenario.store == "slabs" else ()
        return self.of(REDIS_OPERATIONS + usual + slabs)

    def request(self) -> tuple[str, str | None]:
        """Draw a request that a pod makes when it ends, and of which server."""
        if self.server() == "redis":
            return "redis", self.redis_operation()
        return "service", self.of(("capture", "capture", "release"))

    def quiet(self) -> float:
        """Draw how long nobody checks, so that no lease may be left."""
        return self.of((0.0, self.scenario.duration + 1.0))

    def company(self) -> int:
        return self.below(self.scenario.companies)

    def usage(self) -> float:
        most = self.scenario.lease_size / self.scenario.rate
        return self.of((1.0, 3.0, 0.5, round(most * self.below(50) / 100, 2), round(most * 1.2)))

    def which(self) -> int:
        return self.below(1000)


FAILURES = ("fail-closed", "fail-closed", "fail-open")
_PARTICULARS: dict[str, Callable[[_Drawing], tuple[Any, ...]]] = {
    "check": lambda d: (
        d.pod, d.company(), d.usage(), d.of((2.0, 2.0, 2.0, 0.5, 0.05)), d.of(FAILURES),
    ),
    "check many": lambda d: (
        d.pod, d.company(), d.of((1.0, 0.5)), d.of((2.0, 0.5)), d.of(FAILURES), d.of((3, 6, 12)),
    ),
    "check everywhere": lambda d: (d.company(), d.usage(), d.of((2.0, 2.0, 0.5)), d.of(FAILURES)),
    "be busy": lambda d: (
        d.pod, d.company(), d.of((1.0, 2.0, 5.0)), d.of((20, 40)), d.of((0.06, 0.1)),
    ),
    "settle": lambda d: (d.pod, d.which(), d.of((1.0, 1.0, 0.5, 0.0, 1.3))),
    "settle all": lambda d: (d.pod, d.of((1.0, 0.5))),
    "settle again": lambda d: (d.pod, d.which(), d.of((1.0, 1.0, 0.5, 0.0, 1.3))),
    "settle elsewhere": lambda d: (
        d.pod, d.below(d.scenario.pods), d.which(), d.of((1.0, 0.5, 0.0)),
    ),
    "hand over": lambda d: (
        d.pod, d.below(d.scenario.pods), d.of((1.0, 1.0, 0.5)), d.of((None, None, 30, 100)),
    ),
    "cancel": lambda d: (d.pod, d.which()),
    "prewarm": lambda d: (d.pod, d.company()),
    "ask balance": lambda d: (d.pod, d.company()),
    "hold": lambda d: (
        d.pod, d.company(), d.of((3.0, 10.0, 40.0)), d.of((0.0, 0.5, 1.0, 2.2)), d.of((0.1, 1.0, 4.0)),
    ),
    "wait": lambda d: (
        d.of((0.5, 1.0, 1.0, d.scenario.ttl, d.scenario.ttl, d.scenario.duration)),
    ),
    "check unheard": lambda d: (
        d.pod, d.company(), d.of(("unanswered", "cut after", "status after")), d.of((0.02, 0.3)),
        d.quiet(),
    ),
    "service fate": lambda d: (
        d.pod, d.of((*KINDS, *ENDS)), d.of(STATUSES), d.of(SERVICE_OPERATIONS),
    ),
    "redis fate": lambda d: (d.pod, d.of((*LOSSES, *ENDS)), 0, d.redis_operation()),
    "settle and end": lambda d: (d.pod, d.of((1.0, 0.5)), *d.request(), d.of(ENDS)),
    "settle refused": lambda d: (
        d.pod, d.of(("read only", "full")), d.of((0.7, 1.5)), d.of((1.0, 0.5)), d.company(),
    ),
    "idle after refusal": lambda d: (
        d.pod, d.of(("read only", "full")), d.of((1.5, 2.5)), d.of((1.0, 0.5)), d.company(),
    ),
    "hand over and drain": lambda d: (
        d.pod, d.below(d.scenario.pods), d.company(), d.of((1.0, 2.0)),
    ),
    "block overtaken": lambda d: (
        d.pod, d.company(), d.of((0.1, 0.5, 4.0)), d.of(ENDS), d.of((None, "settle", "hold")),
    ),
    "hold and end": lambda d: (
        d.pod, d.company(), d.of((0.1, 0.4, 0.8)), d.of((0.5, 1.0, 1.5)), d.of((0.2, 0.45, 0.7, 0.9)),
    ),
    "acquire together": lambda d: (d.pod, d.company(), d.quiet()),
    "spool late": lambda d: (d.pod, d.company(), d.of((0.2, 1.5, 2.5))),
    "a day goes by": lambda d: (d.of((-60.0, 60.0, 3600.0)), d.of((0, 3, 30))),
    "service status": lambda d: (d.of(STATUSES), 1 + d.below(5), d.of(SERVICE_OPERATIONS)),
    "down": lambda d: (d.pod, d.server(), d.of(SECONDS)),
    "silent": lambda d: (d.pod, d.server(), d.of(SECONDS)),
    "slow": lambda d: (d.pod, d.server(), d.of((30.0, 30.0, 100.0, 300.0)), d.of(SECONDS)),
    "cut": lambda d: (d.pod, d.server()),
    "kill": lambda d: (d.pod, d.of((0, 1, 2, 3, 5, 8, 13, 30))),
    "freeze": lambda d: (d.pod, d.of((0.3, 1.2, d.scenario.ttl + 0.5))),
    "shut down": lambda d: (d.pod,),
    "roll": lambda d: (d.company(), d.usage(), d.of((0.0, 0.02, 1.2, 1.2))),
    "start": lambda d: (d.pod,),
    "change loop": lambda d: (d.pod,),
    "redis restarts": lambda _: (),
    "redis fails over": lambda d: (d.of((0.01, 0.3, 2.0)),),
    "redis refuses": lambda d: (d.of(("read only", "full")), d.of(SECONDS)),
    "disk fills": lambda d: (d.pod, d.of(SECONDS)),
    "disk is damaged": lambda d: (d.pod, d.of(("torn", "flipped"))),
    "disk loses power": lambda d: (d.pod,),
    "clock": lambda d: (d.pod, d.of(JUMPS)),
    "redis clock": lambda d: (d.of(JUMPS),),
    "balance": lambda d: (d.company(), d.of((0.0, 50.0, 1000.0))),
    "delete": lambda d: (d.company(),),
    "company comes back": lambda d: (d.company(),),
    "ask gate": lambda d: (d.pod, d.company(), d.of((2.0, 2.0, 0.5))),
    "change company": lambda d: (d.company(),),
    "change gate": lambda _: (),
    "cache fate": lambda d: (d.pod, d.of((*LOSSES, *ENDS)), d.of(CACHE_OPERATIONS)),
    "health fate": lambda d: (d.pod, d.of(LOSSES)),
    "replicator stops": lambda d: (d.of((0.3, 2.0, 4.0)),),
    "replicator restarts": lambda d: (
        d.of((True, True, False)), d.company(), d.of((0.05, 0.5, 2.0)),
    ),
    "ask often": lambda d: (d.company(), d.of((10, 30)), d.of((0.003, 0.02, 0.1))),
    "change often": lambda d: (d.company(), d.of((3, 8)), d.of((0.004, 0.02, 0.1))),
    "change unheard": lambda d: (
        d.pod, d.company(), d.of(("down", "silent", "cut")), d.of((0.7, 1.5, 4.0)),
    ),
    "change while read": lambda d: (
        d.company(), d.of(("company", "gate")), d.of((22, 25, 28, 31)), d.of((2.0, 2.0, 0.5)),
    ),
    "key is deleted": lambda d: (d.of(("flag", "company", "lookup")), d.company()),
}  # fmt: skip
