"""The ends that leases are asked for, by which a process recognises its own lease.

The service keeps one lease for a slot and hands it to every process that asks. So each process asks for
an end that no other asks for, up to 30 s early, and its own lease is the one that has this end. Of two
processes that ask at once for leases of 300 s, one in 29 million takes the other's for its own.

A service that keeps milliseconds leaves one in fifteen thousand, so there an extend must prove whose the
lease is (see `siblings`). One that rounds more makes every lease look like another's, which costs an
extend and is safe.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from schematic_native.config.defaults import LONGEST_HOLD

if TYPE_CHECKING:
    from collections.abc import Callable

    from schematic_native.service.responses import GrantedLease

# Seconds that an end is asked for early, at most.
EXPIRY_JITTER = 30.0
# The same as a part of the lease, for those that are short.
MOST_EXPIRY_JITTER = 0.1
# Microseconds before and after a full millisecond in which no end is asked for.
NEXT_TO_MILLISECOND = 10


class LeaseEnds:
    """Chooses the ends to ask for.

    Args:
        now: the core's clock, in epoch seconds.
        jitter: returns a number from 0 to 1.

    """

    def __init__(self, now: Callable[[], float], jitter: Callable[[], float]) -> None:
        self._now = now
        self._jitter = jitter

    def unique(self, expires_at: float) -> float:
        """Return an end that no other process asks for."""
        ends = self.within_the_hour(expires_at)
        most = min(EXPIRY_JITTER, MOST_EXPIRY_JITTER * (ends - self._now()))
        end = ends - most * self._jitter()
        if most and not NEXT_TO_MILLISECOND < end * 1e6 % 1000 < 1000 - NEXT_TO_MILLISECOND:
            # Rounded to the millisecond it would look as if the service had kept the microseconds.
            end -= 5 * NEXT_TO_MILLISECOND / 1e6
        return round(end, 6)

    def within_the_hour(self, expires_at: float) -> float:
        """Return an end that the service accepts as within the hour even if its clock is slow."""
        return min(expires_at, self._now() + LONGEST_HOLD)


def is_foreign(lease: GrantedLease, asked_end: float) -> bool:
    """Tell whether a granted lease was there already, acquired by another process.

    A new one has the end that was asked for, to the microsecond or the millisecond.
    """
    if lease.expires_at is None:
        return False
    in_millis = (round(asked_end, 3), math.floor(asked_end * 1000) / 1000)
    return not any(ends_at(lease, end) for end in (asked_end, *in_millis))


def ends_at(lease: GrantedLease, end: float) -> bool:
    """Tell whether a lease may end at this instant, to the microsecond; its end may be unknown."""
    return lease.expires_at is None or round(lease.expires_at * 1e6) == round(end * 1e6)
