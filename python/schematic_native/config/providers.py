"""What a program may hand to a client: caches and an HTTP client, by the methods that are called.

Nothing here is a base class that must be inherited from: any object with these methods will do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from schematic_native._native import CheckFlagResult

T = TypeVar("T")


class CacheProvider(Protocol[T]):
    """Keeps the results of plain REST checks for a while; called on the caller's thread."""

    def get(self, key: str) -> T | None:
        """Return the result kept under `key`, None if there is none or it is too old."""
        ...

    def set(self, key: str, val: T, ttl_override: int | None = None) -> None:
        """Keep `val` under `key`."""
        ...


class AsyncCacheProvider(Protocol[T]):
    """Keeps entities for several processes; called on an event loop."""

    async def get(self, key: str) -> T | None:
        """Return what is kept under `key`, None if there is nothing or it is too old."""
        ...

    async def set(self, key: str, value: T, ttl: int | None = None) -> None:
        """Keep `value` under `key` for `ttl` milliseconds, or its own default."""
        ...

    async def delete(self, key: str) -> None:
        """Delete what is kept under `key`."""
        ...

    async def delete_missing(
        self, keys_to_keep: Iterable[str], *, scan_pattern: str | None = None
    ) -> None:
        """Delete all keys that match the pattern, except these."""
        ...


class HttpClient(Protocol):
    """An HTTP client of the program: of httpx, httpx2 or aiohttp."""

    @property
    def request(self) -> Callable[..., Any]:
        """Make a request."""
        ...


FlagCache: TypeAlias = "CacheProvider[CheckFlagResult]"
