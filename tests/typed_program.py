"""A program of a user's, which mypy --strict and pyright read; `assert_type` says what they must find."""

from __future__ import annotations

from datetime import datetime

from schematic.companies.client import AsyncCompaniesClient, CompaniesClient
from schematic.plans.client import PlansClient
from schematic.raw_base_client import AsyncRawBaseSchematic, RawBaseSchematic
from schematic.types import CreateEventRequestBody, EventBodyTrack
from typing_extensions import assert_type

import schematic_native
from schematic_native import (
    AsyncSchematic,
    AsyncSchematicConfig,
    CheckFlagOptions,
    CheckFlagResult,
    CheckOptions,
    CheckResult,
    ClientStatus,
    CreditBalance,
    CreditLeaseConfig,
    FeatureEntitlement,
    IdentifyOptions,
    LeaseConfigOverride,
    LocalSlab,
    Reservation,
    Schematic,
    SchematicConfig,
    TrackOptions,
)
from schematic_native.client.event_buffer import AsyncEventBuffer, EventBuffer
from schematic_native.emulator import Emulator
from schematic_native.rulesengine import RulesEngine, check_flag_json

LEASES = CreditLeaseConfig(
    mode="client",
    default_lease_size=50_000,
    local_slab=LocalSlab(min_credits=100),
    overrides={"inference": LeaseConfigOverride(lease_size=1000)},
)


def spend(client: Schematic, company: dict[str, str]) -> float:
    """Reserve, work, settle."""
    result = client.check("inference", company=company, usage=1200, on_acquire_failure="fail-open")
    assert_type(result, CheckResult)
    assert_type(result.allowed, bool)
    assert_type(result.reservation, Reservation | None)
    assert_type(result.entitlement, FeatureEntitlement | None)
    if result.reservation is None:
        return 0
    assert_type(result.reservation.expires_at, datetime)
    client.track_with_reservation(result.reservation, 950)
    return result.reservation.credits_reserved


def look(client: Schematic, company: dict[str, str]) -> None:
    """Ask what costs nothing."""
    assert_type(
        client.check_flag("beta", company, options=CheckFlagOptions(default_value=True)), bool
    )
    assert_type(client.check_flag_with_entitlement("beta", company), CheckFlagResult)
    assert_type(client.check_flags(["beta"], company), list[CheckFlagResult])
    assert_type(client.get_credit_balance(company, "inference"), CreditBalance)
    assert_type(client.status(), ClientStatus)
    client.identify(company, options=IdentifyOptions(prewarm=["inference"]))
    client.track("opened", company, quantity=2, options=TrackOptions(idempotency_key="once"))


def manage(client: Schematic) -> str:
    """Use the REST resources."""
    assert_type(client.companies, CompaniesClient)
    assert_type(client.plans, PlansClient)
    assert_type(client.with_raw_response, RawBaseSchematic)
    raw = client.companies.with_raw_response.count_companies()
    assert_type(raw.headers, dict[str, str])
    assert_type(raw.data.data.count, int | None)
    token = client.accesstokens.issue_temporary_access_token(lookup={"id": "acme"})
    assert_type(token.data.token, str)
    return client.companies.upsert_company(keys={"id": "acme"}).data.id


def push(client: Schematic) -> float:
    """Use the event buffer as programs for the published package do."""
    assert_type(client.event_buffer, EventBuffer)
    body = EventBodyTrack(event="opened", company={"id": "acme"})
    client.event_buffer.push(CreateEventRequestBody(event_type="track", body=body))
    client.event_buffer.flush()
    return client.event_buffer_period


async def push_async(client: AsyncSchematic) -> None:
    """Do the same, awaited."""
    assert_type(client.event_buffer, AsyncEventBuffer)
    body = EventBodyTrack(event="opened", company={"id": "acme"})
    await client.event_buffer.push(CreateEventRequestBody(event_type="track", body=body))
    await client.event_buffer.stop()


async def manage_async(client: AsyncSchematic) -> int:
    """Do the same, awaited."""
    assert_type(client.companies, AsyncCompaniesClient)
    assert_type(client.with_raw_response, AsyncRawBaseSchematic)
    raw = await client.companies.with_raw_response.count_companies()
    assert_type(raw.data.data.count, int | None)
    return len((await client.companies.list_companies()).data)


async def spend_async(client: AsyncSchematic) -> None:
    """Do the same, awaited."""
    result = await client.check("inference", {"id": "acme"}, options=CheckOptions(usage=3))
    assert_type(result, CheckResult)
    await client.track_with_reservation(result.reservation, 3)


def build() -> tuple[str, ...]:
    """Tell how the extension was built."""
    assert_type(schematic_native.__version__, str)
    return schematic_native.__build__.features


def main() -> None:
    """Run all of it against the emulator."""
    assert_type(check_flag_json("{}"), str)
    with Emulator() as emulator:
        engine = RulesEngine()
        flag = engine.load_flag("{}")
        assert_type(engine.check_flag(flag), CheckFlagResult)
        sync = SchematicConfig(
            base_url=emulator.base_url, use_datastream=True, credit_leases=LEASES
        )
        with Schematic(emulator.api_key, sync) as client:
            spend(client, {"id": "acme"})
            look(client, {"id": "acme"})
        AsyncSchematic(emulator.api_key, AsyncSchematicConfig(offline=True))
