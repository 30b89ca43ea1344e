"""The DataStream's part of the settings: shared caches and replicator mode, checked.

Nothing here reads from a cache: whether one works shows when it is used.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from schematic_native.config.client_config import DataStreamConfig
from schematic_native.config.defaults import (
    CACHE_TTL,
    MAX_MESSAGE_SIZE,
    REPLICATOR_HEALTH_CHECK,
    REPLICATOR_HEALTH_URL,
)
from schematic_native.config.fields import as_interval, read_positive, read_url, read_whole, require
from schematic_native.ground.arguments import shown, wrong_kind

_CACHES = ("company", "company_lookup", "user", "user_lookup", "flag")


@dataclass(frozen=True)
class CacheSettings:
    """The caches of `DataStreamConfig`, checked; None for those that are not given."""

    company: Any = None
    company_lookup: Any = None
    user: Any = None
    user_lookup: Any = None
    flag: Any = None
    ttl: int = CACHE_TTL  # milliseconds


@dataclass(frozen=True)
class ReplicaSettings:
    """Replicator mode, checked (seconds)."""

    health_url: str = REPLICATOR_HEALTH_URL
    health_check: float = REPLICATOR_HEALTH_CHECK / 1000


def read_max_message_size(config: object) -> int:
    """Check the limit of a message's size, in bytes."""
    if config is None:
        return MAX_MESSAGE_SIZE
    if not isinstance(config, DataStreamConfig):
        raise wrong_kind("datastream", DataStreamConfig, config)
    return read_whole(
        "datastream.max_message_size", config.max_message_size, MAX_MESSAGE_SIZE, "bytes"
    )


def read_caches(config: DataStreamConfig) -> CacheSettings | None:
    """Check the shared caches; None if there are none."""
    caches: dict[str, Any] = {}
    for name in _CACHES:
        cache = getattr(config, f"{name}_cache")
        if cache is None:
            continue
        methods = ("get", "set", "delete")
        if not all(callable(getattr(cache, method, None)) for method in methods):
            raise TypeError(
                f"datastream.{name}_cache must have the methods get, set and delete, got {shown(cache)}"
            )
        caches[name] = cache
    ttl = read_whole("datastream.cache_ttl", config.cache_ttl, CACHE_TTL, "milliseconds")
    return CacheSettings(**caches, ttl=ttl) if caches else None


def read_replica(config: DataStreamConfig, caches: CacheSettings | None) -> ReplicaSettings | None:
    """Check replicator mode, which needs all five caches; None if it is off."""
    require("datastream.replicator_mode", config.replicator_mode, bool)
    if not config.replicator_mode:
        return None
    for name in _CACHES:
        cache = getattr(caches, name, None)
        if cache is None:
            raise ValueError(
                f"datastream.{name}_cache must be given in replicator mode: all five caches must"
            )
        if type(cache).__name__ == "AsyncLocalCache":
            raise TypeError(
                f"datastream.{name}_cache must be shared with the replicator, for example a "
                f"RedisCache, got {type(cache).__name__}, which is this process's own"
            )
    check = read_positive(
        "datastream.replicator_health_check",
        config.replicator_health_check,
        REPLICATOR_HEALTH_CHECK,
        "milliseconds",
    )
    url = config.replicator_health_url
    return ReplicaSettings(
        health_url=read_url("datastream.replicator_health_url", url, REPLICATOR_HEALTH_URL),
        health_check=as_interval(check / 1000),
    )
