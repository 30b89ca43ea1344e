"""Arguments of calls: read by the same rules in either client, whatever is in memory."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from enum import IntEnum
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import pytest

from schematic_native import (
    AsyncSchematic,
    AsyncSchematicConfig,
    CheckFlagOptions,
    CheckOptions,
    CreditLeaseConfig,
    EventUsage,
    LocalCache,
    TrackOptions,
    TrackWithReservationOptions,
)
from schematic_native.cache.flag_checks import cache_key
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
def test_with_an_empty_event_subtype_the_entitlements_event_is_billed(
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
async def test_changing_the_keys_during_a_call_does_not_change_the_call(call):
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


async def test_a_result_is_cached_under_the_keys_of_the_call():
    answer = data(flag=INFERENCE, value=True, reason="ok")
    cache = LocalCache()
    with HttpServer(otherwise=Answer(body=answer)) as server:
        fields = {"base_url": server.url, "cache_providers": [cache]}
        await changed_while_waiting(fields, lambda client, keys: client.check_flag("f", keys))
    assert cache.get(cache_key("f", {"id": "acme"}, None)) is not None
    assert cache.get(cache_key("f", {"id": "few", "slug": "few"}, None)) is None


async def test_a_reservation_on_the_server_is_for_the_company_of_the_call(emulator):
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
def test_an_invalid_usage_is_a_plain_check_where_nothing_is_reserved(emulator, kind, usage):
    with Caller(kind, plain(emulator)) as person:
        result = person.do("check", INFERENCE, ACME, usage=usage)
        assert (result.allowed, result.error, result.reservation) == (True, None, None)
    offline = plain(emulator, offline=True, credit_leases=CreditLeaseConfig())
    with Caller(kind, offline) as person:
        asked = {"usage": usage, "default_value": True}
        result = person.do("check", INFERENCE, ACME, **asked)
        assert (result.allowed, result.reason) == (True, "offline: default value")


class Count:
    """A number of another library's, which knows itself only as an index."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __index__(self) -> int:
        return self._count


class Broken:
    def __float__(self) -> float:
        raise TypeError("not a single number")


NUMBERS = {
    "int": (3, 3),
    "float": (2.5, 3),
    "Decimal": (Decimal("2.5"), 3),
    "Fraction": (Fraction(5, 2), 3),
    "index": (Count(3), 3),
    "IntEnum": (IntEnum("Few", "one").one, 1),
}
NO_NUMBERS = {
    "str": "3", "bytes": b"3", "complex": 3j, "object": object(), "Broken": Broken(), "list": [3],
}  # fmt: skip
no_numbers = pytest.mark.parametrize("other", NO_NUMBERS.values(), ids=NO_NUMBERS)


@both_clients
@warm_or_cold
@pytest.mark.parametrize(("number", "units"), NUMBERS.values(), ids=NUMBERS)
def test_every_kind_of_number_is_usage_and_can_be_settled(emulator, kind, warm, number, units):
    with caller(kind, emulator, warm=warm) as person:
        result = person.do("check", INFERENCE, ACME, usage=number)
        assert result.reservation.credits_reserved == 2 * units
        person.do("track_with_reservation", result.reservation, number)
        by_options = person.do("check", INFERENCE, ACME, None, CheckOptions(usage=number))
        traits = TrackWithReservationOptions(traits={"model": "large"})
        person.do("track_with_reservation", by_options.reservation, number, traits)
    assert emulator.state()["billed"] == {"comp_acme": {"inference_tokens": 2 * units}}


@both_clients
@warm_or_cold
@no_numbers
def test_a_value_that_is_not_a_number_is_refused_as_usage(emulator, kind, warm, other):
    with caller(kind, emulator, warm=warm) as person:
        with pytest.raises(TypeError, match="usage must be a number, not"):
            person.do("check", INFERENCE, ACME, usage=other)
        held = person.do("check", INFERENCE, ACME, usage=1).reservation
        with pytest.raises(TypeError, match="actual_quantity must be a number"):
            person.do("track_with_reservation", held, other)
        person.do("track_with_reservation", held, 1)


@both_clients
@warm_or_cold
@pytest.mark.parametrize(
    "usage", [True, Decimal("nan"), Decimal("sNaN"), Decimal("1e400"), Fraction(10**400)],
    ids=["bool", "NaN", "signalling NaN", "huge Decimal", "huge Fraction"],
)  # fmt: skip
def test_the_reason_names_a_number_that_cannot_be_usage(emulator, kind, warm, usage):
    with caller(kind, emulator, warm=warm) as person:
        assert person.do("check", INFERENCE, ACME, usage=usage).reason == "invalid_usage"


@both_clients
@pytest.mark.parametrize("number", [number for number, _ in NUMBERS.values()], ids=NUMBERS)
def test_every_kind_of_number_is_an_amount_of_a_preflight(emulator, kind, number):
    with caller(kind, emulator) as person:
        for options in (
            CheckFlagOptions(usage=number),
            CheckFlagOptions(event_usage=EventUsage("inference_tokens", number)),
            CheckFlagOptions(credit_cost={CREDIT: number}),
        ):
            assert person.do("check_flag", INFERENCE, ACME, None, options) is True
        with pytest.raises(TypeError, match="usage must be a number"):
            person.do("check_flag", INFERENCE, ACME, None, CheckFlagOptions(usage=True))


@both_clients
@pytest.mark.parametrize("quantity", [1e308, 2.0**63, 2**63, Decimal(10) ** 30], ids=repr)
def test_more_than_can_be_billed_is_refused_before_anything_is_claimed(emulator, kind, quantity):
    with caller(kind, emulator) as person:
        held = person.do("check", INFERENCE, ACME, usage=1).reservation
        queued = person.client.status().queued_events
        with pytest.raises(ValueError, match="actual_quantity must be below"):
            person.do("track_with_reservation", held, quantity)
        assert person.client.status().queued_events == queued
        person.do("track_with_reservation", held, 1)
    assert emulator.state()["billed"] == {"comp_acme": {"inference_tokens": 1}}


LONE = "half a pair: \ud800"


@both_clients
@warm_or_cold
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "REST"])
@pytest.mark.parametrize(
    ("name", "method", "arguments", "keywords"),
    [
        ("flag_key", "check_flag", (LONE, ACME), {}),
        ("flag_key", "check_flag_with_entitlement", (LONE, ACME), {}),
        ("flag_key", "check", (LONE, ACME), {"usage": 1}),
        (r"flag_keys\[0\]", "check_flags", ([LONE], ACME), {}),
        ("company", "check_flag", (INFERENCE, {"id": LONE}), {}),
        ("company", "check", (INFERENCE, {LONE: "acme"}), {"usage": 1}),
        ("user", "check", (INFERENCE, ACME, {"id": LONE}), {"usage": 1}),
        ("event_subtype", "check", (INFERENCE, ACME), {"usage": 1, "event_subtype": LONE}),
        (
            "credit_cost",
            "check_flag",
            (INFERENCE, ACME, None, CheckFlagOptions(credit_cost={LONE: 1})),
            {},
        ),
        ("event", "track", (LONE,), {}),
        ("company", "track", ("e", {"id": LONE}), {}),
        ("idempotency_key", "track", ("e",), {"options": TrackOptions(idempotency_key=LONE)}),
        ("keys", "identify", ({"id": LONE},), {}),
        ("name", "identify", ({"id": "ada"}, None, LONE), {}),
        ("company.keys", "identify", ({"id": "ada"}, {"keys": {"id": LONE}}), {}),
        ("company.name", "identify", ({"id": "ada"}, {"keys": ACME, "name": LONE}), {}),
        (r"credit_type_ids\[0\]", "prewarm", (ACME, [LONE]), {}),
        ("credit_type_id", "get_credit_balance", (ACME, LONE), {}),
    ],
)
def test_text_that_utf_8_cannot_hold_is_refused_by_name(
    emulator, kind, warm, stream, name, method, arguments, keywords
):
    person = caller(kind, emulator, warm=warm) if stream else Caller(kind, plain(emulator))
    with person, pytest.raises(ValueError, match=f"{name} must be text that UTF-8 can hold"):
        person.do(method, *arguments, **keywords)


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError("this object cannot be shown")


def nested(depth: int) -> object:
    """Dicts in dicts, deeper than `repr` can follow."""
    value: object = "core"
    for _ in range(depth):
        value = {"in": value}
    return value


@both_clients
@pytest.mark.parametrize(
    "wrong", [Unprintable(), nested(100_000), [10**5000], ["long"] * 10_000],
    ids=["unprintable", "deep", "more digits than text may have", "long"],
)  # fmt: skip
@pytest.mark.parametrize(
    ("name", "method", "arguments", "keywords"),
    [
        ("flag_key", "check_flag_with_entitlement", (..., ACME), {}),
        (r"flag_keys\[0\]", "check_flags", ([...], ACME), {}),
        ("user", "check_flag_with_entitlement", (INFERENCE, ACME, {"id": ...}), {}),
        ("default_value", "check", (INFERENCE, ACME), {"usage": 1, "default_value": ...}),
        ("timeout", "check", (INFERENCE, ACME), {"usage": 1, "timeout": ...}),
        ("usage", "hold", (INFERENCE, ACME), {"usage": ...}),
        ("required", "hold", (INFERENCE, ACME), {"usage": 1, "required": ...}),
        ("ttl", "hold", (INFERENCE, ACME), {"usage": 1, "ttl": ...}),
        ("key", "hold", (INFERENCE, ACME), {"usage": 1, "key": ...}),
        ("value", "set_flag_default", (INFERENCE, ...), {}),
        ("event", "track", (...,), {}),
        ("credit_type_id", "get_credit_balance", (ACME, ...), {}),
        ("companies", "metrics_text", (...,), {}),
    ],
)
def test_the_error_names_the_argument_whatever_the_value(
    emulator, kind, wrong, name, method, arguments, keywords
):
    def filled(value: Any) -> Any:
        if isinstance(value, list):
            return [filled(each) for each in value]
        if isinstance(value, dict):
            return {key: filled(each) for key, each in value.items()}
        return wrong if value is ... else value

    def call(person: Caller) -> None:
        answer = getattr(person.client, method)(*map(filled, arguments), **filled(keywords))
        if asyncio.iscoroutine(answer):
            person.wait(answer)

    with Caller(kind, plain(emulator)) as person:
        with pytest.raises(TypeError, match=name) as raised:
            call(person)
        assert len(str(raised.value)) < 500


@both_clients
@pytest.mark.parametrize("huge", [10**400, -(10**400), 10**5000], ids=["big", "small", "digits"])
@pytest.mark.parametrize("name", ["usage", "ttl"])
def test_a_hold_refuses_an_int_beyond_the_doubles_by_name(emulator, kind, name, huge):
    with (
        Caller(kind, plain(emulator)) as person,
        pytest.raises(ValueError, match=f"{name} must be a positive number"),
    ):
        person.client.hold(INFERENCE, ACME, **{"usage": 1, name: huge})


@both_clients
@pytest.mark.parametrize("wrong", [1, 0, "yes", [True]], ids=repr)
def test_whether_a_hold_is_required_is_a_bool(emulator, kind, wrong):
    with (
        Caller(kind, plain(emulator)) as person,
        pytest.raises(TypeError, match="required must be a bool"),
    ):
        person.client.hold(INFERENCE, ACME, usage=1, required=wrong)


@both_clients
@pytest.mark.parametrize(
    ("wrong", "error"), [("2", TypeError), (True, TypeError), (1.5, TypeError), (-1, ValueError)]
)
def test_the_companies_of_a_page_of_metrics_are_a_count(emulator, kind, wrong, error):
    with Caller(kind, plain(emulator)) as person, pytest.raises(error, match="companies must be"):
        person.client.metrics_text(wrong)
