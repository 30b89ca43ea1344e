"""Rows in Redis that cannot be read count as no lease: no call raises, and nothing is minted."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import pytest
import redis
import redis.asyncio

from schematic_native import (
    AsyncSchematic,
    AsyncSchematicConfig,
    CreditLeaseConfig,
    Schematic,
    SchematicConfig,
)
from schematic_native.redis import Installed, Refused
from tests.conftest import ACME, API_KEY, streaming
from tests.stores.callers import BOTH, LEASE, SLOT, Caller, hold, hold_key

if TYPE_CHECKING:
    from collections.abc import Iterator

YEAR_2100 = 4_102_444_800.0
NO_NUMBERS = ["abc", "", "0x10", "12,5", "true", "nan", "inf", "1e999", "-1", "1_000", " 7"]
NO_ENDS = [text for text in NO_NUMBERS if text != "-1"]
FIELDS = [("grantedAmount", text) for text in NO_NUMBERS] + [
    ("expiresAt", text) for text in NO_ENDS
]
INFERENCE = "inference"
COMPANY_LEASE = "schematic:credit-lease:comp_acme:credit_inference"


@pytest.fixture(scope="module", params=BOTH, ids=str)
def caller(request, one_server) -> Iterator[Caller]:
    caller = Caller(one_server, request.param)
    yield caller
    caller.close()


@pytest.fixture
def raw(one_server) -> Iterator[Any]:
    one_server.flush()
    with one_server.connect(decode_responses=True) as client:
        yield client


@pytest.mark.parametrize(("field", "text"), FIELDS)
def test_an_unreadable_lease_is_no_lease_to_any_operation(caller, raw, field, text):
    ask = caller.ask
    caller.do(ask.install(SLOT, "lease_1", 100.0, YEAR_2100))
    raw.hset(LEASE, field, text)
    before = raw.hgetall(LEASE)
    lease = caller.do(ask.lease(SLOT))
    assert (lease.live, lease.readable) == (False, False)
    assert caller.do(ask.try_reserve(SLOT, 5)) is Refused.NO_LEASE
    assert caller.do(ask.extend(SLOT, 500.0, YEAR_2100, "lease_1")) is False
    caller.do(ask.refund(SLOT, 5.0, "lease_1"))
    assert raw.hgetall(LEASE) == before


@pytest.mark.parametrize(("field", "text"), FIELDS)
def test_an_acquire_writes_over_it_and_spends_none_of_the_same_lease_again(
    caller, raw, field, text
):
    for lease_id, spendable in (("lease_1", 0.0), ("lease_2", 100.0)):
        raw.delete(LEASE)
        caller.do(caller.ask.install(SLOT, "lease_1", 100.0, YEAR_2100))
        raw.hset(LEASE, field, text)
        installing = caller.ask.install(SLOT, lease_id, 100.0, YEAR_2100)
        assert caller.do(installing) == Installed(written=True, lease_id=lease_id)
        lease = caller.do(caller.ask.lease(SLOT))
        assert (lease.live, lease.granted, lease.remaining) == (True, 100.0, spendable)


@pytest.mark.parametrize("text", NO_NUMBERS)
def test_an_unreadable_balance_has_nothing_to_spend(caller, raw, text):
    caller.do(caller.ask.install(SLOT, "lease_1", 100.0, YEAR_2100))
    raw.hset(LEASE, "localRemainingCredits", text)
    assert caller.do(caller.ask.try_reserve(SLOT, 5)) is Refused.SHORT


@pytest.mark.parametrize("text", NO_NUMBERS)
def test_a_hold_whose_credits_cannot_be_read_gives_nothing_back(caller, raw, text):
    caller.do(caller.ask.install(SLOT, "lease_1", 100.0, YEAR_2100))
    caller.do(caller.ask.try_reserve(SLOT, 20))
    assert caller.do(caller.ask.add(hold()))
    raw.hset(hold_key(), "creditsReserved", text)
    assert caller.do(caller.ask.consume("hold_1", 0.0)) == 0.0
    assert raw.hget(LEASE, "localRemainingCredits") == "80"


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [line for line in caplog.messages if "cannot be read" in line]


@pytest.mark.parametrize("text", ["abc", "0x10"])
def test_no_check_raises_for_a_lease_that_cannot_be_read(one_server, emulator, raw, caplog, text):
    caplog.set_level(logging.WARNING, "schematic_native")
    with one_server.connect(redis) as connection:
        leases = CreditLeaseConfig(mode="client", redis_client=connection)
        config = SchematicConfig(**streaming(emulator, credit_leases=leases))
        with Schematic(API_KEY, config) as client:
            held = client.check(INFERENCE, ACME, usage=1).reservation
            assert held is not None
            for _ in range(2):
                raw.hset(COMPANY_LEASE, "grantedAmount", text)
                assert client.check(INFERENCE, ACME, usage=1).allowed
            client.track_with_reservation(held, 1)
    assert len(told(caplog)) == 1
    assert emulator.audit()["balanced"]


async def test_no_asynchronous_check_raises_for_it_either(one_server, emulator, raw, caplog):
    caplog.set_level(logging.WARNING, "schematic_native")
    async with one_server.connect(redis.asyncio) as connection:
        leases = CreditLeaseConfig(mode="client", redis_client=connection)
        config = AsyncSchematicConfig(**streaming(emulator, credit_leases=leases))
        async with AsyncSchematic(API_KEY, config) as client:
            assert (await client.check(INFERENCE, ACME, usage=1)).allowed
            await asyncio.to_thread(raw.hset, COMPANY_LEASE, "grantedAmount", "abc")
            assert (await client.check(INFERENCE, ACME, usage=1)).allowed
    assert len(told(caplog)) == 1


def test_a_row_that_names_another_slot_is_no_lease_and_is_not_extended(
    one_server, emulator, raw, caplog
):
    caplog.set_level(logging.WARNING, "schematic_native")
    with one_server.connect(redis) as connection:
        leases = CreditLeaseConfig(mode="client", redis_client=connection)
        config = SchematicConfig(**streaming(emulator, credit_leases=leases))
        with Schematic(API_KEY, config) as client:
            assert client.check(INFERENCE, ACME, usage=1).allowed
            raw.hset(COMPANY_LEASE, "companyId", "comp_other")
            for _ in range(3):
                assert client.check(INFERENCE, ACME, usage=1).error == "lease_acquire_failed"
    assert "extend" not in emulator.state()["requests"]
    assert len([line for line in caplog.messages if "names another slot" in line]) == 1
