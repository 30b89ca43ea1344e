"""Replicator mode on a real Redis: checks are decided by what another program writes there."""

from __future__ import annotations

import asyncio
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import redis
import redis.asyncio
from typing_extensions import Self

from schematic_native import (
    AsyncSchematic,
    AsyncSchematicConfig,
    CreditLeaseConfig,
    DataStreamConfig,
    Schematic,
    SchematicConfig,
)
from schematic_native.cache import AsyncLocalCache, RedisCache
from tests.conftest import ACME, API_KEY, PATIENCE, eventually, eventually_async
from tests.stores.servers import ClusterServers, RedisServer, Sentinel

if TYPE_CHECKING:
    from collections.abc import Iterator

    from schematic_native.cache.replicator import Replica
    from schematic_native.emulator import Emulator

CACHES = ("company_cache", "company_lookup_cache", "user_cache", "user_lookup_cache", "flag_cache")
SEED = json.loads((Path(__file__).parents[2] / "examples/inference.json").read_text())
both_kinds = pytest.mark.parametrize("kind", ["sync", "async"])


@pytest.fixture(autouse=True)
def patience(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine, half a second is too short for a Redis that is there."""
    if "that_hangs" not in request.node.name:
        monkeypatch.setattr("schematic_native.cache.replicator.READ_TIMEOUT", PATIENCE)


class Replicator:
    """A replicator from the outside: its health check, and what it has written into a Redis."""

    def __init__(self, client: Any, version: str = "v1") -> None:
        self.redis = client
        self.version = version
        self.health: dict[str, Any] | None = {"ready": True, "cache_version": version}
        self.asked = 0
        replicator = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                replicator.asked += 1
                health = replicator.health
                body = json.dumps(health).encode()
                self.send_response(200 if health is not None else 503)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/ready"
        self._thread = threading.Thread(target=self._server.serve_forever, args=[0.01], daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def write(self, name: str, value: Any) -> None:
        self.redis.set(f"schematic:{name}", json.dumps(value))

    def delete(self, name: str) -> None:
        self.redis.delete(f"schematic:{name}")

    def flag(self, flag: dict[str, Any]) -> None:
        self.write(f"flags:{self.version}:{flag['key'].lower()}", flag)

    def entity(self, kind: str, entity: dict[str, Any]) -> None:
        for name, value in entity["keys"].items():
            self.write(f"{kind}:{self.version}:{name.lower()}:{value.lower()}", entity["id"])
        self.write(f"{kind}:{self.version}:{entity['id']}", entity)

    def fill(self) -> None:
        for flag in SEED["flags"]:
            self.flag(flag)
        for company in SEED["companies"]:
            self.entity("company", company)
        for user in SEED["users"]:
            self.entity("user", user)


def seeded(entity_id: str, **changes: Any) -> dict[str, Any]:
    every = [*SEED["companies"], *SEED["users"], *SEED["flags"]]
    found = next(each for each in every if each["id"] == entity_id)
    return {**json.loads(json.dumps(found)), **changes}


UNPAID = {"plan_ids": [], "base_plan_id": None, "entitlements": []}


@pytest.fixture
def replicator(redis_server: RedisServer) -> Iterator[Replicator]:
    with redis_server.connect(redis) as client:
        running = Replicator(client)
        try:
            running.fill()
            yield running
        finally:
            running.stop()


def _only_events(request: httpx.Request) -> httpx.Response:
    """Stand in for an API that takes events and answers nothing else."""
    return httpx.Response(200 if request.url.path == "/batch" else 400, json={"error": "no API"})


class Program:
    """A program in replicator mode, with a client of either kind, which counts its commands to Redis."""

    def __init__(
        self,
        kind: str,
        replicator: Replicator,
        server: Any,
        base_url: str | None = None,
        **fields: Any,
    ) -> None:
        self._loop = asyncio.new_event_loop()
        self._is_async = kind == "async"
        self.reads = 0
        self._redis = server.connect(redis.asyncio if self._is_async else redis)
        program = self

        class Counting(RedisCache[Any]):
            async def get(self, key: str) -> Any:
                program.reads += 1
                return await super().get(key)

        self.cache = Counting(self._redis)
        health_check = fields.pop("health_check", 50)
        datastream = DataStreamConfig(
            **dict.fromkeys(CACHES, self.cache),
            replicator_mode=True,
            replicator_health_url=replicator.url,
            replicator_health_check=health_check,
        )
        self._http: Any = None
        if base_url is None:
            client = httpx.AsyncClient if self._is_async else httpx.Client
            self._http = client(transport=httpx.MockTransport(_only_events))
        made = {
            "base_url": base_url,
            "event_capture_url": base_url,
            "httpx_client": self._http,
            "use_datastream": True,
            "datastream": datastream,
            "timeout": 2,
            **fields,
        }
        self.client: Any
        if self._is_async:
            self.client = AsyncSchematic(API_KEY, AsyncSchematicConfig(**made))
        else:
            self.client = Schematic(API_KEY, SchematicConfig(**made))
        self.do("initialize")

    def do(self, method: str, *arguments: object, **keywords: object) -> Any:
        answer = getattr(self.client, method)(*arguments, **keywords)
        return self._loop.run_until_complete(answer) if self._is_async else answer

    def allows(self, flag: str = "inference", company: Any = ACME, user: Any = None) -> bool:
        return bool(self.do("check_flag", flag, company, user))

    def rest(self) -> None:
        """Let an event loop go on for a moment."""
        if self._is_async:
            self._loop.run_until_complete(asyncio.sleep(0.005))

    @property
    def replica(self) -> Replica:
        replica = self.client._runtime.replica
        assert replica is not None
        return replica

    def await_tracking(self) -> None:
        def is_tracked() -> bool:
            self.rest()
            return self.replica.is_tracked

        eventually(is_tracked)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.do("shutdown")
        if self._is_async:
            self._loop.run_until_complete(self._redis.aclose())
        else:
            self._redis.close()
        self._loop.close()


@pytest.fixture(params=["sync", "async"])
def program(
    request: pytest.FixtureRequest, replicator: Replicator, redis_server: RedisServer
) -> Iterator[Program]:
    with Program(request.param, replicator, redis_server) as made:
        made.await_tracking()
        yield made


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
    kind: str, replicator: Replicator, redis_server: RedisServer, emulator: Emulator
) -> None:
    replicator.write("company:v1:comp_acme", seeded("comp_acme", **UNPAID))
    no_cache: dict[str, Any] = {"cache_providers": []}
    with Program(kind, replicator, redis_server, emulator.base_url, **no_cache) as program:
        program.await_tracking()
        assert not program.allows()
        with redis_server.frozen():
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


@both_kinds
def test_changes_on_each_server_of_a_cluster_are_noticed(kind: str) -> None:
    servers = ClusterServers().start()
    try:
        with servers.connect(redis) as client:
            replicator = Replicator(client)
            replicator.fill()
            with Program(kind, replicator, servers) as program:
                program.await_tracking()
                for company in SEED["companies"]:
                    name = next(iter(company["keys"].values()))
                    program.allows("inference", {"id": name})
                assert program.allows()
                assert program.allows("exports")
                reads = program.reads
                assert program.allows()
                assert program.reads == reads
                for number in range(3):
                    replicator.write("company:v1:comp_acme", seeded("comp_acme", **UNPAID))
                    eventually(lambda: not program.allows())
                    flag = seeded("flag_exports", rules=[], default_value=bool(number % 2))
                    replicator.flag(flag)
                    wanted = bool(number % 2)
                    eventually(lambda wanted=wanted: program.allows("exports") is wanted)
                    replicator.entity("company", seeded("comp_acme"))
                    eventually(program.allows)
            replicator.stop()
    finally:
        servers.remove()


@both_kinds
def test_everything_is_read_again_after_a_cluster_was_flushed_or_lost_a_server(kind: str) -> None:
    servers = ClusterServers().start()
    try:
        with servers.connect(redis) as client:
            replicator = Replicator(client)
            try:
                replicator.fill()
                with Program(kind, replicator, servers) as program:
                    program.await_tracking()
                    assert program.allows()
                    servers.flush()
                    eventually(lambda: not program.allows())  # neither in Redis nor in an API
                    replicator.fill()
                    eventually(program.allows)

                    lost = servers.owner_of("schematic:company:v1:comp_acme")
                    lost.stop()
                    eventually(lambda: not program.allows())
                    lost.start(keep=True)
                    servers.await_whole()
                    replicator.fill()
                    eventually(program.allows)
                    program.await_tracking()
                    replicator.write("company:v1:comp_acme", seeded("comp_acme", **UNPAID))
                    eventually(lambda: not program.allows())
            finally:
                replicator.stop()
    finally:
        servers.remove()


async def test_changes_are_noticed_through_sentinel() -> None:
    with Sentinel() as sentinels, redis.Redis.from_url(sentinels.address_of_master()) as client:
        replicator = Replicator(client)
        try:
            replicator.fill()
            await follow_through(sentinels, replicator)
        finally:
            replicator.stop()


async def follow_through(sentinels: Sentinel, replicator: Replicator) -> None:
    guide = redis.asyncio.Sentinel([("127.0.0.1", sentinels.port)])
    try:
        async with (
            guide.master_for("watched") as own,
            httpx.AsyncClient(transport=httpx.MockTransport(_only_events)) as http,
        ):
            datastream = DataStreamConfig(
                **dict.fromkeys(CACHES, RedisCache[Any](own)),
                replicator_mode=True,
                replicator_health_url=replicator.url,
            )
            made = AsyncSchematicConfig(
                httpx_client=http, use_datastream=True, datastream=datastream
            )
            async with AsyncSchematic(API_KEY, made) as client:
                await answers(client, value=True)  # at the first check Redis may be too slow
                replica_ = client._runtime.replica  # type: ignore[union-attr]
                await eventually_async(lambda: replica_.is_tracked)  # type: ignore[union-attr]
                replicator.write("company:v1:comp_acme", seeded("comp_acme", **UNPAID))
                await answers(client, value=False)
    finally:
        for each in guide.sentinels:
            await each.aclose()


async def answers(client: AsyncSchematic, *, value: bool) -> None:
    """Check until the flag has a value."""
    deadline = asyncio.get_running_loop().time() + 10
    while await client.check_flag("inference", ACME) is not value:
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.005)


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
