"""The machine of a simulated pod: its clocks, its randomness and its connections come from the world."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.simulation.world import World

EPOCH = 1_800_000_000.0


class Clock:
    """A wall clock that may jump and drift."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._offset = 0.0
        self._rate = 1.0
        self._since = 0.0

    def __call__(self) -> float:
        now = self._world.now
        return EPOCH + now + self._offset + (now - self._since) * (self._rate - 1.0)

    def jump(self, seconds: float) -> None:
        """Be set forward, or back."""
        self._offset += seconds

    def drift(self, rate: float) -> None:
        """Run so many times as fast from now on."""
        now = self._world.now
        self._offset += (now - self._since) * (self._rate - 1.0)
        self._since, self._rate = now, rate


class Machine:
    """What a pod takes from the machine it runs on."""

    def __init__(self, world: World, clock: Clock, seed: str) -> None:
        self._world = world
        self.clock = clock
        self._random = random.Random(seed)
        self.core: dict[str, Any] = {
            "clock": clock,
            "steady": self.monotonic,
            "seed": self._random.getrandbits(63),
        }

    def monotonic(self) -> float:
        return self._world.now

    def random(self) -> float:
        return self._random.random()

    def token(self) -> str:
        return f"{self._random.getrandbits(64):016x}"

    def key(self) -> str:
        return f"{self._random.getrandbits(128):032x}"
