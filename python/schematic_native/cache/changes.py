"""Follows the changes of a replicator's cache, where all of it is in Redis.

Nothing here reads the cache: a change only makes the replica forget what it has read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from schematic_native.config.datastream_settings import CacheSettings
    from schematic_native.redis.tracking import Tracker


class Follower(Protocol):
    """Receives the changes."""

    def forget(self, name: str | None) -> None:
        """Forget what a key of the cache stands for; None stands for everything."""

    def tracks(self, number: int, is_complete: bool) -> None:
        """Note whether a tracker reports every change."""

    def untracked(self, error: Exception) -> None:
        """Report why changes are not tracked."""


def make_trackers(caches: CacheSettings, follower: Follower) -> list[Tracker]:
    """Return a tracker for each Redis; none at all if one of the caches is elsewhere."""
    kinds = {
        "company": (caches.company, caches.company_lookup),
        "user": (caches.user, caches.user_lookup),
        "flags": (caches.flag,),
    }
    places: dict[int, tuple[Any, dict[str, None]]] = {}
    for name, of_kind in kinds.items():
        for cache in of_kind:
            client, prefix = getattr(cache, "client", None), getattr(cache, "prefix", None)
            if client is None or not isinstance(prefix, str):
                return []
            _, prefixes = places.setdefault(id(client), (client, {}))
            prefixes[f"{prefix}:{name}:"] = None
    return [
        _make_tracker(number, client, tuple(prefixes), follower)
        for number, (client, prefixes) in enumerate(places.values())
    ]


def _make_tracker(
    number: int, client: Any, prefixes: tuple[str, ...], follower: Follower
) -> Tracker:
    from schematic_native.redis.tracking import Tracker  # noqa: PLC0415 - only with Redis

    def on_change(key: str | None) -> None:
        if key is None:
            follower.forget(None)
            return
        for prefix in prefixes:
            if key.startswith(prefix):
                kind = prefix[:-1].rpartition(":")[2]
                follower.forget(f"{kind}:{key[len(prefix) :]}")

    def on_state(is_complete: bool) -> None:
        follower.tracks(number, is_complete)

    return Tracker(
        client,
        prefixes,
        on_change=on_change,
        on_state=on_state,
        on_fault=follower.untracked,
    )
