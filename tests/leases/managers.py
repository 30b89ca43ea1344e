"""A manager of leases, on a clock and a lease service that the test controls."""

from __future__ import annotations

import asyncio
import json
from importlib.resources import files
from typing import TYPE_CHECKING

import pytest

from schematic_native._native import CheckResult, Core
from schematic_native.config.lease_settings import LeaseSettings
from schematic_native.leases.manager import Leases
from schematic_native.leases.work import Work
from schematic_native.service.responses import GrantedLease
from tests.conftest import ACME, PATIENCE

if TYPE_CHECKING:
    from schematic_native.service.errors import ApiError

COMPANY, CREDIT = "comp_acme", "credit_inference"
SLOT = (COMPANY, CREDIT)


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


class LeaseApi:
    """Stands in for the lease calls: grants what is asked, once `gate` is open."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.acquires: list[float] = []
        self.extends: list[tuple[str, float]] = []
        self.released: list[str] = []
        self.totals: dict[str, float] = {}
        self.ids = [f"lse_{n}" for n in range(1, 100)]
        self.failure: ApiError | None = None
        self.gate = asyncio.Event()
        self.gate.set()

    async def acquire_lease(
        self, company_id, credit_type_id, requested_amount, expires_at, deadline=None
    ):
        self.acquires.append(requested_amount)
        lease_id = self.ids.pop(0)
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        self.totals[lease_id] = requested_amount
        return GrantedLease(lease_id, requested_amount, expires_at)

    async def extend_lease(self, lease_id, additional_amount, expires_at, deadline=None):
        self.extends.append((lease_id, additional_amount))
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        self.totals[lease_id] = self.totals.get(lease_id, 0) + additional_amount
        return GrantedLease(lease_id, self.totals[lease_id], expires_at)

    async def release_lease(self, lease_id, deadline=None):
        self.released.append(lease_id)
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def core(clock) -> Core:
    """A core that knows the flag `inference` (2 credits a unit) and acme; leases of 1000."""
    core = Core(api_key="k", clock=clock, lease_size=1000)
    seed = json.loads(files("schematic_native.emulator").joinpath("inference.json").read_text())
    messages = [("rulesengine.Flags", seed["flags"]), ("rulesengine.Company", seed["companies"][0])]
    for entity_type, data in messages:
        message = {"entity_type": entity_type, "message_type": "full", "data": data}
        assert core.ingest(json.dumps(message)).skipped == []
    return core


@pytest.fixture
async def api(clock) -> LeaseApi:
    return LeaseApi(clock)


@pytest.fixture
async def leases(core, api, faults) -> Leases:
    return Leases(Work(core, api, faults), LeaseSettings(), jitter=lambda: 1.0)


def install(core: Core, api: LeaseApi, granted: float = 1000, lease_id: str = "lse_0") -> None:
    api.totals[lease_id] = granted
    assert core.install_lease(*SLOT, lease_id, granted, api.clock() + 300) == lease_id


def hold(core: Core, amount: float) -> CheckResult:
    answer = core.check("inference", ACME, None, amount / 2)
    assert isinstance(answer, CheckResult)
    assert answer.allowed
    return answer


def soon(seconds: float = PATIENCE) -> float:
    return asyncio.get_running_loop().time() + seconds
