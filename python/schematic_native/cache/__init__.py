"""Caches: of the answers of plain REST checks, and of entities that processes share.

`flag_checks` holds the caches that a user configures; `entities` and `replicator` keep the core's
entities in step with a cache that other processes write.
"""

from schematic_native.cache.flag_checks import (
    DEFAULT_CACHE_SIZE,
    DEFAULT_CACHE_TTL,
    DEFAULT_MAX_ITEMS,
    DEFAULT_TTL_MS,
    AsyncLocalCache,
    LocalCache,
    RedisCache,
)
from schematic_native.config.options import AsyncCacheProvider, CacheProvider

__all__ = [
    "DEFAULT_CACHE_SIZE",
    "DEFAULT_CACHE_TTL",
    "DEFAULT_MAX_ITEMS",
    "DEFAULT_TTL_MS",
    "AsyncCacheProvider",
    "AsyncLocalCache",
    "CacheProvider",
    "LocalCache",
    "RedisCache",
]
