"""When the open holds of a client are renewed: one timer on the client's event loop for all of them.

It must never keep a hold or the client from being garbage collected.
"""

# ruff: noqa: SLF001 - a hold is part of its client

from __future__ import annotations

import contextlib
import math
import time
from typing import TYPE_CHECKING, Any, Protocol

from schematic_native._native import OpenHolds

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from schematic_native.client.runtime import Runtime
    from schematic_native.client.session import Session
    from schematic_native.config.lease_settings import LeaseSettings

# A hold is renewed when this fraction of its time to live has passed: the rest leaves time to retry.
RENEWED_AT = 2 / 3


class Renewable(Protocol):
    """What the schedule needs of a hold."""

    _due: float  # an instant of the monotonic clock

    def _renew(self, runtime: Runtime) -> Coroutine[object, object, None]: ...

    def _settle_so_far(self) -> None: ...


class Holds(OpenHolds):
    """The open holds of one client, renewed on its event loop before they expire.

    Args:
        session: the client's session, which has the event loop.
        leases: how long holds live; None without credit leases.
        monotonic: seconds that never go back.

    """

    def __init__(
        self, session: Session, leases: LeaseSettings | None, monotonic: Callable[[], float]
    ) -> None:
        if monotonic is not time.monotonic:  # which is faster to read than to call
            self._take_clock(monotonic)
        self.lead = math.inf if leases is None else RENEWED_AT * _shortest_life(leases)
        self._session = session
        session.settle_holds = self.settle
        self._timer: Any = None

    def start(self) -> None:
        """Continue on a new event loop with the holds that are still open. Call it on that loop."""
        if self.live():
            self._renew_due()

    def settle(self) -> None:
        """Settle what all holds have used so far, before the client shuts down or the interpreter exits."""
        for hold in self.live():
            hold._settle_so_far()

    def wake_at(self, due: float) -> None:
        """Move the timer forward to an earlier time."""
        self.next_at = due
        runtime = self._session.runtime
        if runtime is not None:
            with contextlib.suppress(RuntimeError):  # of a loop that is closed
                runtime.loop.call_soon_threadsafe(self._arm)

    def _arm(self) -> None:
        runtime = self._session.runtime
        if runtime is None or self.next_at == math.inf:
            return
        if self._timer is not None:
            self._timer.cancel()
        left = max(0.0, self.next_at - self.monotonic())
        self._timer = runtime.loop.call_later(left, self._renew_due)

    def _renew_due(self) -> None:
        runtime = self._session.runtime
        if runtime is None:
            return
        self.next_at = math.inf
        now, soonest = self.monotonic(), math.inf
        for hold in self.live():
            if hold._due <= now:
                hold._due = math.inf
                runtime.spawn(hold._renew(runtime))
            soonest = min(soonest, hold._due)
        self.next_at = min(self.next_at, soonest)
        self._arm()


def _shortest_life(leases: LeaseSettings) -> float:
    """Return the shortest time to live of a hold of any credit type, in seconds."""
    lives = [leases.reservation_ttl]
    for knobs in (leases.overrides or {}).values():
        life = knobs.get("reservation_ttl")
        if life is not None:
            lives.append(life)
    return min(lives)
