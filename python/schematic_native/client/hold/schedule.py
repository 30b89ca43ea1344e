"""When each open hold of a client is renewed: one timer on the client's loop for all of them."""

# ruff: noqa: SLF001 - a hold is a part of its client

from __future__ import annotations

import contextlib
import math
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol
from weakref import ref

from schematic_native._native import OpenHolds

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from schematic_native.client.runtime import Runtime
    from schematic_native.client.session import Session
    from schematic_native.config.lease_settings import LeaseSettings

# A hold is renewed when this part of its time to live has passed: the rest is for further tries.
RENEWED_AT = 2 / 3


class Renewable(Protocol):
    """A hold, as its schedule sees it."""

    _due: float  # an instant of the monotonic clock

    def _renew(self, runtime: Runtime) -> Coroutine[object, object, None]: ...

    def _settle_so_far(self) -> None: ...


class Holds(OpenHolds):
    """The open holds of one client, renewed on its loop before they lapse.

    Args:
        session: has the loop. Neither it nor this holds the client, or a hold.
        leases: how long holds live; None without credit leases.

    """

    def __init__(self, session: Session, leases: LeaseSettings | None) -> None:
        self.lead = math.inf if leases is None else RENEWED_AT * _shortest_life(leases)
        self._session = session
        self._timer: Any = None

    def watch(self, hold: Renewable) -> None:
        """Have a hold renewed when it is due."""
        self.open[id(hold)] = ref(hold)
        # Read after the hold is there: whoever looks meanwhile either sees it or is rung for.
        if hold._due < self.next_at:
            self.ring(hold._due)

    def start(self) -> None:
        """Go on on a new loop, from it, with what an earlier one left."""
        if self.open:
            self._look()

    def settle(self) -> None:
        """Settle what was used so far: the client is about to shut down."""
        for reference in list(self.open.values()):
            hold = reference()
            if hold is not None:
                hold._settle_so_far()

    def ring(self, due: float) -> None:
        """Have the loop look at the holds at an instant that is sooner than it would."""
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
        left = max(0.0, self.next_at - monotonic())
        self._timer = runtime.loop.call_later(left, self._look)

    def _look(self) -> None:
        runtime = self._session.runtime
        if runtime is None:
            return
        self.next_at = math.inf
        now, soonest = monotonic(), math.inf
        for reference in list(self.open.values()):
            hold = reference()
            if hold is None:
                continue
            if hold._due <= now:
                hold._due = math.inf
                runtime.spawn(hold._renew(runtime))
            soonest = min(soonest, hold._due)
        self.next_at = min(self.next_at, soonest)
        self._arm()


def _shortest_life(leases: LeaseSettings) -> float:
    """Return the seconds that a hold of any credit type lives at least."""
    lives = [leases.reservation_ttl]
    for knobs in (leases.overrides or {}).values():
        life = knobs.get("reservation_ttl")
        if life is not None:
            lives.append(life)
    return min(lives)
