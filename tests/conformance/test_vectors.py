"""Every vector through the public clients, sync and async, on every backend."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from schematic_native import CreditLeaseConfig
from tests.conformance import service as scripted
from tests.conformance.engine import Engine
from tests.conformance.places import PLACES
from tests.conformance.programs import PROGRAMS, Stage
from tests.conformance.run import flags_of, run
from tests.conformance.vectors import Vector, read_vectors
from tests.conformance.world import World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conformance.places import Place
    from tests.conformance.service import Service
    from tests.conformance.vectors import Fields

# Longer than any vector takes: holds are swept when a vector says so.
NEVER = 3600.0


class Case(NamedTuple):
    """A vector on a backend, through a client."""

    vector: Vector
    place: str
    client: str

    def __str__(self) -> str:
        return f"{self.vector.name}[{self.place}-{self.client}]"


CASES = [
    Case(vector, place, client)
    for place in PLACES
    for vector in read_vectors()
    for client in PROGRAMS
    if vector.runs_on(place)
]


@pytest.fixture(scope="session")
def service() -> Iterator[Service]:
    with scripted.Service() as running:
        yield running


@pytest.fixture(scope="session")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """Return the event loop of the asynchronous programs, one after another."""
    loop = asyncio.new_event_loop()
    yield loop
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


@pytest.fixture(scope="session")
def places(loop: asyncio.AbstractEventLoop) -> Iterator[Callable[[str], Place]]:
    """Open each place at its first vector, and close all at the end."""
    opened: dict[str, Place] = {}
    with ExitStack() as stack:

        def find(name: str) -> Place:
            if name not in opened:
                opened[name] = stack.enter_context(PLACES[name](loop))
            return opened[name]

        yield find


def client_config(config: Fields, service: Service, redis_client: Any) -> dict[str, Any]:
    """Configure a client as a vector says."""

    def seconds(name: str) -> float | None:
        milliseconds = config.optional_number(name)
        return None if milliseconds is None else milliseconds / 1000

    leases = CreditLeaseConfig(
        mode=config.get("mode", "client"),
        default_lease_size=config.optional_number("lease_size"),
        low_water_mark=config.optional_number("low_water_mark"),
        default_lease_duration=seconds("lease_duration_ms"),
        default_reservation_ttl=seconds("reservation_ttl_ms") or 60.0,
        prewarm_resolve_timeout=seconds("prewarm_resolve_timeout_ms"),
        sweep_interval=NEVER,
        redis_client=redis_client,
    )
    return {
        "base_url": service.url,
        "event_capture_url": service.url,
        "use_datastream": config.get("datastream", default=True),
        "offline": config.get("offline", default=False),
        "credit_leases": leases if config.get("credit_leases", default=True) else None,
    }


@pytest.mark.parametrize("case", CASES, ids=str)
def test_vector(
    case: Case,
    service: Service,
    loop: asyncio.AbstractEventLoop,
    places: Callable[[str], Place],
    monkeypatch: pytest.MonkeyPatch,
):
    vector, place, engine = case.vector, places(case.place), Engine()
    clock = place.begin()
    stage = Stage(monkeypatch, clock, engine)
    service.begin(clock)
    service.flags = [scripted.flag(key, vector.meters.get(key)) for key in flags_of(vector)]
    config = vector.config
    fields = client_config(config, service, place.redis_client(case.client))
    config.check_all_read()
    program = PROGRAMS[case.client](loop, **fields)
    backend = place.backend(program)
    try:
        run(vector, World(program, backend, service, clock, engine, stage))
    finally:
        backend.close()
        program.close()
