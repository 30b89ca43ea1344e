"""The kinds of Redis clients that a user may pass, and the store that each leads to.

Another kind needs connections of its own that keep the promise of `connections`; a cache that follows
changes also asks `tracking` for its servers, and docs/redis.md lists the kinds.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import redis
import redis.asyncio

from schematic_native.ground.machine import THIS, Machine
from schematic_native.redis.async_connections import AsyncServer
from schematic_native.redis.async_store import AsyncStore
from schematic_native.redis.cluster import AsyncCluster, SyncCluster
from schematic_native.redis.keys import Keys
from schematic_native.redis.operations import Operations
from schematic_native.redis.sync_connections import SyncServer
from schematic_native.redis.sync_store import SyncStore
from schematic_native.redis.threaded_store import ThreadedStore

Store: TypeAlias = SyncStore | AsyncStore
WaitedStore: TypeAlias = AsyncStore | ThreadedStore


def open_store(redis_client: object, prefix: str, machine: Machine = THIS) -> Store:
    """Open the store that a client of redis-py is connected to.

    Args:
        redis_client: `Redis` or `RedisCluster`, of `redis` or of `redis.asyncio`.
        prefix: what each key begins with.
        machine: its clock and its randomness.

    Raises:
        TypeError: it is none of these.

    """
    spread = Operations(Keys(prefix), is_spread=True)
    if isinstance(redis_client, redis.RedisCluster):
        return SyncStore(spread, SyncCluster(redis_client))
    if isinstance(redis_client, redis.asyncio.RedisCluster):
        return AsyncStore(spread, AsyncCluster(redis_client))
    operations = Operations(Keys(prefix), token=machine.token)
    if isinstance(redis_client, redis.Redis):
        pool = redis_client.connection_pool
        return SyncStore(operations, SyncServer(pool.connection_class, pool.connection_kwargs))
    if isinstance(redis_client, redis.asyncio.Redis):
        waiting: Any = redis_client.connection_pool
        connections = AsyncServer(
            waiting.connection_class,
            waiting.connection_kwargs,
            waiting.max_connections,
            machine.monotonic,
        )
        return AsyncStore(operations, connections)
    raise TypeError(
        "credit_leases.redis_client must be a Redis or RedisCluster of redis or of redis.asyncio, "
        f"got {type(redis_client).__name__}"
    )
