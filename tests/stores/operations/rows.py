"""The lease and holds that a test begins with, and how their rows are read and dated back."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from tests.stores.callers import LEASE, SLOT, Caller, hold

if TYPE_CHECKING:
    from schematic_native.redis import Installed

YEAR_2100 = 4_102_444_800.0
NONSENSE = [float("nan"), float("inf"), float("-inf"), -1.0]


def install(
    caller: Caller, lease_id: str = "lease_1", granted: float = 100.0, ends: float = YEAR_2100
) -> Installed:
    return caller.do(caller.ask.install(SLOT, lease_id, granted, ends))


def expire(raw: Any) -> None:
    """Date a lease back, by ten seconds: it has expired, and is there still."""
    raw.hset(LEASE, "expiresAt", int((time.time() - 10) * 1000))


def remaining(raw: Any) -> float:
    return float(raw.hget(LEASE, "localRemainingCredits"))


def reserve_and_add(caller: Caller, hold_id: str = "hold_1", **changes: Any) -> None:
    reservation = hold(hold_id, **changes)
    caller.do(caller.ask.try_reserve(SLOT, reservation.credits_reserved))
    assert caller.do(caller.ask.add(reservation))
