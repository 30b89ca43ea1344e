"""Schedules: what is set up, what callers do and what goes wrong, all drawn from one seed.

A schedule is plain data, so that it can be shrunk, printed and run again. Whatever a step refers to is counted
among what there is when the step comes, so a schedule stays one when steps are left out.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from tests.simulation.network import KINDS

# Seconds until it happens after the step before, what happens, and its particulars.
Step: TypeAlias = "tuple[float, str, tuple[Any, ...]]"

STATUSES = (402, 408, 413, 429, 500, 503)
REDIS_OPERATIONS = (None, "hold", "settle", "reserve", "record", "claim", "refund", "extend", "install",
                    "lease", "zrangebyscore", "note", "close", "time")  # fmt: skip
SERVICE_OPERATIONS = (None, "acquire", "extend", "release", "capture", "subscribe", "reserve")


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
    # Of some schedules nothing goes wrong, of most a little, of some a lot.
    trouble = draw.choice((0.0, 0.1, 0.2, 0.35))
    return Schedule(seed, scenario, tuple(_step(draw, scenario, trouble) for _ in range(steps)))


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
        balance=draw.choice((lease_size * 1.5, lease_size * 4, 1e6, 1e6)),
        lease_size=lease_size,
        duration=draw.choice((6.0, 20.0, 20.0)),
        ttl=draw.choice((2.0, 5.0, 5.0)),
        sweep_interval=draw.choice((0.5, 1.0, 2.0, 2.0)),
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


def _step(draw: random.Random, scenario: Scenario, trouble: float) -> Step:
    gap = _gap(draw)
    pod = draw.randrange(scenario.pods)
    if draw.random() < trouble:
        return (gap, *_fault(draw, scenario, pod))
    return (gap, *_action(draw, scenario, pod))


def _action(draw: random.Random, scenario: Scenario, pod: int) -> tuple[str, tuple[Any, ...]]:
    which = draw.randrange(1000)
    kind = draw.choices(
        ("check", "settle", "settle again", "settle elsewhere", "cancel", "prewarm", "hold", "wait"),
        (50, 38, 2, 4, 4, 2, 0, 3),
    )[0]
    if kind == "check":
        most = scenario.lease_size / scenario.rate
        usage = draw.choice((1.0, 3.0, 0.5, round(most * draw.random() * 0.5, 2), round(most * 1.2)))
        timeout = draw.choice((2.0, 2.0, 2.0, 0.5, 0.05))
        failure = draw.choice(("fail-closed", "fail-closed", "fail-open"))
        return kind, (pod, draw.randrange(scenario.companies), usage, timeout, failure)
    if kind in {"settle", "settle again"}:
        return kind, (pod, which, draw.choice((1.0, 1.0, 0.5, 0.0, 1.3)))
    if kind == "settle elsewhere":
        return kind, (pod, draw.randrange(scenario.pods), which, draw.choice((1.0, 0.5, 0.0)))
    if kind == "cancel":
        return kind, (pod, which)
    if kind == "prewarm":
        return kind, (pod, draw.randrange(scenario.companies))
    return kind, (draw.choice((0.5, 1.0, 1.0, scenario.ttl, scenario.ttl, scenario.duration)),)


def _fault(draw: random.Random, scenario: Scenario, pod: int) -> tuple[str, tuple[Any, ...]]:
    has_redis = scenario.store != "memory"
    kind = draw.choices(
        ("service fate", "redis fate", "down", "silent", "slow", "kill", "freeze", "shut down", "start",
         "change loop", "redis restarts", "redis fails over", "redis refuses", "clock", "balance", "delete",
         "cut", "redis clock", "service status"),
        (10, 14 * has_redis, 3, 3, 2, 6, 2, 3, 4,
         2, 1 * has_redis, 1 * has_redis, 2 * has_redis, 2, 2, 0.5,
         3, 1 * has_redis, 3),
    )[0]  # fmt: skip
    server = draw.choice(("service", "redis")) if has_redis else "service"
    seconds = draw.choice((0.2, 0.7, 1.5, 4.0))
    if kind == "service fate":
        fate = draw.choice(KINDS), draw.choice(STATUSES), draw.choice(SERVICE_OPERATIONS)
        return kind, (pod, *fate)
    if kind == "redis fate":
        return kind, (pod, draw.choice(KINDS[:5]), 0, draw.choice(REDIS_OPERATIONS))
    if kind in {"down", "silent", "cut"}:
        return kind, (pod, server, seconds)
    if kind == "service status":
        return kind, (draw.choice(STATUSES), draw.randrange(1, 6), draw.choice(SERVICE_OPERATIONS))
    if kind == "slow":
        return kind, (pod, server, draw.choice((30.0, 300.0)), seconds)
    if kind == "kill":
        return kind, (pod, draw.choice((0, 1, 2, 3, 5, 8, 13, 30)))
    if kind == "freeze":
        return kind, (pod, draw.choice((0.3, 1.2, scenario.ttl + 0.5)))
    if kind in {"shut down", "start", "change loop"}:
        return kind, (pod,)
    if kind == "redis fails over":
        return kind, (draw.choice((0.01, 0.3, 2.0)),)
    if kind == "redis refuses":
        return kind, (draw.choice(("read only", "full")), seconds)
    if kind in {"clock", "redis clock"}:
        jump = draw.choice((-3.0, -0.4, 0.4, 3.0))
        return (kind, (pod, jump)) if kind == "clock" else (kind, (jump,))
    if kind == "balance":
        return kind, (draw.randrange(scenario.companies), draw.choice((0.0, 50.0, 1000.0)))
    if kind == "delete":
        return kind, (draw.randrange(scenario.companies),)
    return kind, ()
