"""What a manager sweeps while it runs, and what it releases when it closes."""

from __future__ import annotations

import asyncio

from schematic_native.config.lease_settings import LeaseSettings
from schematic_native.leases.manager import Leases
from schematic_native.leases.work import Work
from schematic_native.service.errors import ApiError
from tests.conftest import eventually_async
from tests.leases.managers import COMPANY, SLOT, api, clock, core, hold, install, leases, soon

__all__ = ["api", "clock", "core", "leases"]


async def test_closing_drains_then_drops_and_releases_live_leases_and_skips_expired_ones(
    core, leases, api, clock
):
    core.install_lease(COMPANY, "expired", "lse_old", 100, clock.now + 10)
    clock.now += 11
    install(core, api)
    api.gate.clear()
    acquire = asyncio.create_task(leases.acquire_if_needed(COMPANY, "other"))
    await eventually_async(lambda: api.acquires)
    close = asyncio.create_task(leases.close(soon()))
    await asyncio.sleep(0)
    assert api.released == []
    api.gate.set()
    await asyncio.gather(acquire, close)
    assert sorted(api.released) == ["lse_0", "lse_1"]
    assert core.live_leases() == []


async def test_nothing_new_starts_after_closing(core, leases, api):
    await leases.close(soon())
    assert await leases.acquire_if_needed(*SLOT) is None
    install(core, api)
    hold(core, 800)
    await leases.maybe_extend(*SLOT)
    leases.extend_low_slots()
    assert (api.acquires, api.extends) == ([], [])


async def test_closing_keeps_to_its_budget_when_the_server_hangs(core, leases, api):
    install(core, api)
    api.gate.clear()
    acquire = asyncio.create_task(leases.acquire_if_needed(COMPANY, "other"))
    await eventually_async(lambda: api.acquires)
    start = asyncio.get_running_loop().time()
    closing = asyncio.create_task(leases.close(soon(2)))
    await eventually_async(lambda: api.released)
    assert asyncio.get_running_loop().time() - start < 2
    api.gate.set()
    await closing
    # The acquire that hung was given up: no lease may come after the others were released.
    assert await acquire is None
    assert core.live_leases() == []


async def test_a_failed_release_is_logged_and_raises_nothing(core, leases, api, caplog):
    install(core, api)
    api.failure = ApiError("no", 500)
    await leases.close(soon())
    assert "lse_0 could not be released" in caplog.text


async def test_expired_holds_are_swept_at_each_interval(core, leases, api, clock, faults):
    install(core, api)
    hold(core, 800)
    clock.now += 61
    sweeper = asyncio.create_task(
        Leases(Work(core, api, faults), LeaseSettings(sweep_interval=0.005)).sweep()
    )
    await eventually_async(lambda: core.counts()["open_holds"] == 0)
    sweeper.cancel()
    lease = core.lease(*SLOT)
    assert lease is not None
    assert lease.remaining == 1000
