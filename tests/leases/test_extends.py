"""When a lease is extended, by how much, and who shares one request."""

from __future__ import annotations

import asyncio
import json
from importlib.resources import files

from schematic_native._native import Core
from schematic_native.config.lease_settings import LeaseSettings
from schematic_native.leases.manager import Leases
from schematic_native.leases.work import Work
from schematic_native.service.errors import ApiConnectionError, ApiError
from tests.conftest import eventually_async
from tests.leases.managers import SLOT, api, clock, core, hold, install, leases

__all__ = ["api", "clock", "core", "leases"]


async def test_a_lease_above_its_low_water_mark_is_not_extended(core, leases, api):
    install(core, api)
    hold(core, 500)
    await leases.maybe_extend(*SLOT)
    assert api.extends == []


async def test_a_low_lease_is_extended_by_one_lease_size(core, leases, api):
    install(core, api)
    hold(core, 800)
    await leases.maybe_extend(*SLOT)
    lease = core.lease(*SLOT)
    assert lease is not None
    assert (api.extends, lease.granted, lease.remaining) == ([("lse_0", 1000)], 2000, 1200)


async def test_a_shortfall_beyond_the_lease_size_is_asked_for_whole(core, leases, api):
    install(core, api)
    hold(core, 200)
    await leases.maybe_extend(*SLOT, 5000)
    assert api.extends == [("lse_0", 4200)]


async def test_concurrent_callers_share_one_extend(core, leases, api):
    install(core, api)
    hold(core, 800)
    await asyncio.gather(*(leases.maybe_extend(*SLOT) for _ in range(50)))
    assert api.extends == [("lse_0", 1000)]


async def test_a_joiner_that_needs_more_waits_and_then_extends_by_what_is_left(core, leases, api):
    install(core, api)
    hold(core, 800)
    api.gate.clear()
    first = asyncio.create_task(leases.maybe_extend(*SLOT))
    await eventually_async(lambda: api.extends)
    greedy = asyncio.create_task(leases.maybe_extend(*SLOT, 5000))
    await asyncio.sleep(0)
    assert len(api.extends) == 1
    api.gate.set()
    await asyncio.gather(first, greedy)
    assert api.extends == [("lse_0", 1000), ("lse_0", 3800)]


async def test_after_two_joins_a_caller_extends_on_its_own(core, leases, api):
    """Each flight lands short of what the caller needs, and another is in the air by then."""
    install(core, api)
    hold(core, 800)
    api.failure = ApiConnectionError("down")
    api.gate.clear()
    first = asyncio.create_task(leases.maybe_extend(*SLOT))
    await eventually_async(lambda: len(api.extends) == 1)
    greedy = asyncio.create_task(leases.maybe_extend(*SLOT, 50_000))
    await asyncio.sleep(0)

    def take_its_place(_task):
        again.append(asyncio.create_task(leases.maybe_extend(*SLOT)))

    again: list[asyncio.Task] = []
    first.add_done_callback(take_its_place)
    api.gate.set()
    await asyncio.gather(first, greedy)
    await asyncio.gather(*again)
    assert ("lse_0", 49_800) in api.extends
    assert len(api.extends) <= 3


async def test_a_failed_extend_changes_nothing_and_raises_nothing(core, leases, api):
    install(core, api)
    hold(core, 800)
    api.failure = ApiError("no", 500)
    await leases.maybe_extend(*SLOT)
    lease = core.lease(*SLOT)
    assert lease is not None
    assert (lease.granted, lease.remaining) == (1000, 200)


async def test_an_expired_lease_is_never_extended(core, leases, api, clock):
    install(core, api)
    hold(core, 800)
    clock.now += 301
    await leases.maybe_extend(*SLOT, 5000)
    assert api.extends == []


async def test_an_extend_never_reaches_the_successor_lease(core, leases, api, clock):
    install(core, api)
    hold(core, 800)
    api.gate.clear()
    extend = asyncio.create_task(leases.maybe_extend(*SLOT))
    await eventually_async(lambda: api.extends)
    clock.now += 301
    install(core, api, granted=50, lease_id="lse_successor")
    api.gate.set()
    await extend
    lease = core.lease(*SLOT)
    assert lease is not None
    assert (lease.lease_id, lease.granted, lease.remaining) == ("lse_successor", 50, 50)


async def test_a_check_that_leaves_a_lease_low_has_it_extended_in_the_background(
    clock, api, core, faults
):
    rings: list[str] = []
    low = Core(api_key="k", clock=clock, lease_size=1000, wake=rings.append)
    seed = json.loads(files("schematic_native.emulator").joinpath("inference.json").read_text())
    for entity_type, data in (
        ("rulesengine.Flags", seed["flags"]),
        ("rulesengine.Company", seed["companies"][0]),
    ):
        low.ingest(json.dumps({"entity_type": entity_type, "message_type": "full", "data": data}))
    leases = Leases(Work(low, api, faults), LeaseSettings())
    install(low, api)
    hold(low, 800)
    assert rings == ["extend"]
    leases.extend_low_slots()
    await eventually_async(lambda: low.lease(*SLOT).granted == 2000)
    assert api.extends == [("lse_0", 1000)]


async def test_a_failing_background_extend_pauses_before_the_next(clock, core, leases, api):
    api.failure = ApiError("no", 402)
    install(core, api)
    hold(core, 800)
    leases.extend_low_slots()
    await eventually_async(lambda: len(api.extends) == 1)
    await asyncio.sleep(0)
    hold(core, 2)
    leases.extend_low_slots()
    await asyncio.sleep(0.01)
    assert len(api.extends) == 1
    # A check that cannot go on without more credits does not wait for that rest.
    await leases.maybe_extend(*SLOT, 5000)
    assert len(api.extends) == 2
