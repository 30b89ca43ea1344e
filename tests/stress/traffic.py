"""What one worker does next, drawn from a seed."""

from __future__ import annotations

import math
import random
import time
from typing import TYPE_CHECKING, NamedTuple

from tests.stress.companies import WEIGHTS
from tests.stress.counts import Count, Hold
from tests.stress.limits import TIMEOUT

if TYPE_CHECKING:
    from schematic_native import CheckResult


class Check(NamedTuple):
    """A check to make."""

    company: dict[str, str]
    usage: float
    timeout: float
    on_acquire_failure: str


class Settle(NamedTuple):
    """A settle to make."""

    hold: Hold
    quantity: float


class Traffic:
    """One worker: decides what to do next and counts what came of it."""

    def __init__(self, seed: str, companies: list[str]) -> None:
        self.count = Count()
        self._random = random.Random(seed)
        self._companies = companies
        self._open: list[Hold] = []

    def next(self) -> Check | Settle:
        """Decide what to do next."""
        choose = self._random
        while self._open and (len(self._open) > 12 or choose.random() < 0.5):
            hold = self._open.pop(choose.randrange(len(self._open)))
            # A tenth is never settled: the hold lapses and refunds itself.
            if choose.random() < 0.9:
                return Settle(hold, self._quantity(hold.reservation.quantity_reserved))
        company = {"id": choose.choices(self._companies, WEIGHTS)[0]}
        usage = choose.choice([choose.randint(1, 10), choose.uniform(0.1, 10.0), 90])
        mode = choose.choice(["fail-closed", "fail-closed", "fail-open"])
        return Check(company, usage, choose.choice([0.05, 0.3, TIMEOUT]), mode)

    def checked(self, check: Check, result: CheckResult, seconds: float) -> None:
        """Count a check."""
        self.count.checks += 1
        self.count.overrun = max(self.count.overrun, seconds - check.timeout)
        if result.reservation is not None:
            hold = Hold(result.reservation)
            self.count.holds.append(hold)
            self._open.append(hold)
        elif not result.allowed:
            self.count.denied[result.error or result.reason] += 1

    def settled(self, settle: Settle, seconds: float) -> None:
        """Count a settle; a tenth is settled once more."""
        hold = settle.hold
        if not hold.settles:
            hold.in_time = time.time() < hold.reservation.expires_at.timestamp()
        hold.settles.append(math.ceil(settle.quantity))
        self.count.overrun = max(self.count.overrun, seconds)
        if len(hold.settles) == 1 and self._random.random() < 0.1:
            self._open.append(hold)

    def _quantity(self, reserved: float) -> float:
        choose = self._random
        # Few settle beyond their hold: what the server bills beyond a lease is explained by them alone.
        weights = {"under": 40, "exact": 40, "nothing": 18, "over": 2}
        (kind,) = choose.choices(list(weights), weights.values())
        if kind == "under":
            return choose.uniform(0, reserved)
        if kind == "over":
            return reserved + choose.randint(1, 5)
        return reserved if kind == "exact" else 0
