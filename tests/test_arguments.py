"""What callers pass in: read by one rule, whichever client and whatever is in memory."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from schematic_native import (
    AsyncSchematic,
    AsyncSchematicConfig,
    CheckOptions,
    CreditLeaseConfig,
    LocalCache,
)
from schematic_native.cache import cache_key
from tests.callers import Caller, both_clients
from tests.conftest import ACME, API_KEY, plain, streaming
from tests.servers import Answer, HttpServer, data

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from schematic_native.emulator import Emulator

INFERENCE, CREDIT = "inference", "credit_inference"

warm_or_cold = pytest.mark.parametrize("warm", [True, False], ids=["warm", "cold"])


def caller(kind: str, emulator: Emulator, *, warm: bool = True, **fields: object) -> Caller:
    """A client that has, or has not yet, a flag, a company and a lease in memory."""
    person = Caller(kind, streaming(emulator, **fields))
    if warm:
        assert person.do("check", INFERENCE, ACME, usage=1).reservation is not None
    return person


@both_clients
@warm_or_cold
@pytest.mark.parametrize("by_options", [True, False])
def test_an_empty_event_subtype_is_none_so_the_entitlements_event_is_billed(
    emulator, kind, warm, by_options
):
    said = {"usage": 3, "event_subtype": ""}
    with caller(kind, emulator, warm=warm) as person:
        if by_options:
            result = person.do("check", INFERENCE, ACME, None, CheckOptions(**said))
        else:
            result = person.do("check", INFERENCE, ACME, **said)
        assert result.reservation is not None
        assert result.reservation.event_subtype == "inference_tokens"
        person.do("track_with_reservation", result.reservation, 3)
    assert emulator.state()["billed"] == {"comp_acme": {"inference_tokens": 3}}


@both_clients
@pytest.mark.parametrize("state", ["offline", "shut down", "online"])
@pytest.mark.parametrize(
    ("method", "arguments", "names"),
    [
        ("track", (5,), "event"),
        ("track", ("e", "acme"), "company"),
        ("track", ("e", None, {"id": 5}), "user"),
        ("track", ("e", None, None, 5), "traits"),
        ("track", ("e", None, None, {"a": object()}), "traits"),
        ("identify", (5,), "keys"),
        ("identify", (None,), "keys"),
        ("identify", ({"id": "ada"}, None, 5), "name"),
        ("identify", ({"id": "ada"}, None, None, 5), "traits"),
    ],
)
def test_an_event_is_checked_before_it_is_dropped(emulator, kind, state, method, arguments, names):
    with Caller(kind, plain(emulator, offline=state == "offline")) as person:
        if state == "shut down":
            person.do("shutdown")
        with pytest.raises(TypeError, match=names):
            person.do(method, *arguments)
        assert person.client.status().queued_events == 0


async def changed_while_waiting(
    fields: dict[str, object], call: Callable[[AsyncSchematic, dict[str, str]], Coroutine]
) -> Any:
    """Make a call, and change the keys it was given while it waits."""
    keys = {"id": "acme"}
    async with AsyncSchematic(API_KEY, AsyncSchematicConfig(**fields)) as client:
        waiting = asyncio.ensure_future(call(client, keys))
        await asyncio.sleep(0)
        assert not waiting.done()
        keys.update(id="few", slug="few")
        return await waiting


@pytest.mark.parametrize(
    "call",
    [
        lambda client, keys: client.check_flag(INFERENCE, keys),
        lambda client, keys: client.check_flag(INFERENCE, None, keys),
        lambda client, keys: client.check_flags([INFERENCE], keys),
        lambda client, keys: client.check(INFERENCE, keys, usage=1),
        lambda client, keys: client.get_credit_balance(keys, CREDIT),
    ],
)
async def test_keys_changed_while_a_call_waits_are_not_the_calls(call):
    answer = data(
        flag=INFERENCE,
        value=True,
        reason="ok",
        flags=[{"flag": INFERENCE, "value": True}],
        credit_balances={CREDIT: {"remaining": 1}},
    )
    with HttpServer(otherwise=Answer(body=answer)) as server:
        leases = CreditLeaseConfig(mode="server")
        await changed_while_waiting({"base_url": server.url, "credit_leases": leases}, call)
    (subject,) = (r.body.get("company") or r.body.get("user") for r in server.requests)
    assert subject == {"id": "acme"}


async def test_an_answer_is_kept_under_the_keys_that_were_asked_for():
    answer = data(flag=INFERENCE, value=True, reason="ok")
    cache = LocalCache()
    with HttpServer(otherwise=Answer(body=answer)) as server:
        fields = {"base_url": server.url, "cache_providers": [cache]}
        await changed_while_waiting(fields, lambda client, keys: client.check_flag("f", keys))
    assert cache.get(cache_key("f", {"id": "acme"}, None)) is not None
    assert cache.get(cache_key("f", {"id": "few", "slug": "few"}, None)) is None


async def test_a_hold_on_the_server_is_for_the_company_that_was_asked_for(emulator):
    fields = plain(emulator, credit_leases=CreditLeaseConfig(mode="server"))
    result = await changed_while_waiting(
        fields, lambda client, keys: client.check(INFERENCE, keys, usage=1)
    )
    assert result.reservation.company == {"id": "acme"}


async def test_a_lease_is_acquired_for_the_company_that_was_to_be_prewarmed(emulator):
    await changed_while_waiting(
        streaming(emulator), lambda client, keys: client.prewarm(keys, [CREDIT])
    )
    (lease,) = emulator.state()["leases"].values()
    assert lease["company_id"] == "comp_acme"


@both_clients
@pytest.mark.parametrize("usage", [-1, float("nan"), True], ids=repr)
def test_a_usage_that_is_none_is_a_plain_check_where_nothing_is_reserved(emulator, kind, usage):
    with Caller(kind, plain(emulator)) as person:
        result = person.do("check", INFERENCE, ACME, usage=usage)
        assert (result.allowed, result.error, result.reservation) == (True, None, None)
    offline = plain(emulator, offline=True, credit_leases=CreditLeaseConfig())
    with Caller(kind, offline) as person:
        asked = {"usage": usage, "default_value": True}
        result = person.do("check", INFERENCE, ACME, **asked)
        assert (result.allowed, result.reason) == (True, "offline: default value")
