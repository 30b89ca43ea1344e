"""Answers of plain REST checks, kept for a few seconds."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Generic

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from typing_extensions import TypeVar

    from schematic_native._native import CheckFlagResult

    # Whoever names no type keeps the answers of checks.
    T = TypeVar("T", default=CheckFlagResult)
else:
    from typing import TypeVar

    T = TypeVar("T")


class LocalCache(Generic[T]):
    """An in-memory cache, least recently used out; safe to use from any thread.

    Args:
        max_size: entries.
        ttl: milliseconds an entry lives.

    """

    def __init__(
        self, max_size: int = 1000, ttl: int = 5000, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._max_size = max_size
        self._ttl = ttl
        self._clock = clock
        self._entries: OrderedDict[str, tuple[float, T]] = OrderedDict()
        # A signal handler may check a flag while the thread that it interrupts is in here.
        self._lock = threading.RLock()

    def get(self, key: str) -> T | None:
        """Return the answer kept under `key`, None if there is none or it is too old."""
        with self._lock:
            entry = self._entries.pop(key, None)
            if entry is None or entry[0] <= self._clock():
                return None
            self._entries[key] = entry  # used last
            return entry[1]

    def set(self, key: str, val: T, ttl_override: int | None = None) -> None:
        """Keep `val` under `key` for `ttl_override` milliseconds, or the cache's own time."""
        ttl = self._ttl if ttl_override is None else ttl_override
        if self._max_size <= 0 or ttl <= 0:
            return
        with self._lock:
            self._entries.pop(key, None)
            self._entries[key] = (self._clock() + ttl / 1000, val)
            while len(self._entries) > self._max_size:
                self._entries.popitem(last=False)

    def emptied(self) -> LocalCache[T]:
        """Return a cache of the same size and time, with nothing in it and a lock of its own."""
        return LocalCache(self._max_size, self._ttl, clock=self._clock)


def cache_key(
    flag_key: str, company: Mapping[str, str] | None, user: Mapping[str, str] | None
) -> str:
    """Name a check.

    The same flag, company and user give the same text whatever the order of their keys.
    """
    # repr quotes what it prints, so no choice of keys can imitate another check.
    return repr((flag_key.lower(), sorted((company or {}).items()), sorted((user or {}).items())))
