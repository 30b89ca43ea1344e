"""Every vector through the public clients, sync and async, on every backend."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from schematic_native import CreditLeaseConfig
from tests.conformance import service as scripted
from tests.conformance.backends import BACKENDS
from tests.conformance.clock import Clock
from tests.conformance.engine import Engine
from tests.conformance.programs import PROGRAMS, Stage
from tests.conformance.run import World, flags_of, run
from tests.conformance.vectors import Vector, read_vectors

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conformance.service import Service
    from tests.conformance.vectors import Fields

# Longer than any vector takes: holds are swept when a vector says so.
NEVER = 3600.0


class Case(NamedTuple):
    """A vector on a backend, through a client."""

    vector: Vector
    backend: str
    client: str

    def __str__(self) -> str:
        return f"{self.vector.name}[{self.backend}-{self.client}]"


CASES = [
    Case(vector, backend, client)
    for backend in BACKENDS
    for vector in read_vectors()
    for client in PROGRAMS
    if vector.runs_on(backend)
]


@pytest.fixture(scope="session")
def service() -> Iterator[Service]:
    with scripted.Service() as running:
        yield running


def lease_config(config: Fields, **fields: Any) -> CreditLeaseConfig:
    def seconds(name: str) -> float | None:
        milliseconds = config.optional_number(name)
        return None if milliseconds is None else milliseconds / 1000

    return CreditLeaseConfig(
        mode=config.get("mode", "client"),
        default_lease_size=config.optional_number("lease_size"),
        low_water_mark=config.optional_number("low_water_mark"),
        default_lease_duration=seconds("lease_duration_ms"),
        default_reservation_ttl=seconds("reservation_ttl_ms") or 60.0,
        prewarm_resolve_timeout=seconds("prewarm_resolve_timeout_ms"),
        sweep_interval=NEVER,
        **fields,
    )


@pytest.mark.parametrize("case", CASES, ids=str)
def test_vector(case: Case, service: Service, monkeypatch: pytest.MonkeyPatch):
    clock, engine = Clock(), Engine()
    stage = Stage(monkeypatch, clock, engine)
    service.begin(clock)
    service.flags = [scripted.flag(key) for key in flags_of(case.vector.operations)]
    config = case.vector.config
    program = PROGRAMS[case.client](
        base_url=service.url,
        event_capture_url=service.url,
        use_datastream=config.get("datastream", True),
        credit_leases=lease_config(config),
    )
    config.check_all_read()
    backend = BACKENDS[case.backend](program.client._core)
    try:
        run(case.vector, World(program, backend, service, clock, engine, stage))
    finally:
        program.close()
