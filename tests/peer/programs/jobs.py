"""The jobs that the published package's manual shows, each a function of its own, in its own words."""

import asyncio
import os
import sys

import httpx
import schematic.core
from schematic import EventBodyIdentifyCompany
from schematic.client import (
    REASON_OFFLINE,
    AsyncSchematic,
    AsyncSchematicConfig,
    CheckFlagOptions,
    CheckOptions,
    CreditLeaseConfig,
    EventUsage,
    IdentifyOptions,
    LocalCache,
    Schematic,
    SchematicConfig,
    TrackOptions,
)

KEY = os.environ["SCHEMATIC_KEY"]
PLACE = dict.fromkeys(("base_url", "event_capture_url"), os.environ["SCHEMATIC_URL"])
ACME, ADA = {"id": "acme"}, {"id": "ada"}


def sync_client(**fields):
    return Schematic(KEY, SchematicConfig(**PLACE, **fields))


def async_client(**fields):
    return AsyncSchematic(KEY, AsyncSchematicConfig(**PLACE, **fields))


async def used_at_once():
    client = async_client()
    print(await client.check_flag("inference", company=ACME, user=ADA))
    await client.track(event="opened", company=ACME, user=ADA)
    await client.shutdown()


async def as_a_context():
    async with async_client() as client:
        print(await client.check_flag("exports", company=ACME))
        await client.identify(keys=ADA, name="Ada")


async def started_and_ended_by_hand():
    client = async_client()
    await client.initialize()
    print(await client.check_flag("beta", user=ADA))
    await client.shutdown()


def errors_are_caught():
    client = sync_client()
    try:
        client.companies.get_company(company_id="comp_nobody")
    except schematic.core.ApiError as error:
        print(error.status_code, error.body)
    client.shutdown()


def somebody_is_identified():
    client = sync_client()
    client.identify(
        keys={"email": "ada@example.com", "id": "ada"},
        company=EventBodyIdentifyCompany(keys=ACME, name="Acme", traits={"trait_region": "eu"}),
        name="Ada",
        traits={"logins": 24, "trait_beta": False},
        options=IdentifyOptions(idempotency_key="identify-ada"),
    )
    client.shutdown()


def usage_is_tracked():
    client = sync_client()
    client.track(event="some-action", user=ADA, company=ACME)
    client.track("some-action", ACME, quantity=10, options=TrackOptions(idempotency_key="once"))
    client.track("some-action", ACME, quantity=10, options=TrackOptions(idempotency_key="once"))
    client.shutdown()


def companies_and_users_are_kept():
    client = sync_client()
    traits = {"city": "Atlanta", "high_score": 25, "is_active": True}
    company = client.companies.upsert_company(keys={"id": "widgets"}, name="Widgets", traits=traits)
    user = client.companies.upsert_user(
        keys={"email": "w@widgets.example"}, name="W", traits=traits, company={"id": "widgets"}
    )
    print(company.data.name, company.data.traits)
    print(user.data.name, user.data.traits, len(user.data.company_memberships))
    client.shutdown()


def flags_are_checked():
    client = sync_client()
    for flag in ("inference", "exports", "beta", "nope"):
        print(flag, client.check_flag(flag, company=ACME, user=ADA))
    answer = client.check_flag_with_entitlement("exports", ACME)
    print(answer.value, answer.reason, answer.entitlement.allocation, answer.entitlement.usage)
    print([(each.flag, each.value) for each in client.check_flags(["beta", "exports"], ACME, ADA)])
    client.shutdown()


def caches_are_chosen():
    for caches in ([LocalCache[bool](100, 1000)], []):
        client = sync_client(cache_providers=caches)
        print([client.check_flag("exports", ACME) for _ in range(2)])
        client.shutdown()


def usage_is_tried_first():
    client = sync_client()
    for options in (
        CheckFlagOptions(usage=3),
        CheckFlagOptions(usage=1000),
        CheckFlagOptions(event_usage=EventUsage(event_subtype="report_exported", quantity=1000)),
        CheckFlagOptions(credit_cost={"credit_inference": 1.0}),
    ):
        print(client.check_flag("exports", company=ACME, options=options))
    client.shutdown()


def nothing_is_asked_offline():
    client = Schematic("", SchematicConfig(offline=True, flag_defaults={"some-flag": True}))
    print(client.check_flag("some-flag"), client.check_flag("other-flag"))
    client.set_flag_default("other-flag", True)
    client.set_flag_defaults({"some-flag": False})
    print(client.check_flag("some-flag"), client.check_flag("other-flag"))
    print(client.check_flag_with_entitlement("x").reason == REASON_OFFLINE)
    print(client.check_flag("x", options=CheckFlagOptions(default_value=lambda: True)))
    client.shutdown()


def defaults_answer_an_outage():
    config = SchematicConfig(
        base_url="http://127.0.0.1:9",
        event_capture_url="http://127.0.0.1:9",
        flag_defaults={"some-flag": True},
        timeout=0.2,
        httpx_client=httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(400))),
    )
    client = Schematic(KEY, config)
    print(client.check_flag("some-flag"), client.check_flag("other-flag"))
    client.offline = True
    client.shutdown()


def requests_are_told_how():
    client = sync_client(timeout=20.0)
    options = {"timeout_in_seconds": 10, "max_retries": 1, "additional_headers": {"X-Why": "test"}}
    print(client.companies.get_company("comp_acme", request_options=options).data.id)
    raw = client.companies.with_raw_response.get_company("comp_acme")
    print(raw.headers["content-type"], raw.data.data.id)
    client.shutdown()


def credits_are_held_on_the_server():
    client = sync_client(credit_leases=CreditLeaseConfig(default_reservation_ttl=60.0))
    for company, usage in ((ACME, 1000), ({"id": "few"}, 1000)):
        options = CheckOptions(usage=usage, event_subtype="inference_tokens")
        result = client.check("inference", company=company, options=options)
        print(result.allowed, result.reservation and result.reservation.quantity_reserved)
        if result.reservation is not None:
            client.track_with_reservation(result.reservation, 950)
    client.shutdown()


async def credits_are_leased():
    config = CreditLeaseConfig(default_lease_size=10_000, default_lease_duration=300.0)
    async with async_client(use_datastream=True, credit_leases=config) as client:
        options = CheckOptions(usage=1000, event_subtype="inference_tokens")
        while (
            result := await client.check("inference", ACME, options=options)
        ).reservation is None:
            await asyncio.sleep(0.05)  # until the flags have come
        print(result.allowed, result.reservation.mode, result.reservation.credits_reserved)
        await client.track_with_reservation(result.reservation, 950)
        plain = await client.check("exports", company=ACME, options=CheckOptions(usage=2))
        print(plain.allowed, plain.reservation)


JOBS = [
    used_at_once,
    as_a_context,
    started_and_ended_by_hand,
    errors_are_caught,
    somebody_is_identified,
    usage_is_tracked,
    companies_and_users_are_kept,
    flags_are_checked,
    caches_are_chosen,
    usage_is_tried_first,
    nothing_is_asked_offline,
    defaults_answer_an_outage,
    requests_are_told_how,
    credits_are_held_on_the_server,
    credits_are_leased,
]

if __name__ == "__main__":
    for job in JOBS:
        print("#", job.__name__, file=sys.stdout)
        outcome = job()
        if outcome is not None:
            asyncio.run(outcome)
    print("#", Schematic.__module__)
