"""Replicator mode: another program fills a cache with entities, and this process decides by it.

What is read from the cache stays in the core until Redis tells that its key has changed, so that a
check which finds its entities there does no I/O. Where nobody tells, it stays for a second. Under an
entity stand only those lookup keys that the cache has for it.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import httpx

from schematic_native.cache.documents import ingest, with_usage
from schematic_native.config.settings import is_loopback
from schematic_native.ground import json_text
from schematic_native.ground.store_errors import CacheError
from schematic_native.ground.time_limit import within
from schematic_native.service.datastream import COMPANY, FLAGS, USER
from schematic_native.service.transport import using_openssl

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping

    from schematic_native._native import Core
    from schematic_native.config.settings import CacheSettings, ReplicaSettings
    from schematic_native.ground.fault_log import Faults

TOPIC = "the replicator's cache"
HEALTH_TOPIC = "the replicator"
TRACKING_TOPIC = "changes in the replicator's cache"
FLAG = "rulesengine.Flag"
# Seconds: for one read of the cache, of leaving one alone that failed, for the answer of the
# replicator, that an entity is kept where changes are not told, between two looks for such entities,
# and that what changed while it was read is kept.
READ_TIMEOUT = 0.5
PAUSE = 1.0
HEALTH_TIMEOUT = 5.0
KEPT = 1.0
SWEEP = 0.1
UNSURE = 0.005
# Lookup keys that are kept, those of nobody included; then everything is read anew.
MOST_NAMES = 200_000
# Reads of an entity that changes all the time, until it is taken as it is.
MOST_READS = 4

Document = dict[str, Any]
_UNREAD = object()


class _Kind(NamedTuple):
    """What differs between companies and users."""

    name: str
    entities: Any
    lookups: Any


@dataclass
class _Kept:
    """An entity in the core: its lookup keys that were read, as keys of the cache and as pairs."""

    names: dict[str, tuple[str, str]]


@dataclass(eq=False)
class _Reading:
    """One read that is under way: whether what it reads has changed meanwhile."""

    is_stale: bool = False


class Found(NamedTuple):
    """What the cache has of what a check is about."""

    flag: bool
    is_conflict: bool  # the keys name several companies, or several users


class Replica:
    """Reads what the replicator has written.

    Args:
        settings: where the replicator says how it is.
        caches: all five of them.
        core: takes what is read.
        faults: where failures are reported.
        version: what keys are told apart by until the replicator tells.
        on_ready: called with whether checks may be decided here.

    """

    def __init__(
        self,
        settings: ReplicaSettings,
        caches: CacheSettings,
        core: Core,
        faults: Faults,
        *,
        version: str,
        on_ready: Callable[[bool], None],
    ) -> None:
        self._settings = settings
        self._caches = caches
        self._core = core
        self._faults = faults
        self._version = version
        self._on_ready = on_ready
        self._kinds = {
            COMPANY: _Kind("company", caches.company, caches.company_lookup),
            USER: _Kind("user", caches.user, caches.user_lookup),
        }
        # What has been read, by the cache's keys: lookup keys and the ids that they name, entities
        # in the core, and flags; None for what is not there. Other threads look into the first.
        self._names: dict[str, str | None] = {}
        self._entities: dict[tuple[str, str], _Kept] = {}
        self._flags: dict[str, str | None] = {}
        self._read_at: dict[str, float] = {}
        # Keys that are being read, and whether they have changed meanwhile.
        self._reading: dict[str, list[_Reading]] = {}
        self._trackers = _trackers(self)
        self._tracked = dict.fromkeys(range(len(self._trackers)), False)
        self._paused_until = 0.0
        self.ready = False
        self.first_outcome = asyncio.Event()
        self._empty()
        on_ready(False)

    def _empty(self) -> None:
        """Take out of the core what the replica of an earlier event loop has left there."""
        core = self._core
        for entity_type, left, find in (
            (COMPANY, core.company_subscriptions(), core.company_id),
            (USER, core.user_subscriptions(), core.user_id),
        ):
            for entity_id in {find(keys) for keys in left} - {None}:
                self._ingest(entity_type, "delete", {"id": entity_id})
        for key in core.flag_keys():
            self._drop_flag(key)

    @property
    def connected(self) -> bool:
        """Whether the replicator answers, and is ready."""
        return self.ready

    @property
    def is_tracked(self) -> bool:
        """Whether Redis tells of every change."""
        return bool(self._tracked) and all(self._tracked.values())

    def services(self) -> list[tuple[str, Callable[[], Coroutine[object, object, None]]]]:
        """Return what is to run for as long as the client does, by name."""
        work: list[tuple[str, Callable[[], Coroutine[object, object, None]]]] = [
            (HEALTH_TOPIC, self.run),
            ("sweeper of the replicator's cache", self._sweep),
        ]
        return [*work, *((TRACKING_TOPIC, tracker.run) for tracker in self._trackers)]

    # Health

    async def run(self) -> None:
        """Ask the replicator how it is, until cancelled."""
        url = self._settings.health_url
        trust_env = not is_loopback(url)

        def make() -> httpx.AsyncClient:
            with using_openssl:
                return httpx.AsyncClient(timeout=HEALTH_TIMEOUT, trust_env=trust_env)

        try:
            async with await asyncio.to_thread(make) as client:
                while True:
                    await self._ask_health(client, url)
                    await asyncio.sleep(self._settings.health_check)
        finally:
            self._set_ready(False)

    async def _ask_health(self, client: httpx.AsyncClient, url: str) -> None:
        try:
            self._heed(await within(_health(client, url), HEALTH_TIMEOUT))
        except Exception as error:  # noqa: BLE001 - whatever answers there
            self._faults.raised(HEALTH_TOPIC, f"{_said(error)}; checks ask the API")
            self._set_ready(False)
        self.first_outcome.set()

    def _heed(self, health: Document) -> None:
        version = health.get("cache_version") or health.get("cacheVersion")
        if isinstance(version, str) and version != self._version:
            self.forget(None)
            self._version = version
        is_ready = health.get("ready") is True
        if is_ready:
            self._faults.cleared(HEALTH_TOPIC)
        else:
            self._faults.raised(HEALTH_TOPIC, "it is not ready; checks ask the API")
        self._set_ready(is_ready)

    def _set_ready(self, is_ready: bool) -> None:
        if is_ready == self.ready:
            return
        if is_ready and not self._core.has_flags():
            # From here on flags are known to be known: each is read when it is asked for.
            self._ingest(FLAGS, "full", [])
        if not is_ready:
            self.forget(None)
        self.ready = is_ready
        self._on_ready(is_ready)

    # Reading

    async def request(self, entity_type: str, keys: Mapping[str, str], deadline: float) -> bool:
        """Read an entity by its keys; tells whether it is in the core."""
        del deadline  # a read has a limit of its own
        if not self.ready:
            return False
        try:
            return await self._find(entity_type, keys) > 0
        except CacheError:
            return False

    async def load(
        self, flag_key: str, company: Mapping[str, str] | None, user: Mapping[str, str] | None
    ) -> Found:
        """Read what a check is about, as far as it is not in the core.

        Raises:
            CacheError: the cache could not be read.

        """
        flag, *found = await asyncio.gather(
            self._find_flag(flag_key), self._find(COMPANY, company), self._find(USER, user)
        )
        return Found(flag, max(found) > 1)

    def covers(self, entity_type: str, keys: Mapping[str, str] | None) -> bool:
        """Tell whether all that keys name has been read, and is not in conflict; from any thread.

        One key alone is known to the core, if it is known.
        """
        if not keys or len(keys) == 1:
            return True
        kind = self._kinds[entity_type]
        names = [self._lookup_key(kind, *pair) for pair in keys.items()]
        ids = {self._names.get(name, _UNREAD) for name in names} - {None}
        return _UNREAD not in ids and len(ids) <= 1

    async def _find(self, entity_type: str, keys: Mapping[str, str] | None) -> int:
        """Read an entity by its keys; tells how many are named by them, none that is not there."""
        if not keys:
            return 0
        kind = self._kinds[entity_type]
        pairs = {self._lookup_key(kind, name, value): (name, value) for name, value in keys.items()}
        missing = [name for name in pairs if name not in self._names]
        ids = dict(zip(missing, await self._all(kind.lookups, missing), strict=True))
        ids |= {name: self._names[name] for name in pairs if name in self._names}
        by_id: dict[str, dict[str, tuple[str, str]]] = {}
        for name, entity_id in ids.items():
            if isinstance(entity_id, str) and entity_id:
                by_id.setdefault(entity_id, {})[name] = pairs[name]
        found = [await self._take(entity_type, each, names) for each, names in by_id.items()]
        return len(by_id) if len(by_id) > 1 else sum(found)

    async def _all(self, lookups: Any, names: Iterable[str]) -> list[str | None]:
        return list(await asyncio.gather(*(self._read_name(lookups, name) for name in names)))

    async def _read_name(self, lookups: Any, name: str) -> str | None:
        value, is_current = await self._read(lookups, name)
        entity_id = value if isinstance(value, str) and value else None
        if is_current:
            if len(self._names) >= MOST_NAMES:
                self.forget(None)
            self._names[name] = entity_id
        return entity_id

    async def _take(
        self, entity_type: str, entity_id: str, names: dict[str, tuple[str, str]]
    ) -> bool:
        """Have an entity in the core under these lookup keys; tells whether there is one."""
        kept = self._entities.get((entity_type, entity_id))
        if kept is not None and names.keys() <= kept.names.keys():
            find = self._core.company_id if entity_type == COMPANY else self._core.user_id
            if find(dict(names.values())) is not None:
                return True  # and has not given way to others meanwhile
        kind = self._kinds[entity_type]
        document, is_current = await self._read(kind.entities, self._entity_key(kind, entity_id))
        dump = getattr(document, "model_dump", None)
        if callable(dump):
            document = dump(mode="json")
        if not isinstance(document, dict):
            return False
        kept = self._entities.get((entity_type, entity_id))
        known = names if kept is None else _merged(kept.names, names)
        whole = {**document, "id": entity_id, "keys": dict(known.values())}
        if not self._ingest(entity_type, "full", whole):
            return False
        self._entities[entity_type, entity_id] = _Kept(known)
        if not is_current or any(self._names.get(name) != entity_id for name in names):
            # It changes as fast as it is read: good for this check, and for no other.
            asyncio.get_running_loop().call_later(UNSURE, self._drop, entity_type, entity_id)
        return True

    async def _find_flag(self, flag_key: str) -> bool:
        name = self._flag_key(flag_key)
        if name in self._flags:
            return self._flags[name] is not None
        flag, is_current = await self._read(self._caches.flag, name)
        dump = getattr(flag, "model_dump", None)
        if callable(dump):
            flag = dump(mode="json")
        found = isinstance(flag, dict) and self._ingest(FLAG, "full", flag)
        if is_current:
            self._flags[name] = flag["key"] if found else None
        elif found:
            asyncio.get_running_loop().call_later(UNSURE, self._drop_flag, flag["key"])
        return found

    async def _read(self, cache: Any, name: str) -> tuple[Any, bool]:
        """Read a value; tells also whether it has not changed while it was read."""
        if time.monotonic() < self._paused_until:
            raise CacheError("it failed a moment ago")
        for _ in range(MOST_READS):
            reading = _Reading()
            self._reading.setdefault(name, []).append(reading)
            try:
                value = await within(_do(cache.get(name)), READ_TIMEOUT)
            except Exception as error:  # a provider raises what it likes
                self._faults.raised(TOPIC, _said(error))
                self._paused_until = time.monotonic() + PAUSE
                raise CacheError(str(error)) from error
            finally:
                readings = self._reading[name]
                readings.remove(reading)
                if not readings:
                    del self._reading[name]
            if not reading.is_stale:
                break
        self._faults.cleared(TOPIC)
        self._read_at[name] = time.monotonic()
        return value, not reading.is_stale

    def _ingest(self, entity_type: str, message_type: str, data: Any) -> bool:
        return ingest(self._core, self._faults, TOPIC, entity_type, message_type, data)

    # Forgetting

    def tracks(self, number: int, is_told: bool) -> None:
        """Note whether one of the trackers is told of every change."""
        if is_told:
            self._faults.cleared(TRACKING_TOPIC)
        if self._tracked[number] or is_told:
            self.forget(None)
        self._tracked[number] = is_told

    def untracked(self, error: Exception) -> None:
        """Report why changes are not told."""
        kept = f"entities are read again when they are {KEPT:g} s old"
        self._faults.raised(TRACKING_TOPIC, f"Redis does not tell them ({_said(error)}); {kept}")

    def forget(self, name: str | None) -> None:
        """Forget what a key of the cache stands for; None is all that has been read."""
        if name is None:
            for reading in [each for readings in self._reading.values() for each in readings]:
                reading.is_stale = True
            for entity in list(self._entities):
                self._drop(*entity)
            for key in [key for key in self._flags.values() if key is not None]:
                self._drop_flag(key)
            self._names.clear()
            self._flags.clear()
            self._read_at.clear()
            return
        for reading in self._reading.get(name, ()):
            reading.is_stale = True
        self._read_at.pop(name, None)
        flag_key = self._flags.pop(name, None)
        if flag_key is not None:
            self._drop_flag(flag_key)
        entity_id = self._names.pop(name, None)
        for entity_type, kind in self._kinds.items():
            start = f"{kind.name}:{self._version}:"
            if name.startswith(start):
                self._drop(entity_type, name[len(start) :] if entity_id is None else entity_id)

    def _drop(self, entity_type: str, entity_id: str) -> None:
        kept = self._entities.pop((entity_type, entity_id), None)
        if kept is not None:
            self._ingest(entity_type, "delete", {"id": entity_id})

    def _drop_flag(self, flag_key: str) -> None:
        self._ingest(FLAG, "delete", {"key": flag_key})

    async def _sweep(self) -> None:
        """Forget what is too old, where changes are not told."""
        while True:
            await asyncio.sleep(SWEEP)
            if self.is_tracked:
                continue
            oldest = time.monotonic() - (KEPT - 2 * SWEEP)
            for name in [name for name, at in self._read_at.items() if at <= oldest]:
                self.forget(name)

    # Writing

    async def count(self, company: Mapping[str, str], event: str, quantity: int) -> None:
        """Let the metrics of a company in the cache grow, as the published SDK does."""
        kind = self._kinds[COMPANY]
        try:
            names = [self._lookup_key(kind, *pair) for pair in company.items()]
            ids = {each for each in await self._all(kind.lookups, names) if each}
            if len(ids) != 1:
                return
            (entity_id,) = ids
            name = self._entity_key(kind, entity_id)
            document, _ = await self._read(kind.entities, name)
            if not isinstance(document, dict):
                return
            grown = with_usage(document, event, quantity)
            keys = grown.get("keys") or {}
            await _do(kind.entities.set(name, grown, self._caches.ttl))
            for key, value in keys.items():
                lookup = self._lookup_key(kind, key, value)
                await _do(kind.lookups.set(lookup, entity_id, self._caches.ttl))
        except CacheError:
            return
        except Exception as error:  # noqa: BLE001 - a provider raises what it likes
            self._faults.raised(TOPIC, _said(error))

    # Keys

    def _flag_key(self, key: str) -> str:
        return f"flags:{self._version}:{key.lower()}"

    def _entity_key(self, kind: _Kind, entity_id: str) -> str:
        return f"{kind.name}:{self._version}:{entity_id}"

    def _lookup_key(self, kind: _Kind, name: str, value: str) -> str:
        return f"{kind.name}:{self._version}:{name.lower()}:{value.lower()}"

    @property
    def caches(self) -> CacheSettings:
        """Where everything is read from."""
        return self._caches


def _trackers(replica: Replica) -> list[Any]:
    """Return what follows the changes; none where one of the caches is not in a Redis."""
    kinds = {
        "company": (replica.caches.company, replica.caches.company_lookup),
        "user": (replica.caches.user, replica.caches.user_lookup),
        "flags": (replica.caches.flag,),
    }
    places: dict[int, tuple[Any, dict[str, None]]] = {}
    for name, caches in kinds.items():
        for cache in caches:
            client, prefix = getattr(cache, "client", None), getattr(cache, "prefix", None)
            if client is None or not isinstance(prefix, str):
                return []
            _, prefixes = places.setdefault(id(client), (client, {}))
            prefixes[f"{prefix}:{name}:"] = None
    from schematic_native.redis.tracking import Tracker  # noqa: PLC0415 - only with Redis

    trackers = []
    for number, (client, prefixes) in enumerate(places.values()):
        known = tuple(prefixes)

        def change(key: str | None, known: tuple[str, ...] = known) -> None:
            if key is None:
                replica.forget(None)
                return
            for prefix in known:
                if key.startswith(prefix):
                    kind = prefix[:-1].rpartition(":")[2]
                    replica.forget(f"{kind}:{key[len(prefix) :]}")

        def state(is_told: bool, number: int = number) -> None:
            replica.tracks(number, is_told)

        trackers.append(
            Tracker(client, known, on_change=change, on_state=state, on_fault=replica.untracked)
        )
    return trackers


def _merged(
    known: dict[str, tuple[str, str]], more: dict[str, tuple[str, str]]
) -> dict[str, tuple[str, str]]:
    """Add lookup keys to those of an entity, which has one value of each name at a time.

    The cache may have more, of which the older are stale: whoever asks by one has it read again.
    """
    names = {name.lower() for name, _ in more.values()}
    kept = {key: pair for key, pair in known.items() if pair[0].lower() not in names}
    return {**kept, **more}


async def _do(answer: Any) -> Any:
    """Wait for what a provider answers, if it must be waited for."""
    return await answer if inspect.isawaitable(answer) else answer


async def _health(client: httpx.AsyncClient, url: str) -> Document:
    response = await client.get(url)
    response.raise_for_status()
    health = json_text.read(response.content)
    if not isinstance(health, dict):
        raise TypeError("its health is no JSON object")
    return health


def _said(error: BaseException) -> str:
    text = "no answer in time" if isinstance(error, asyncio.TimeoutError) else str(error)
    return f"{type(error).__name__}: {text}"
