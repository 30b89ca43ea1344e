"""Replicator mode on a Redis Cluster, and through Sentinel."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import redis
import redis.asyncio

from schematic_native import AsyncSchematic, AsyncSchematicConfig, DataStreamConfig
from schematic_native.cache import RedisCache
from tests.cache.replicators import (
    CACHES,
    SEED,
    UNPAID,
    Program,
    Replicator,
    both_kinds,
    only_events,
    patience,
    seeded,
)
from tests.conftest import ACME, API_KEY, PATIENCE, eventually, eventually_async
from tests.stores.servers import ClusterServers, Sentinel

__all__ = ["patience"]


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
            httpx.AsyncClient(transport=httpx.MockTransport(only_events)) as http,
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
    deadline = asyncio.get_running_loop().time() + PATIENCE
    while await client.check_flag("inference", ACME) is not value:
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.005)
