"""Replicator mode on a real Redis: checks are decided by what another program writes there."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
import redis
import redis.asyncio

from schematic_native import (
    AsyncSchematic,
    AsyncSchematicConfig,
    CreditLeaseConfig,
    DataStreamConfig,
    Schematic,
    SchematicConfig,
)
from schematic_native.cache import AsyncLocalCache, RedisCache
from tests.cache.replicators import (
    CACHES,
    LIMIT,
    UNPAID,
    Program,
    Replicator,
    both_kinds,
    patience,
    program,
    replicator,
    seeded,
)
from tests.conftest import ACME, API_KEY, eventually
from tests.stores.servers import RedisServer

if TYPE_CHECKING:
    from schematic_native.emulator import Emulator

__all__ = ["patience", "program", "replicator"]


def test_a_check_is_decided_by_what_the_replicator_wrote(program: Program) -> None:
    assert program.allows()
    answer = program.do("check_flag_with_entitlement", "exports", ACME)
    assert (answer.value, answer.company_id, answer.entitlement.allocation) == (
        True,
        "comp_acme",
        10,
    )
    assert program.allows("beta", None, {"email": "ADA@example.com"})
    answers = program.do("check_flags", ["beta", "inference"], ACME, {"id": "grace"})
    assert [(each.flag, each.value) for each in answers] == [("beta", False), ("inference", True)]
    status = program.client.status()
    assert status.connected
    assert status.ready


def test_entities_in_the_core_are_decided_without_io(program: Program) -> None:
    program.allows()
    program.allows("inference", {"id": "acme", "other": "x"})
    reads = program.reads
    for _ in range(50):
        program.allows()
        program.allows("inference", {"id": "acme", "other": "x"})
    assert program.reads == reads


def test_a_change_in_redis_is_noticed(program: Program, replicator: Replicator) -> None:
    assert program.allows()
    replicator.write("company:v1:comp_acme", seeded("comp_acme", **UNPAID))
    eventually(lambda: not program.allows())
    replicator.entity("company", seeded("comp_acme"))
    eventually(program.allows)
    # A key moves to another company.
    replicator.write("company:v1:id:acme", "comp_none")
    answer = program.do("check_flag_with_entitlement", "inference", ACME)
    eventually(
        lambda: (
            program.do("check_flag_with_entitlement", "inference", ACME).company_id == "comp_none"
        )
    )
    assert answer.company_id in {"comp_acme", "comp_none"}
    # A flag changes, and is deleted.
    replicator.flag(seeded("flag_exports", rules=[], default_value=True))
    eventually(lambda: program.allows("exports", {"id": "over"}))
    replicator.delete("flags:v1:exports")
    eventually(lambda: not program.allows("exports", {"id": "over"}))  # and the API is down


def test_an_unknown_company_counts_as_none(program: Program, replicator: Replicator) -> None:
    answer = program.do("check_flag_with_entitlement", "inference", {"id": "nobody"})
    assert (answer.value, answer.company_id, answer.error) == (False, None, None)
    reads = program.reads
    program.do("check_flag_with_entitlement", "inference", {"id": "nobody"})
    assert program.reads == reads
    replicator.entity("company", seeded("comp_acme", id="comp_new", keys={"id": "nobody"}))
    eventually(lambda: program.allows("inference", {"id": "nobody"}))
    replicator.delete("company:v1:comp_new")
    eventually(lambda: not program.allows("inference", {"id": "nobody"}))


def test_keys_of_two_companies_are_a_conflict(program: Program, replicator: Replicator) -> None:
    assert program.allows()
    both = {"id": "acme", "domain": "few.example"}
    assert program.allows("inference", both)  # nobody has the second key
    replicator.write("company:v1:domain:few.example", "comp_few")
    eventually(
        lambda: (
            program.do("check_flag_with_entitlement", "inference", both).reason == "key conflict"
        )
    )
    replicator.delete("company:v1:domain:few.example")
    eventually(lambda: program.allows("inference", both))


def test_an_evicted_entity_is_read_again(
    program: Program, replicator: Replicator, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert program.allows()
    gone = {"entity_type": "rulesengine.Company", "message_type": "delete"}
    program.client._core.ingest(json.dumps({**gone, "data": {"id": "comp_acme"}}).encode())
    assert program.allows()
    monkeypatch.setattr("schematic_native.cache.replicator.MOST_NAMES", 3)
    for number in range(5):
        program.allows("inference", {"id": f"nobody-{number}"})
        assert len(program.replica._names) <= 3
    assert program.allows()


def test_a_flush_empties_what_was_kept(program: Program, replicator: Replicator) -> None:
    assert program.allows()
    replicator.redis.flushall()
    eventually(lambda: program.client.status().cached_companies == 0 or program.rest())
    assert not program.allows()  # there is neither the flag nor an API
    replicator.fill()
    eventually(program.allows)


def test_a_restart_of_redis_is_survived(
    program: Program, replicator: Replicator, redis_server: RedisServer
) -> None:
    assert program.allows()
    redis_server.stop()

    def is_empty() -> bool:
        program.rest()
        return program.client.status().cached_companies == 0

    eventually(is_empty)
    assert not program.allows()
    redis_server.start(keep=True)
    eventually(program.allows)
    program.await_tracking()
    replicator.write("company:v1:comp_acme", seeded("comp_acme", **UNPAID))
    eventually(lambda: not program.allows())


@both_kinds
def test_a_redis_that_hangs_does_not_delay_every_check(
    kind: str,
    replicator: Replicator,
    redis_server: RedisServer,
    emulator: Emulator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    replicator.write("company:v1:comp_acme", seeded("comp_acme", **UNPAID))
    no_cache: dict[str, Any] = {"cache_providers": []}
    with Program(kind, replicator, redis_server, emulator.base_url, **no_cache) as program:
        program.await_tracking()
        assert not program.allows()
        with redis_server.frozen(), monkeypatch.context() as impatient:
            impatient.setattr(LIMIT, 0.5)
            eventually(program.allows)  # by the API, once the read of Redis has timed out
            reads = program.reads
            for _ in range(20):
                assert program.allows()
            assert program.reads - reads < 20
        eventually(lambda: not program.allows())
        program.await_tracking()


def test_a_lost_tracking_connection_empties_what_was_kept(
    program: Program, replicator: Replicator, redis_server: RedisServer
) -> None:
    assert program.allows()
    redis_server.command("CLIENT", "KILL", "TYPE", "pubsub")
    redis_server.command("CLIENT", "KILL", "TYPE", "normal")
    replicator.write("company:v1:comp_acme", seeded("comp_acme", **UNPAID))
    eventually(lambda: not program.allows())
    program.await_tracking()
    replicator.entity("company", seeded("comp_acme"))
    eventually(program.allows)


def test_entities_of_another_cache_version_are_not_used(
    program: Program, replicator: Replicator
) -> None:
    assert program.allows()
    replicator.version = "v2"
    replicator.fill()
    replicator.write("company:v2:comp_acme", seeded("comp_acme", **UNPAID))
    replicator.health = {"ready": True, "cacheVersion": "v2"}
    eventually(lambda: not program.allows())
    replicator.write("company:v2:comp_acme", seeded("comp_acme"))
    eventually(program.allows)


@both_kinds
def test_checks_ask_the_api_without_a_replicator(
    kind: str, replicator: Replicator, redis_server: RedisServer, emulator: Emulator
) -> None:
    replicator.write("company:v1:comp_acme", seeded("comp_acme", **UNPAID))
    no_cache: dict[str, Any] = {"cache_providers": []}
    with Program(kind, replicator, redis_server, emulator.base_url, **no_cache) as program:
        assert not program.allows()
        for health in ({"ready": False}, None, {"ready": "yes"}):
            replicator.health = health
            eventually(program.allows)  # by the API
            assert not program.client.status().ready
            replicator.health = {"ready": True, "cache_version": "v1"}
            eventually(lambda: not program.allows())
            assert program.client.status().ready


@both_kinds
def test_where_tracking_is_refused_entities_are_read_again(
    kind: str, replicator: Replicator, caplog: pytest.LogCaptureFixture
) -> None:
    server = RedisServer("--rename-command", "CLIENT", "").start()
    try:
        with server.connect(redis) as client:
            replicator.redis = client
            replicator.fill()
            caplog.set_level("WARNING", "schematic_native")
            with Program(kind, replicator, server) as program:
                assert program.allows()
                replicator.write("company:v1:comp_acme", seeded("comp_acme", **UNPAID))
                eventually(lambda: not program.allows())
                replicator.entity("company", seeded("comp_acme"))
                eventually(program.allows)
                assert not program.replica.is_tracked
        told = [r.getMessage() for r in caplog.records if "read again" in r.getMessage()]
        assert len(told) == 1
    finally:
        server.remove()


@both_kinds
def test_leases_work_as_with_a_datastream(
    kind: str, replicator: Replicator, redis_server: RedisServer, emulator: Emulator
) -> None:
    leases = CreditLeaseConfig(mode="client", default_lease_size=1000)
    url = emulator.base_url
    with Program(kind, replicator, redis_server, url, credit_leases=leases) as program:
        program.await_tracking()
        for company in (ACME, {"id": "acme", "other": "x"}):
            held = program.do("check", "inference", company, usage=10)
            assert held.reservation is not None
            assert held.reservation.mode == "client"
            program.do("track_with_reservation", held.reservation, 7)
        denied = program.do("check", "inference", {"id": "nobody"}, usage=10)
        assert denied.reservation is None
        plain = program.do("check", "exports", ACME, usage=1)
        assert (plain.allowed, plain.reservation) == (True, None)
    assert emulator.state()["billed"] == {"comp_acme": {"inference_tokens": 14}}
    assert emulator.audit()["balanced"]


def test_tracked_usage_counts_in_the_cache(program: Program, replicator: Replicator) -> None:
    assert program.allows("exports")
    program.do("track", "report_exported", ACME, quantity=20)
    eventually(lambda: not program.allows("exports"))

    def metrics() -> list[int]:
        program.rest()
        company = json.loads(replicator.redis.get("schematic:company:v1:comp_acme"))
        return [metric["value"] for metric in company["metrics"]]

    eventually(lambda: metrics() == [0, 23])
    assert 0 < replicator.redis.pttl("schematic:company:v1:comp_acme") <= 86_400_000


async def test_each_event_loop_reads_the_cache_anew(
    replicator: Replicator, redis_server: RedisServer, dead_url: str
) -> None:
    def run(*changes: str) -> None:
        async def ask() -> list[bool]:
            async with redis_server.connect(redis.asyncio) as own:
                client._settings.caches.company._client = own
                return [await client.check_flag("inference", ACME)]

        for plans in changes:
            paid = plans == "paid"
            replicator.write(
                "company:v1:comp_acme", seeded("comp_acme", **({} if paid else UNPAID))
            )
            assert asyncio.run(ask()) == [paid], plans

    cache: RedisCache[Any] = RedisCache(None)
    datastream = DataStreamConfig(
        **dict.fromkeys(CACHES, cache), replicator_mode=True, replicator_health_url=replicator.url
    )
    made = AsyncSchematicConfig(
        base_url=dead_url, event_capture_url=dead_url, use_datastream=True, datastream=datastream
    )
    client = AsyncSchematic(API_KEY, made)
    await asyncio.to_thread(run, "paid", "unpaid", "paid")
    await client.shutdown()


@pytest.mark.parametrize(
    ("fields", "error", "said"),
    [
        ({}, ValueError, "company_cache must be given in replicator mode"),
        (dict.fromkeys(CACHES[:4], RedisCache(None)), ValueError, "flag_cache must be given"),
        (dict.fromkeys(CACHES, AsyncLocalCache()), TypeError, "must be shared with the replicator"),
        (
            {**dict.fromkeys(CACHES, RedisCache(None)), "replicator_health_url": "ftp://x"},
            ValueError,
            "replicator_health_url",
        ),
        (
            {**dict.fromkeys(CACHES, RedisCache(None)), "replicator_health_check": 0},
            ValueError,
            "replicator_health_check",
        ),
    ],
)
def test_a_missing_requirement_of_replicator_mode_is_named(
    fields: dict[str, Any], error: type[Exception], said: str
) -> None:
    datastream = DataStreamConfig(replicator_mode=True, **fields)
    with pytest.raises(error, match=said):
        Schematic("k", SchematicConfig(use_datastream=True, datastream=datastream))
