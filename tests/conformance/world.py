"""Everything around a vector, and the leases that are in it from the start."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.conformance.arguments import slot_of
from tests.conformance.clock import instant

if TYPE_CHECKING:
    from tests.conformance.backends import Backend
    from tests.conformance.clock import Clock
    from tests.conformance.engine import Engine
    from tests.conformance.programs import Program, Stage
    from tests.conformance.service import Service
    from tests.conformance.vectors import Fields


@dataclass(frozen=True)
class World:
    """Everything around a vector."""

    program: Program
    backend: Backend
    service: Service
    clock: Clock
    engine: Engine
    stage: Stage


def install(world: World, fields: Fields) -> bool:
    return world.backend.install(
        slot_of(fields),
        fields.text("lease_id"),
        fields.number("granted_amount"),
        instant(fields.number("expires_at_ms")),
    )
