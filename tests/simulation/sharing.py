"""Leases that pods without Redis have in common: who may give one back, and until when it may be spent.

It knows what the service told everybody, and when; what a pod could not hear it does not hold against it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.simulation.judge import LATEST, TOLERANCE, ViolationError
from tests.simulation.machine import EPOCH

if TYPE_CHECKING:
    from collections.abc import Iterable

    from schematic_native.emulator.credits.holds import Lease
    from tests.simulation.pods import Pod
    from tests.simulation.world import World

# Seconds after which every pod has been told of a change, if nothing is in the way.
TOLD = 1.0
# Seconds until a pod finds out that its connection has gone silent.
UNNOTICED = 60.0


class Sharing:
    """What pods have of which lease, and since when."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._since: dict[tuple[str, str], float] = {}  # by lease, and name of the pod

    def given_back(self, owner: Pod, lease_id: str, others: Iterable[tuple[Pod, Any]]) -> None:
        """A pod has released a lease; `others` are the pods that have one, each with its lease."""
        for pod, lease in others:
            since = self._since.get((lease_id, pod.name), self._world.now)
            hears = owner.to_service.failed_at < since - UNNOTICED
            is_told = since < self._world.now - TOLD and hears
            is_live = pod.clock() < lease.expires_at
            has_any = lease.lease_id == lease_id and lease.remaining > TOLERANCE
            if pod is not owner and is_told and is_live and has_any:
                raise ViolationError(
                    f"{owner.name} released lease {lease_id}, and {pod.name} has {lease.remaining} left of it"
                )

    def taken(self, pod: Pod, lease: Lease, leases: Iterable[Lease]) -> None:
        """A pod has answered a check with credits of a lease."""
        self._since.setdefault((lease.id, pod.name), self._world.now)
        if lease.released_at is None:
            return
        at = lease.released_at - EPOCH
        # What is told of one lease is then told of the other.
        is_succeeded = any(at <= each.created_at - EPOCH < at + TOLD for each in leases)
        if is_succeeded or pod.to_service.failed_at > at - TOLD:
            return
        if self._world.now > at + LATEST:
            raise ViolationError(
                f"{pod.name} spends lease {lease.id}, released {self._world.now - at:.3f} s ago"
            )
