"""Prewarms: leases that are acquired before the first check."""

from __future__ import annotations

import asyncio

from schematic_native.config.lease_settings import LeaseSettings
from schematic_native.leases.manager import Leases
from schematic_native.leases.work import Work
from tests.conftest import ACME, PATIENCE
from tests.leases.managers import CREDIT, api, clock, core, leases, soon

__all__ = ["api", "clock", "core", "leases"]


async def test_a_prewarm_acquires_each_credit_type(core, leases, api):
    await leases.prewarm(ACME, [CREDIT, "other"])
    assert len(api.acquires) == 2
    assert {lease.credit_type_id for lease in core.live_leases()} == {CREDIT, "other"}


async def test_a_prewarm_takes_a_company_id_among_the_keys_as_a_last_resort(core, leases, api):
    await leases.prewarm({"slug": "x", "id": "comp_unheard_of"}, [CREDIT])
    assert [lease.company_id for lease in core.live_leases()] == ["comp_unheard_of"]


async def test_a_prewarm_of_an_unknown_company_gives_up_in_time_and_says_so(
    core, api, faults, caplog, monkeypatch
):
    monkeypatch.setattr("schematic_native.leases.company_lookup.PREWARM_POLL_INTERVAL", 0.001)
    asked = 0

    async def request_company(keys, deadline):
        nonlocal asked
        asked += 1
        return False

    settings = LeaseSettings(prewarm_resolve_timeout=0.5)
    leases = Leases(Work(core, api, faults), settings, request_company=request_company)
    await asyncio.wait_for(leases.prewarm({"id": "nobody"}, [CREDIT]), PATIENCE)
    assert asked >= 2
    assert api.acquires == []
    assert "no company was found" in caplog.text


async def test_a_prewarm_keeps_to_its_deadline_while_it_looks_for_the_company(core, api, faults):
    async def request_company(_keys: object, _deadline: float) -> bool:
        return False

    settings = LeaseSettings(prewarm_resolve_timeout=3600)
    leases = Leases(Work(core, api, faults), settings, request_company=request_company)
    await asyncio.wait_for(leases.prewarm({"id": "nobody"}, [CREDIT], soon(0.05)), PATIENCE)
