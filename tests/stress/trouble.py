"""What goes wrong while the workers work, drawn from a seed."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from tests.stress.limits import MOST_AHEAD

if TYPE_CHECKING:
    from schematic_native.emulator import Emulator, InjectedFault


class Trouble:
    """What goes wrong, drawn from one seed."""

    KINDS = ("delay", "status", "status", "cut", "cut", "drop", "drop", "freeze")
    PLACES = ("acquire", "extend", "release", "capture", "capture", "any", "datastream")

    def __init__(self, emulator: Emulator, seed: int) -> None:
        self.log: Counter[str] = Counter()
        self._emulator = emulator
        self._random = random.Random(f"trouble/{seed}")
        self._ahead = 0.0
        self._open: list[tuple[float, InjectedFault]] = []

    def until(self, end: float) -> None:
        """Make trouble until an instant of the monotonic clock, then heal everything."""
        pause = threading.Event()
        while time.monotonic() < end:
            self._heal()
            self._strike()
            pause.wait(min(self._random.uniform(0.05, 0.4), max(0.0, end - time.monotonic())))
        self._emulator.heal()

    def _heal(self) -> None:
        now = time.monotonic()
        for until, fault in self._open:
            if until <= now:
                fault.clear()
        self._open = [(until, fault) for until, fault in self._open if until > now]

    def _strike(self) -> None:
        choose = self._random
        draw = choose.random()
        if draw < 0.1:
            self._emulator.drop_sockets()
            self.log["drop every socket"] += 1
        elif draw < 0.2:
            self._step()
        elif draw < 0.24:
            self._inject(0.3, "refuse", "any")
        elif draw < 0.9:
            kind, place = choose.choice(self.KINDS), choose.choice(self.PLACES)
            arguments: dict[str, Any] = {"probability": choose.choice([0.3, 1.0])}
            arguments["seed"] = choose.randrange(1000)
            if kind == "delay":
                arguments["seconds"] = choose.uniform(0.01, 0.4)
            elif kind == "status":
                arguments["status"] = choose.choice([402, 429, 500, 503])
                arguments["retry_after"] = choose.choice([0.0, 0.1, None])
            self._inject(choose.uniform(0.1, 0.8), kind, place, **arguments)

    def _inject(self, lasting: float, kind: str, place: str, **arguments: Any) -> None:
        fault = self._emulator.fail(kind, place, **arguments)
        self._open.append((time.monotonic() + lasting, fault))
        self.log[f"{kind} on {place}"] += 1

    def _step(self) -> None:
        """Step the emulator's clock, in all no further than clients can still live with."""
        step = self._random.uniform(0.1, 0.5)
        if self._ahead + step <= MOST_AHEAD:
            self._ahead += step
            self._emulator.advance(step)
            self.log["step the clock"] += 1
