"""Shared caches in a real Redis, compared with the published package's."""

from __future__ import annotations

import asyncio
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import pytest
import redis
import redis.asyncio

from schematic_native import cache
from schematic_native.cache import AsyncLocalCache, LocalCache, RedisCache

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.stores.servers import ClusterServers, RedisServer

Make = "Callable[[], Awaitable[Any]]"
ENTITY = {"id": "comp_1", "keys": {"id": "acme"}, "name": "Ünï", "balance": 12.5, "plan": None}


@pytest.fixture(params=["asyncio", "synchronous", "texts", "cluster"])
async def client(request: pytest.FixtureRequest) -> AsyncIterator[Any]:
    """A client of redis-py of each kind."""
    if request.param == "cluster":
        servers: ClusterServers = request.getfixturevalue("cluster")
        made = servers.connect(redis.asyncio)
    else:
        server: RedisServer = request.getfixturevalue("server")
        module = redis if request.param == "synchronous" else redis.asyncio
        made = server.connect(module, decode_responses=request.param == "texts")
    yield made
    if isinstance(made, redis.Redis):
        made.close()
    else:
        await made.aclose()


async def do(client: Any, command: str, *arguments: object) -> Any:
    answer = getattr(client, command)(*arguments)
    return await answer if asyncio.iscoroutine(answer) or hasattr(answer, "__await__") else answer


async def test_values_come_back_as_they_were(client: Any) -> None:
    shared: RedisCache[Any] = RedisCache(client, prefix="p")
    for value in (ENTITY, "comp_1", [1, 2.5], True):
        await shared.set("flags:v:f", value)
        assert await shared.get("flags:v:f") == value
    assert await shared.get("flags:v:none") is None
    await shared.delete("flags:v:f")
    assert await shared.get("flags:v:f") is None


async def test_a_value_that_is_not_json_counts_as_missing(client: Any) -> None:
    await do(client, "set", "schematic:k", "{broken")
    assert await RedisCache(client).get("k") is None
    with pytest.raises(TypeError, match="no JSON"):
        await RedisCache(client).set("k", object())


async def test_a_value_is_kept_for_its_ttl(client: Any) -> None:
    brief: RedisCache[str] = RedisCache(client, default_ttl_ms=60_000)
    await brief.set("own", "v")
    await brief.set("given", "v", 30_000)
    await RedisCache(client).set("ever", "v")
    assert 30_000 < await do(client, "pttl", "schematic:own") <= 60_000
    assert 0 < await do(client, "pttl", "schematic:given") <= 30_000
    assert await do(client, "pttl", "schematic:ever") == -1
    await brief.set("own", "v", 0)
    assert await brief.get("own") is None


async def test_delete_missing_affects_only_keys_with_the_pattern_and_the_prefix(
    client: Any,
) -> None:
    shared: RedisCache[int] = RedisCache(client, prefix="a[b]*")
    for number in range(1200):
        await shared.set(f"flags:v:{number}", number)
    await shared.set("company:v:1", 1)
    other: RedisCache[int] = RedisCache(client, prefix="ab")
    await other.set("flags:v:0", 0)
    await shared.delete_missing(["flags:v:7", "flags:v:none"], scan_pattern="flags:*")
    left = [number for number in range(1200) if await shared.get(f"flags:v:{number}") is not None]
    assert left == [7]
    assert await shared.get("company:v:1") == 1
    assert await other.get("flags:v:0") == 0
    await shared.delete_missing([])
    assert await shared.get("company:v:1") is None


async def test_errors_of_redis_are_raised() -> None:
    gone = redis.asyncio.Redis(port=9, socket_connect_timeout=0.2)
    with pytest.raises(redis.ConnectionError):
        await RedisCache(gone).get("k")
    await gone.aclose()


async def test_the_published_cache_reads_ours_and_ours_reads_it(server: RedisServer) -> None:
    published = pytest.importorskip("schematic.cache")
    assert set(published.__all__) == set(cache.__all__)
    async with server.connect(redis.asyncio) as client:
        ours: RedisCache[Any] = RedisCache(client)
        theirs = published.RedisCache(client)
        assert (ours.client, ours.prefix) == (theirs.client, theirs.prefix)
        for value in (ENTITY, "comp_1"):
            await ours.set("k", value)
            assert await theirs.get("k") == value
            await theirs.set("k", value)
            assert await ours.get("k") == value
        model = pytest.importorskip("schematic.types").EventBodyIdentifyCompany(keys={"id": "a"})
        await ours.set("k", model)
        assert (await theirs.get("k"))["keys"] == {"id": "a"}
        await ours.set("k", {"at": datetime(2030, 1, 1, tzinfo=timezone.utc)})
        assert await theirs.get("k") == {"at": "2030-01-01T00:00:00+00:00"}


async def test_a_cache_in_memory_evicts_the_least_recently_used() -> None:
    local: AsyncLocalCache[int] = AsyncLocalCache(max_items=2, ttl=60_000)
    for number in range(3):
        await local.set(f"k{number}", number)
    assert [await local.get(f"k{number}") for number in range(3)] == [None, 1, 2]
    await local.delete("k1")
    await local.set("k3", 3)
    await local.delete_missing(["k3"], scan_pattern="*")
    assert [await local.get(f"k{number}") for number in range(4)] == [None, None, None, 3]
    await local.set("k4", 4, 0)
    assert await local.get("k4") is None


def test_expired_entries_of_a_local_cache_are_deleted() -> None:
    now = [0.0]
    local: LocalCache[int] = LocalCache(10, 1000, clock=lambda: now[0])
    local.set("old", 1)
    now[0] = 2
    local.set("new", 2)
    local.clean_expired()
    assert (local.get("old"), local.get("new"), len(local._entries)) == (None, 2, 1)
