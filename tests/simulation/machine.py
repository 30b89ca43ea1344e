"""The machine of a simulated pod: its clocks, its randomness and its connections come from the world."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from schematic_native.ground.machine import Machine

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.simulation.world import World

EPOCH = 1_800_000_000.0
# The share of what is drawn to differ from others that does, where it is mostly alike.
ALIKE = 0.3


class Clock:
    """A wall clock that may jump and drift."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._offset = 0.0
        self._rate = 1.0
        self._since = 0.0
        # Seconds by which it was set back, all in all.
        self.set_back = 0.0

    def __call__(self) -> float:
        now = self._world.now
        if self._rate == 1.0:
            return EPOCH + now + self._offset
        return EPOCH + now + self._offset + (now - self._since) * (self._rate - 1.0)

    def jump(self, seconds: float) -> None:
        """Be set forward, or back."""
        self._offset += seconds
        self.set_back -= min(0.0, seconds)

    def drift(self, rate: float) -> None:
        """Run so many times as fast from now on."""
        now = self._world.now
        self._offset += (now - self._since) * (self._rate - 1.0)
        self._since, self._rate = now, rate


def make_machine(
    world: World,
    clock: Clock,
    seed: str,
    connect: Callable[..., Awaitable[Any]],
    open_http: Callable[[], Any],
    alike_by: float | None,
) -> Machine:
    """Return the machine of one process of a pod.

    Args:
        world: its steady clock.
        clock: its wall clock.
        seed: of all that it draws.
        connect: opens a WebSocket.
        open_http: opens what the replicator is asked with.
        alike_by: what it mostly draws to differ from others; None if that is any number.

    """
    drawn = random.Random(seed)

    def jitter() -> float:
        number = drawn.random()
        return number if alike_by is None or number < ALIKE else alike_by

    def monotonic() -> float:
        return world.now

    return Machine(
        clock=clock,
        monotonic=monotonic,
        jitter=jitter,
        token=lambda: f"{drawn.getrandbits(64):016x}",
        unique_key=lambda: f"{drawn.getrandbits(128):032x}",
        connect=connect,
        open_http=open_http,
        core={"clock": clock, "steady": monotonic, "seed": drawn.getrandbits(63)},
    )
