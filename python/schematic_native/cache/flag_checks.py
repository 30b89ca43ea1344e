"""The caches that a program configures: in memory, for results of plain REST checks, and in Redis, for entities.

Nothing here knows what a cached value means.
"""

from __future__ import annotations

import re
import threading
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Generic

from schematic_native.config.providers import AsyncCacheProvider

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping

    from typing_extensions import TypeVar

    from schematic_native._native import CheckFlagResult

    # Without a type, a cache keeps the results of checks.
    T = TypeVar("T", default=CheckFlagResult)
else:
    from typing import TypeVar

    T = TypeVar("T")

DEFAULT_CACHE_SIZE = DEFAULT_MAX_ITEMS = 1000
DEFAULT_CACHE_TTL = DEFAULT_TTL_MS = 5000
# The most keys that one command deletes: more would block the other clients of a Redis.
_DELETED_AT_ONCE = 500


class LocalCache(Generic[T]):
    """An in-memory cache that evicts the least recently used entry; safe to use from any thread.

    Args:
        max_size: the most entries.
        ttl: milliseconds that an entry is kept.

    """

    def __init__(
        self,
        max_size: int = DEFAULT_CACHE_SIZE,
        ttl: int = DEFAULT_CACHE_TTL,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_size = max_size
        self._ttl = ttl
        self._clock = clock
        self._entries: OrderedDict[str, tuple[float, T]] = OrderedDict()
        # Reentrant: a signal handler may check a flag while it interrupts a thread in here.
        self._lock = threading.RLock()

    def get(self, key: str) -> T | None:
        """Return the result kept under `key`, None if there is none or it is too old."""
        with self._lock:
            entry = self._entries.pop(key, None)
            if entry is None or entry[0] <= self._clock():
                return None
            self._entries[key] = entry  # the most recently used
            return entry[1]

    def set(self, key: str, val: T, ttl_override: int | None = None) -> None:
        """Keep `val` under `key` for `ttl_override` milliseconds, or the cache's default."""
        ttl = self._ttl if ttl_override is None else ttl_override
        if self._max_size <= 0 or ttl <= 0:
            return
        with self._lock:
            self._entries.pop(key, None)
            self._entries[key] = (self._clock() + ttl / 1000, val)
            while len(self._entries) > self._max_size:
                self._entries.popitem(last=False)

    def emptied(self) -> LocalCache[T]:
        """Return an empty cache of the same size and time, with its own lock."""
        return LocalCache(self._max_size, self._ttl, clock=self._clock)

    def clean_expired(self) -> None:
        """Delete entries that are too old. There is no need to: a full cache evicts entries anyway."""
        with self._lock:
            now = self._clock()
            for key in [key for key, entry in self._entries.items() if entry[0] <= now]:
                del self._entries[key]

    def _keep_only(self, keys: Iterable[str]) -> None:
        with self._lock:
            for key in self._entries.keys() - set(keys):
                del self._entries[key]

    def _forget(self, key: str) -> None:
        with self._lock:
            self._entries.pop(key, None)


class AsyncLocalCache(AsyncCacheProvider[T]):
    """The same for asynchronous code, in the memory of this process only.

    Args:
        max_items: the most entries.
        ttl: milliseconds that an entry is kept.

    """

    def __init__(self, *, max_items: int = DEFAULT_MAX_ITEMS, ttl: int = DEFAULT_TTL_MS) -> None:
        self._kept: LocalCache[T] = LocalCache(max_items, ttl)

    async def get(self, key: str) -> T | None:
        """Return what is kept under `key`, None if there is nothing or it is too old."""
        return self._kept.get(key)

    async def set(self, key: str, value: T, ttl: int | None = None) -> None:
        """Keep `value` under `key` for `ttl` milliseconds, or the cache's default."""
        self._kept.set(key, value, ttl)

    async def delete(self, key: str) -> None:
        """Delete what is kept under `key`."""
        self._kept._forget(key)  # noqa: SLF001 - the same module

    async def delete_missing(
        self, keys_to_keep: Iterable[str], *, scan_pattern: str | None = None
    ) -> None:
        """Delete everything except these keys."""
        del scan_pattern  # all keys here are of one kind, unlike those in Redis
        self._kept._keep_only(keys_to_keep)  # noqa: SLF001 - the same module


class RedisCache(AsyncCacheProvider[T]):
    """Values as JSON in Redis, in the layout of the published SDKs.

    Args:
        client: a client of redis-py for one server, Sentinel or a cluster. An asynchronous one is
            awaited; a synchronous one is called in worker threads. It is never closed.
        prefix: what every key begins with, without the colon that follows.
        default_ttl_ms: milliseconds that a value is kept if `set` gets none; None keeps it for ever.

    Errors of Redis are raised as they are.

    """

    def __init__(
        self, client: Any, *, prefix: str = "schematic", default_ttl_ms: int | None = None
    ) -> None:
        self._client = client
        self._prefix = prefix
        self._default_ttl = default_ttl_ms

    @property
    def client(self) -> Any:
        """The client of redis-py."""
        return self._client

    @property
    def prefix(self) -> str:
        """What every key begins with."""
        return self._prefix

    async def get(self, key: str) -> T | None:
        """Return the value under `key`; None if there is none, or it is not JSON."""
        from schematic_native.ground import json_text  # noqa: PLC0415 - loaded with the first value

        text = await self._do("get", f"{self._prefix}:{key}")
        if text is None:
            return None
        try:
            value: T = json_text.read(text)
        except json_text.NotJSONError:
            return None
        return value

    async def set(self, key: str, value: T, ttl: int | None = None) -> None:
        """Keep `value` under `key` for `ttl` milliseconds; with 0 or less, it is not kept.

        Raises:
            TypeError: the value cannot be written as JSON. An object with `model_dump` can.

        """
        from schematic_native.ground import json_text  # noqa: PLC0415 - loaded with the first value

        dump = getattr(value, "model_dump", None)
        text = json_text.write(dump(mode="json") if callable(dump) else value)
        name = f"{self._prefix}:{key}"
        lifetime = self._default_ttl if ttl is None else ttl
        if lifetime is None:
            await self._do("set", name, text)
        elif lifetime <= 0:
            await self._do("delete", name)
        else:
            await self._do("psetex", name, lifetime, text)

    async def delete(self, key: str) -> None:
        """Delete what is under `key`."""
        await self._do("delete", f"{self._prefix}:{key}")

    async def delete_missing(
        self, keys_to_keep: Iterable[str], *, scan_pattern: str | None = None
    ) -> None:
        """Delete every key that matches the pattern, except these.

        Args:
            keys_to_keep: keys without the prefix.
            scan_pattern: a pattern of Redis, without the prefix; None matches every key with the prefix.

        """
        kept = {f"{self._prefix}:{key}" for key in keys_to_keep}
        # The prefix is not a pattern, even if it contains a bracket.
        prefix = re.sub(r"([*?\[\]\\])", r"\\\1", self._prefix)
        missing = []
        async for name in self._scan(f"{prefix}:{scan_pattern or '*'}"):
            text = name.decode() if isinstance(name, bytes) else name
            if text not in kept:
                missing.append(text)
        for start in range(0, len(missing), _DELETED_AT_ONCE):
            await self._do("delete", *missing[start : start + _DELETED_AT_ONCE])

    @property
    def _is_synchronous(self) -> bool:
        """Whether the client would block the event loop."""
        import redis  # noqa: PLC0415 - only loaded if there is a client

        return isinstance(self._client, (redis.Redis, redis.RedisCluster))

    async def _do(self, command: str, *arguments: Any) -> Any:
        method = getattr(self._client, command)
        if not self._is_synchronous:
            return await method(*arguments)
        import asyncio  # noqa: PLC0415 - only loaded by asynchronous programs

        return await asyncio.to_thread(method, *arguments)

    async def _scan(self, pattern: str) -> AsyncIterator[str | bytes]:
        """Find keys with SCAN, which does not block other clients for long."""
        if not self._is_synchronous:
            async for name in self._client.scan_iter(match=pattern, count=1000):
                yield name
            return
        import asyncio  # noqa: PLC0415 - only loaded by asynchronous programs

        def scan() -> list[str | bytes]:
            return list(self._client.scan_iter(match=pattern, count=1000))

        for name in await asyncio.to_thread(scan):
            yield name


def cache_key(
    flag_key: str, company: Mapping[str, str] | None, user: Mapping[str, str] | None
) -> str:
    """Return the key of a check: the same text for the same flag, company and user.

    The order of their lookup keys does not matter.
    """
    # repr quotes the texts, so that no choice of keys can look like another check.
    return repr((flag_key.lower(), sorted((company or {}).items()), sorted((user or {}).items())))
