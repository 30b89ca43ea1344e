"""What workers count themselves: their holds, and what calls came to."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from schematic_native import Reservation


@dataclass
class Hold:
    """What a worker did with one reservation."""

    reservation: Reservation
    # Whole units of each settle.
    settles: list[int] = field(default_factory=list)
    # Whether the first settle came back before the hold lapsed, and so surely found it open.
    in_time: bool = False

    @property
    def spent(self) -> float:
        """Credits that the first settle took from the local lease."""
        if not self.settles:
            return 0.0
        rate = self.reservation.consumption_rate
        return min(self.settles[0] * rate, self.reservation.credits_reserved)

    def excess(self, billed: int) -> float:
        """Credits that were billed on top of what was held, if `billed` units were."""
        charged = billed * self.reservation.consumption_rate
        return max(0.0, charged - (self.spent if self.in_time else 0.0))


@dataclass
class Count:
    """What one process counted itself."""

    checks: int = 0
    denied: Counter[str] = field(default_factory=Counter)
    holds: list[Hold] = field(default_factory=list)
    # What calls raised; they must raise nothing.
    raised: list[str] = field(default_factory=list)
    # The longest that a call took beyond its timeout, and the shutdown as a whole, in seconds.
    overrun: float = 0.0
    shutdown: float = 0.0
    # Samples of a lease that had less than nothing or more than was granted.
    impossible: list[str] = field(default_factory=list)
    undelivered: int = 0
    logged: int = 0

    def add(self, other: Count) -> None:
        """Add what another worker or process counted."""
        self.checks += other.checks
        self.denied += other.denied
        self.holds += other.holds
        self.raised += other.raised
        self.overrun = max(self.overrun, other.overrun)
        self.shutdown = max(self.shutdown, other.shutdown)
        self.impossible += other.impossible
        self.undelivered += other.undelivered
        self.logged += other.logged
