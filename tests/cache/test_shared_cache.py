"""Shared caches: ours, the published package's, and one that a program might write itself."""

from __future__ import annotations

import asyncio
import gc
import json
import random
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
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
from schematic_native._native import Core
from schematic_native.cache import RedisCache
from schematic_native.cache.documents import merged_company, merged_user, with_usage
from schematic_native.cache.provider_calls import call_all
from schematic_native.rulesengine import ENGINE_VERSION_KEY, check_flag_json
from tests.conftest import ACME, API_KEY, PATIENCE, eventually, eventually_async

if TYPE_CHECKING:
    from schematic_native.emulator import Emulator
    from tests.stores.servers import RedisServer

V = ENGINE_VERSION_KEY
CACHES = ("company_cache", "company_lookup_cache", "user_cache", "user_lookup_cache", "flag_cache")


@pytest.fixture(autouse=True)
def patience(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine, a quarter of a second is too short for a cache that is there."""
    if "hang" not in request.node.name:
        monkeypatch.setattr("schematic_native.cache.entities.READ_TIMEOUT", PATIENCE)


class Shelf:
    """The least that a cache must be; it can fail, or hang."""

    def __init__(self) -> None:
        self.kept: dict[str, Any] = {}
        self.ttls: dict[str, int | None] = {}
        self.asked = 0
        self.error: Exception | None = None
        self.hangs = False

    async def _suffer(self) -> None:
        self.asked += 1
        if self.hangs:
            await asyncio.sleep(3600)
        if self.error is not None:
            raise self.error

    async def get(self, key: str) -> Any:
        await self._suffer()
        return self.kept.get(key)

    async def set(self, key: str, value: Any, ttl: int | None = None) -> None:
        await self._suffer()
        self.kept[key] = json.loads(json.dumps(value))
        self.ttls[key] = ttl

    async def delete(self, key: str) -> None:
        await self._suffer()
        self.kept.pop(key, None)

    async def delete_missing(self, keys_to_keep: list[str], *, scan_pattern: str) -> None:
        await self._suffer()
        assert scan_pattern == "flags:*"
        flags = {key for key in self.kept if key.startswith("flags:")}
        for key in flags - set(keys_to_keep):
            del self.kept[key]


def shared(cache: Any, **fields: Any) -> DataStreamConfig:
    return DataStreamConfig(**dict.fromkeys(CACHES, cache), **fields)


def config(emulator: Emulator, cache: Any, kind: type = SchematicConfig, **fields: Any) -> Any:
    datastream = shared(cache, **fields.pop("datastream", {}))
    urls = {"base_url": emulator.base_url, "event_capture_url": emulator.base_url}
    return kind(use_datastream=True, datastream=datastream, **urls, **fields)


def started(emulator: Emulator, cache: Any, **fields: Any) -> Schematic:
    client = Schematic(API_KEY, config(emulator, cache, **fields))
    client.initialize()
    return client


SEED = json.loads((Path(__file__).parents[2] / "examples/inference.json").read_text())


def seeded(entity_id: str) -> dict[str, Any]:
    """Return an entity as the service would send it, for the caller to change."""
    every = [*SEED["companies"], *SEED["users"]]
    found = next(each for each in every if each["id"] == entity_id)
    return dict(json.loads(json.dumps(found)))


async def test_calls_that_are_cancelled_before_they_start_leave_nothing_begun() -> None:
    shelf = Shelf()
    calls = asyncio.create_task(call_all([lambda: shelf.set("a", 1), lambda: shelf.set("b", 2)]))
    # One turn of the loop: it has made tasks of the calls, and none of those has started.
    await asyncio.sleep(0)
    calls.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calls
    # A coroutine that nobody awaited would be complained of here.
    gc.collect()
    assert shelf.asked == 0


def test_entities_are_written_in_the_layout_of_the_published_sdks(emulator: Emulator) -> None:
    shelf = Shelf()
    with started(emulator, shelf, datastream={"cache_ttl": 60_000}) as client:
        eventually(lambda: sum(key.startswith("flags:") for key in shelf.kept) == 3)
        assert shelf.kept[f"flags:{V}:inference"]["id"] == "flag_inference"
        assert shelf.ttls[f"flags:{V}:inference"] is None
        assert client.check_flag("inference", ACME, {"email": "ADA@example.com"})
        eventually(lambda: f"user:{V}:email:ada@example.com" in shelf.kept)
        eventually(lambda: f"company:{V}:id:acme" in shelf.kept)
    assert shelf.kept[f"company:{V}:id:acme"] == "comp_acme"
    assert shelf.kept[f"company:{V}:comp_acme"]["keys"] == {"id": "acme"}
    assert shelf.kept[f"user:{V}:id:ada"] == "user_ada"
    entities = {key: ttl for key, ttl in shelf.ttls.items() if not key.startswith("flags:")}
    assert set(entities.values()) == {60_000}


def test_updates_stale_keys_and_deletes_are_written(emulator: Emulator) -> None:
    shelf = Shelf()
    shelf.kept[f"flags:{V}:gone"] = {"id": "flag_gone"}
    with started(emulator, shelf) as client:
        client.check_flag("inference", ACME)
        eventually(lambda: f"company:{V}:id:acme" in shelf.kept)
        eventually(lambda: f"flags:{V}:gone" not in shelf.kept)

        def acme() -> dict[str, Any]:
            found: dict[str, Any] = shelf.kept.get(f"company:{V}:comp_acme", {})
            return found

        emulator.set_balance("comp_acme", "credit_inference", 7)
        eventually(lambda: acme()["credit_balances"] == {"credit_inference": 7})
        assert acme()["entitlements"][0]["credit_remaining"] == 7
        renamed = {**seeded("comp_acme"), "keys": {"domain": "Acme.Example"}}
        emulator.set_company(renamed)
        eventually(lambda: f"company:{V}:domain:acme.example" in shelf.kept)
        eventually(lambda: f"company:{V}:id:acme" not in shelf.kept)
        emulator.delete_company("comp_acme")
        eventually(lambda: not any(key.startswith("company:") for key in shelf.kept))
        emulator.delete_flag("flag_beta")
        eventually(lambda: f"flags:{V}:beta" not in shelf.kept)


def test_an_entity_written_by_another_process_is_used_at_once_and_kept_current(
    emulator: Emulator,
) -> None:
    shelf = Shelf()
    stale = {**seeded("comp_acme"), "plan_ids": [], "base_plan_id": None, "entitlements": []}
    shelf.kept = {f"company:{V}:comp_acme": stale, f"company:{V}:id:acme": "comp_acme"}
    with started(emulator, shelf) as client:
        first = client.check_flag_with_entitlement("inference", ACME)
        assert (first.value, first.company_id) == (False, "comp_acme")
        eventually(lambda: client.check_flag("inference", ACME))


def test_an_entity_unknown_to_the_service_is_deleted(emulator: Emulator) -> None:
    shelf = Shelf()
    ghost = {**seeded("comp_acme"), "id": "comp_ghost", "keys": {"id": "ghost"}}
    shelf.kept = {f"company:{V}:comp_ghost": ghost, f"company:{V}:id:ghost": "comp_ghost"}
    with started(emulator, shelf) as client:
        assert client.check_flag_with_entitlement("beta", {"id": "ghost"}).company_id is not None
        eventually(lambda: client.status().cached_companies == 0)
        eventually(lambda: not any(key.startswith("company:") for key in shelf.kept))


def test_keys_of_two_companies_in_the_cache_are_a_conflict(emulator: Emulator) -> None:
    shelf = Shelf()
    for name in ("acme", "few"):
        shelf.kept[f"company:{V}:comp_{name}"] = {
            **seeded(f"comp_{name}"),
            "keys": {f"{name}-key": "x"},
        }
        shelf.kept[f"company:{V}:{name}-key:x"] = f"comp_{name}"
    with started(emulator, shelf) as client:
        both = {"acme-key": "x", "few-key": "x"}
        assert client.check_flag_with_entitlement("inference", both).reason == "key conflict"


@pytest.mark.parametrize("fault", ["error", "hang", "nonsense", "broken entity"])
def test_a_failing_cache_neither_fails_nor_delays_a_check(
    emulator: Emulator, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    shelf = Shelf()
    if fault == "error":
        shelf.error = ConnectionError("no redis here")
    elif fault == "hang":
        shelf.hangs = True
    elif fault == "nonsense":
        shelf.kept = {f"company:{V}:comp_acme": 5, f"company:{V}:id:acme": "comp_acme"}
    else:
        shelf.kept = {f"company:{V}:comp_acme": {"id": "comp_acme"}, f"company:{V}:id:acme": "x"}
    with caplog.at_level("INFO", "schematic_native"), started(emulator, shelf) as client:
        for name in ("acme", "few", "none", "over"):
            assert client.check_flag_with_entitlement("inference", {"id": name}).company_id
        asked = shelf.asked
        shelf.error, shelf.hangs = None, False
        eventually(lambda: f"company:{V}:id:over" in shelf.kept or asked < shelf.asked)
        emulator.set_balance("comp_few", "credit_inference", 9)
        eventually(lambda: shelf.asked > asked)
        eventually(lambda: client.status().last_error is None)
    told = [r.getMessage() for r in caplog.records if "the shared cache" in r.getMessage()]
    if fault in {"error", "hang"}:
        assert len([text for text in told if "works again" in text]) == 1
        assert len(told) == 2


def test_the_cache_is_asked_only_for_what_memory_does_not_have(emulator: Emulator) -> None:
    shelf = Shelf()
    with started(emulator, shelf) as client:
        client.check_flag("inference", ACME)
        eventually(lambda: f"company:{V}:id:acme" in shelf.kept)
        asked = shelf.asked
        for _ in range(100):
            client.check_flag("inference", ACME)
        assert shelf.asked == asked


@pytest.mark.parametrize(
    "given", [{"company_cache": 1}, {"company_lookup_cache": 1}, {"flag_cache": 1}]
)
def test_each_cache_may_be_given_alone(emulator: Emulator, given: dict[str, int]) -> None:
    shelf = Shelf()
    datastream = DataStreamConfig(**dict.fromkeys(given, shelf))
    urls = {"base_url": emulator.base_url, "event_capture_url": emulator.base_url}
    made = SchematicConfig(use_datastream=True, datastream=datastream, **urls)  # type: ignore[arg-type]
    with Schematic(API_KEY, made) as client:
        client.initialize()
        assert client.check_flag("inference", ACME)
        if "company_lookup_cache" not in given:
            eventually(lambda: shelf.kept)


def test_processes_share_a_redis(emulator: Emulator, redis_server: RedisServer) -> None:
    with redis_server.connect(redis) as own, started(emulator, RedisCache(own)) as client:
        client.check_flag("inference", ACME)
        eventually(lambda: redis_server.command("EXISTS", f"schematic:company:{V}:id:acme"))
        assert redis_server.command("GET", f"schematic:company:{V}:id:acme") == '"comp_acme"'
        assert 0 < redis_server.command("PTTL", f"schematic:company:{V}:comp_acme") <= 86_400_000
        assert redis_server.command("PTTL", f"schematic:flags:{V}:beta") == -1
        with started(emulator, RedisCache(own)) as sibling:
            assert sibling.check_flag("inference", ACME)


@pytest.mark.parametrize("module", ["schematic_native.cache", "schematic.cache"])
async def test_an_asynchronous_client_shares_as_well(
    emulator: Emulator, redis_server: RedisServer, module: str
) -> None:
    cache = pytest.importorskip(module).RedisCache
    async with redis_server.connect(redis.asyncio) as own:
        made = config(emulator, cache(own), AsyncSchematicConfig)
        async with AsyncSchematic(API_KEY, made) as client:
            assert await client.check_flag("inference", ACME)
            name = f"schematic:company:{V}:id:acme"
            await eventually_async(lambda: redis_server.command("EXISTS", name))


async def test_the_published_client_reads_what_ours_writes_and_ours_what_it_writes(
    emulator: Emulator, redis_server: RedisServer
) -> None:
    published = pytest.importorskip("schematic.client")
    cache = pytest.importorskip("schematic.cache").RedisCache

    async def theirs(own: Any, connections: httpx.AsyncClient) -> Any:
        made = published.AsyncSchematic(
            API_KEY,
            published.AsyncSchematicConfig(
                base_url=emulator.base_url,
                event_capture_url=emulator.base_url,
                httpx_client=connections,
                use_datastream=True,
                datastream=published.DataStreamConfig(**dict.fromkeys(CACHES, cache(own))),
            ),
        )
        await made.initialize()
        return made

    async with (
        redis_server.connect(redis.asyncio) as own,
        redis_server.connect(redis.asyncio) as o2,
        httpx.AsyncClient() as connections,
    ):
        made = config(emulator, RedisCache(own), AsyncSchematicConfig)
        async with AsyncSchematic(API_KEY, made) as client:
            assert await client.check_flag("inference", ACME)
            name = f"schematic:company:{V}:id:acme"
            await eventually_async(lambda: redis_server.command("EXISTS", name))
            peer = await theirs(o2, connections)
            try:
                found = await peer._datastream_client.get_cached_company(ACME)
                assert found.id == "comp_acme"
                assert found.credit_balances == {"credit_inference": 1_000_000_000}
                other, until = f"schematic:company:{V}:id:few", time.monotonic() + PATIENCE
                while not redis_server.command("EXISTS", other):
                    assert time.monotonic() < until
                    # It asks the API, and caches nothing, as long as its stream is not connected.
                    await peer.check_flag("exports", {"id": "few"})
                answer = await client.check_flag_with_entitlement("inference", {"id": "few"})
                assert answer.company_id == "comp_few"
            finally:
                await peer.shutdown()


def test_leases_live_in_the_redis_of_the_company_cache(
    emulator: Emulator, redis_server: RedisServer
) -> None:
    with redis_server.connect(redis) as own:
        cache = RedisCache(own, prefix="mine")
        leases = CreditLeaseConfig(mode="client", default_lease_size=100)
        with started(emulator, cache, credit_leases=leases) as client:
            held = client.check("inference", ACME, usage=5)
            assert held.reservation is not None
            assert redis_server.command("KEYS", "mine:*lease*")
            client.track_with_reservation(held.reservation, 5)
    assert emulator.audit()["balanced"]


@pytest.mark.parametrize(
    ("fields", "error", "said"),
    [
        (
            {"flag_cache": object()},
            TypeError,
            "flag_cache must have the methods get, set and delete",
        ),
        ({"cache_ttl": "1 day"}, TypeError, "cache_ttl must be an int"),
        ({"cache_ttl": 0}, ValueError, "cache_ttl must be a number of milliseconds above 0"),
    ],
)
def test_an_invalid_cache_is_refused_by_name(
    fields: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        Schematic("k", SchematicConfig(datastream=DataStreamConfig(**fields)))


def changes(random_: random.Random) -> dict[str, Any]:
    """Make up a partial update of the company of the seed."""
    amount = random_.randint(0, 50)
    metric = {
        **seeded("comp_acme")["metrics"][random_.randrange(2)],
        "value": random_.randint(0, 20),
    }
    trait = {"id": "trait_region", "comparable_type": "string", "entity_type": "company"}
    every: list[tuple[str, Any]] = [
        ("credit_balances", {"credit_inference": amount}),
        ("credit_balances", {"credit_other": amount}),
        ("credit_lease_balance", {"credit_inference": {"remaining": amount, "reserved": 1}}),
        ("metrics", [metric]),
        ("metrics", [{**metric, "period": "current_day"}]),
        ("metrics", None),
        ("keys", {f"k{amount % 3}": "v"}),
        ("plan_ids", random_.choice([["plan_pro"], [], None])),
        ("traits", [{"value": random_.choice(["eu", "us"]), "trait_definition": trait}]),
        ("entitlements", []),
    ]
    return dict(random_.sample(every, random_.randint(1, 3)))


def test_a_merged_document_gives_the_verdict_of_the_core_after_the_same_partials() -> None:
    flags = SEED["flags"]
    for number in range(200):
        random_ = random.Random(number)
        core, document = Core(api_key="k"), seeded("comp_acme")

        def tell(kind: str, message_type: str, data: Any, core: Core = core) -> None:
            message = {"entity_type": f"rulesengine.{kind}", "message_type": message_type}
            text = json.dumps({**message, "entity_id": "comp_acme", "data": data})
            assert not core.ingest(text.encode()).skipped

        tell("Flags", "full", flags)
        tell("Company", "full", document)
        for _ in range(random_.randint(1, 5)):
            partial = changes(random_)
            document = merged_company(document, partial)
            tell("Company", "partial", partial)
        for flag in flags:
            envelope = {"flag": flag, "company": document}
            answer = json.loads(check_flag_json(json.dumps(envelope)))
            decided: Any = core.check_flag(flag["key"], {"id": "acme"})
            assert (decided.value, decided.reason) == (answer["value"], answer["reason"]), partial
            entitlement, told = decided.entitlement, answer.get("entitlement")
            assert (entitlement is None) == (told is None)
            if told is not None:
                assert entitlement.credit_remaining == told.get("creditRemaining")
                assert entitlement.usage == told.get("usage")


def test_documents_are_merged_as_in_the_published_package() -> None:
    merge = pytest.importorskip("schematic.datastream.merge")
    types = pytest.importorskip("schematic.types")
    for number in range(100):
        random_ = random.Random(number)
        partial = changes(random_)
        partial.pop("credit_lease_balance", None)  # it merges that elsewhere
        partial = {name: value for name, value in partial.items() if value is not None}
        existing = types.RulesengineCompany.model_validate(seeded("comp_acme"))
        theirs = merge.partial_company(existing, partial)
        ours = types.RulesengineCompany.model_validate(merged_company(seeded("comp_acme"), partial))
        assert ours == theirs, partial
    user = seeded("user_ada")
    partial = {"keys": {"slack": "U1"}, "traits": []}
    existing = types.RulesengineUser.model_validate(user)
    ours = types.RulesengineUser.model_validate(merged_user(user, partial))
    assert ours == merge.partial_user(existing, partial)


def test_usage_grows_in_the_metrics_of_its_event() -> None:
    grown = with_usage(seeded("comp_acme"), "report_exported", 4)
    assert [metric["value"] for metric in grown["metrics"]] == [0, 7]
