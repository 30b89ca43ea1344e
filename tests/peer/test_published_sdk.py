"""The published SDK runs against the emulator unchanged, and the ledger agrees with it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.conftest import PATIENCE
from tests.peer.fleet import streaming

published = pytest.importorskip(
    "schematic.client", reason="the published SDK (dependency group `peer`) is not installed"
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from schematic_native.emulator import Emulator

CREDIT = "credit_inference"
ACME = {"id": "acme"}


@pytest.fixture
def emulator(emulator_process: Emulator) -> Emulator:
    """One in its own process, as the SDK's users would run it."""
    return emulator_process


@asynccontextmanager
async def running(emulator: Emulator, leases: Any = None, **config: Any) -> AsyncIterator[Any]:
    """Run an async client; its connections are ours, since its shutdown leaves its own open."""
    async with httpx.AsyncClient(timeout=60) as connections:
        client = published.AsyncSchematic(
            emulator.api_key,
            published.AsyncSchematicConfig(
                base_url=emulator.base_url,
                event_capture_url=emulator.base_url,
                httpx_client=connections,
                credit_leases=leases,
                **config,
            ),
        )
        await client.initialize()
        if client._datastream_client is not None:
            await streaming(client)
        try:
            yield client
        finally:
            await client.shutdown()


@contextmanager
def running_sync(emulator: Emulator) -> Iterator[Any]:
    """Run a sync client on connections of ours."""
    with httpx.Client(timeout=60) as connections:
        client = published.Schematic(
            emulator.api_key,
            published.SchematicConfig(
                base_url=emulator.base_url,
                event_capture_url=emulator.base_url,
                httpx_client=connections,
            ),
        )
        try:
            yield client
        finally:
            client.shutdown()


async def check_and_settle(client: Any, rounds: int, used: int) -> int:
    """Check for ten units and settle `used` of them, over and over; return the units settled."""
    settled = 0
    for _ in range(rounds):
        result = await client.check(
            "inference", company=ACME, user={"id": "ada"}, options=published.CheckOptions(usage=10)
        )
        assert result.allowed, result
        assert result.reservation is not None
        await client.track_with_reservation(result.reservation, used)
        settled += used
    return settled


async def test_client_mode_leases_checks_settles_and_balances(emulator: Emulator) -> None:
    leases = published.CreditLeaseConfig(mode="client", default_lease_size=100)
    async with running(emulator, leases, use_datastream=True) as client:
        await client.prewarm(ACME, [CREDIT])
        assert len(emulator.state()["leases"]) == 1
        settled = await check_and_settle(client, rounds=40, used=7)

    state, report = emulator.state(), emulator.audit()
    assert report["balanced"], report["problems"]
    assert state["billed"] == {"comp_acme": {"inference_tokens": settled}}
    assert report["credits"][CREDIT]["billed"] == settled * 2
    assert report["credits"][CREDIT]["overage"] == 0
    (lease,) = state["leases"].values()
    # It was extended on the way: 40 checks hold far more than the 100 credits of the first tranche.
    assert lease["granted"] > 100
    assert lease["status"] == "released"


async def test_client_mode_is_denied_when_the_credits_are_spent(emulator: Emulator) -> None:
    leases = published.CreditLeaseConfig(mode="client", default_lease_size=30)
    few, ten = {"id": "few"}, published.CheckOptions(usage=10)
    allowed = 0
    async with running(emulator, leases, use_datastream=True) as client:
        await client.prewarm(few, [CREDIT])
        for _ in range(10):
            result = await client.check("inference", company=few, options=ten)
            if result.allowed:
                allowed += 1
                await client.track_with_reservation(result.reservation, 10)
    # Fifty credits at two a unit, taken in tranches of thirty: the second does not fit.
    assert allowed == 1
    assert emulator.state()["billed"] == {"comp_few": {"inference_tokens": 10}}
    assert emulator.audit()["balanced"]


async def test_datastream_checks_follow_what_is_pushed(emulator: Emulator) -> None:
    async def until_denied(client: Any) -> None:
        # The SDK tells nobody when a push has arrived.
        while await client.check_flag("inference", company={"id": "few"}):  # noqa: ASYNC110
            await asyncio.sleep(0)

    async with running(emulator, use_datastream=True) as client:
        assert await client.check_flag("inference", company={"id": "few"}) is True
        emulator.set_balance("comp_few", CREDIT, 0)
        await asyncio.wait_for(until_denied(client), PATIENCE)
        assert await client.check_flag("exports", company={"id": "over"}) is False


async def test_server_mode_reserves_settles_and_balances(emulator: Emulator) -> None:
    async with running(emulator, published.CreditLeaseConfig(mode="server")) as client:
        settled = await check_and_settle(client, rounds=10, used=7)
        result = await client.check(
            "inference", company={"id": "none"}, options=published.CheckOptions(usage=10)
        )
        assert (result.allowed, result.reason) == (False, "Insufficient credits")
    state, report = emulator.state(), emulator.audit()
    assert report["balanced"], report["problems"]
    assert {r["status"] for r in state["reservations"].values()} == {"settled"}
    assert report["credits"][CREDIT]["billed"] == settled * 2
    assert state["anomalies"] == {}


def test_the_sync_client_checks_and_tracks_over_rest(emulator: Emulator) -> None:
    with running_sync(emulator) as client:
        assert client.check_flag("inference", company=ACME) is True
        assert client.check_flag("exports", company={"id": "over"}) is False
        entitled = client.check_flag_with_entitlement("inference", company={"id": "few"})
        assert entitled.entitlement.credit_remaining == 50
        flags = client.check_flags(company={"id": "none"})
        assert {flag.flag: flag.value for flag in flags} == {
            "inference": False,
            "exports": True,
            "beta": False,
        }
        client.track("inference_tokens", company=ACME, quantity=21)
        client.identify({"id": "ada"}, traits={"trait_beta": False})
    assert emulator.state()["billed"] == {"comp_acme": {"inference_tokens": 21}}
    assert emulator.audit()["credits"][CREDIT]["billed"] == 42


def test_every_lease_call_answers_what_the_models_want(emulator: Emulator) -> None:
    slot = {"company_id": "comp_few", "credit_type_id": CREDIT}
    with running_sync(emulator) as client:
        acquired = client.credits.acquire_credit_lease(**slot, requested_amount=30).data
        extended = client.credits.extend_credit_lease(
            acquired.id, additional_amount=10.5, idempotency_key="k"
        ).data
        released = client.credits.release_credit_lease(acquired.id).data
        assert (acquired.granted_amount, extended.granted_amount) == (30, 40.5)
        assert released.released_at is not None
        with pytest.raises(Exception, match="insufficient credits") as refusal:
            client.credits.acquire_credit_lease(**slot, requested_amount=51)
        assert refusal.value.status_code == 402
