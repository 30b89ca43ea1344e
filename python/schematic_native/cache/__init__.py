"""Caches: of results of plain REST checks, and of entities that processes share.

`flag_checks` has the caches that a program configures. `entities` writes what the DataStream sends into shared
caches and reads it from there; `replicator` decides by what another program has written.
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
from schematic_native.config.providers import AsyncCacheProvider, CacheProvider

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
