"""When a lease is acquired, and who shares one request."""

from __future__ import annotations

import asyncio

from schematic_native._native import Core
from schematic_native.config.lease_settings import LeaseSettings
from schematic_native.leases.manager import Leases
from schematic_native.leases.work import Work
from schematic_native.service.errors import ApiConnectionError
from tests.conftest import eventually_async
from tests.leases.managers import COMPANY, SLOT, api, clock, core, install, leases, soon

__all__ = ["api", "clock", "core", "leases"]


async def test_a_live_lease_is_returned_without_a_wire_call(core, leases, api):
    install(core, api)
    lease = await leases.acquire_if_needed(*SLOT)
    assert lease is not None
    assert (lease.lease_id, api.acquires) == ("lse_0", [])


async def test_concurrent_callers_share_one_acquire(leases, api):
    found = await asyncio.gather(*(leases.acquire_if_needed(*SLOT) for _ in range(50)))
    assert {lease.lease_id for lease in found} == {"lse_1"}
    assert api.acquires == [1000]


async def test_slots_do_not_wait_for_each_other(leases, api):
    api.gate.clear()
    slow = asyncio.create_task(leases.acquire_if_needed(*SLOT))
    await eventually_async(lambda: api.acquires)
    other = asyncio.create_task(leases.acquire_if_needed(COMPANY, "other"))
    await eventually_async(lambda: len(api.acquires) == 2)
    api.gate.set()
    assert all(await asyncio.gather(slow, other))


async def test_a_caller_leaves_at_its_own_deadline_and_the_flight_lands_for_the_next(
    core, leases, api
):
    api.gate.clear()
    patient = asyncio.create_task(leases.acquire_if_needed(*SLOT))
    assert await leases.acquire_if_needed(*SLOT, soon(0.02)) is None
    api.gate.set()
    lease = await patient
    assert lease is not None
    assert (lease.lease_id, api.acquires) == ("lse_1", [1000])
    assert await leases.acquire_if_needed(*SLOT, soon(0)) is not None


async def test_a_failed_acquire_is_no_lease_reported_once_and_no_exception(
    core, leases, api, caplog
):
    caplog.set_level("INFO")
    api.failure = ApiConnectionError("refused")
    assert await leases.acquire_if_needed(*SLOT) is None
    assert await leases.acquire_if_needed(*SLOT) is None
    assert core.lease(*SLOT) is None
    assert len(caplog.records) == 1
    api.failure = None
    assert await leases.acquire_if_needed(*SLOT) is not None
    assert [record.levelname for record in caplog.records] == ["ERROR", "INFO"]


async def test_an_expired_lease_is_replaced_and_not_released(core, leases, api, clock):
    install(core, api)
    clock.now += 301
    lease = await leases.acquire_if_needed(*SLOT)
    assert lease is not None
    assert (lease.lease_id, api.released) == ("lse_1", [])


async def test_a_lease_that_lost_the_race_for_the_slot_is_released(core, leases, api):
    api.gate.clear()
    acquire = asyncio.create_task(leases.acquire_if_needed(*SLOT))
    await eventually_async(lambda: api.acquires)
    install(core, api, lease_id="lse_winner")
    api.gate.set()
    lease = await acquire
    assert lease is not None
    assert lease.lease_id == "lse_winner"
    await eventually_async(lambda: api.released)
    assert api.released == ["lse_1"]


async def test_the_same_lease_from_two_racers_is_never_released(core, leases, api):
    api.gate.clear()
    acquire = asyncio.create_task(leases.acquire_if_needed(*SLOT))
    await eventually_async(lambda: api.acquires)
    install(core, api, lease_id="lse_1")
    api.gate.set()
    assert await acquire is not None
    await leases.close(soon())
    assert api.released == ["lse_1"]  # by closing, once


async def test_a_lease_is_asked_for_within_the_hour_of_a_clock_that_is_a_minute_slow(
    api, clock, faults
):
    core = Core(api_key="k", clock=clock, lease_duration=3600, lease_size=1000)
    leases = Leases(Work(core, api, faults), LeaseSettings(), jitter=lambda: 0.0)
    lease = await leases.acquire_if_needed(*SLOT)
    assert lease is not None
    assert lease.expires_at == clock.now + 3540
    clock.now += 10
    await leases.maybe_extend(*SLOT, 2000)
    assert core.lease(*SLOT).expires_at == clock.now + 3540
