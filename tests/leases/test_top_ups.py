"""Who joined a request that was refused asks again after the company was topped up."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from schematic_native.service.errors import PaymentRequiredError
from tests.conftest import eventually_async
from tests.leases.managers import COMPANY, CREDIT, SLOT, api, clock, core, hold, install, leases

if TYPE_CHECKING:
    from schematic_native._native import Core

__all__ = ["api", "clock", "core", "leases"]


def top_up(core: Core, balance: float) -> None:
    message = {
        "entity_type": "rulesengine.Company",
        "message_type": "partial",
        "entity_id": COMPANY,
        "data": {"id": COMPANY, "credit_balances": {CREDIT: balance}},
    }
    assert core.ingest(json.dumps(message)).skipped == []
    assert core.company_balance(*SLOT) == balance


def refuse_the_first(call, refused: asyncio.Event):
    """Make a lease call fail once for want of credits, when the event is set."""
    calls = []

    async def refusing(*arguments):
        calls.append(arguments)
        if len(calls) == 1:
            await refused.wait()
            raise PaymentRequiredError("no credits", status=402)
        return await call(*arguments)

    return refusing


@pytest.mark.parametrize("is_pushed", [True, False])
async def test_who_joined_an_extend_that_was_refused_asks_after_a_top_up(
    core, leases, api, is_pushed
):
    refused = asyncio.Event()
    api.extend_lease = refuse_the_first(api.extend_lease, refused)
    install(core, api)
    hold(core, 800)
    leases.extend_low_slots()
    await eventually_async(lambda: leases._extends.by_slot)
    check = asyncio.create_task(leases.maybe_extend(*SLOT, 500))
    await asyncio.sleep(0)
    if is_pushed:
        top_up(core, 77)
    refused.set()
    await check
    assert api.extends == [("lse_0", 1000)] * is_pushed


@pytest.mark.parametrize("is_pushed", [True, False])
async def test_who_joined_an_acquire_that_was_refused_asks_after_a_top_up(
    core, leases, api, is_pushed
):
    refused = asyncio.Event()
    api.acquire_lease = refuse_the_first(api.acquire_lease, refused)
    prewarm = asyncio.create_task(leases.acquire_if_needed(*SLOT))
    await eventually_async(lambda: leases._acquires.by_slot)
    check = asyncio.create_task(leases.acquire_if_needed(*SLOT, None, 50))
    await asyncio.sleep(0)
    if is_pushed:
        top_up(core, 77)
    refused.set()
    assert (await check is not None) is is_pushed
    await prewarm
    assert api.acquires == [1000] * is_pushed
