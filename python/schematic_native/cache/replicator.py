"""Replicator mode: another program writes entities into a cache, and this process decides by them.

What is read from the cache stays in the core until Redis reports that its key has changed, so a check whose
entities are there does no I/O. Where changes are not reported, it stays for a second. The core never knows an
entity under a lookup key that the cache does not have for it.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from schematic_native.cache.changes import make_trackers
from schematic_native.cache.documents import as_document, ingest, with_usage
from schematic_native.cache.health import TOPIC as HEALTH_TOPIC
from schematic_native.cache.keys import CacheKeys
from schematic_native.cache.provider_calls import describe, result_of
from schematic_native.ground.store_errors import CacheError
from schematic_native.ground.time_limit import before, within
from schematic_native.service.datastream import COMPANY, FLAGS, USER

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping

    from schematic_native._native import Core
    from schematic_native.cache.health import Health, HealthCheck
    from schematic_native.config.datastream_settings import CacheSettings
    from schematic_native.ground.fault_log import FaultLog

TOPIC = "the replicator's cache"
TRACKING_TOPIC = "changes in the replicator's cache"
FLAG = "rulesengine.Flag"
# Seconds: that one read may take; that the cache is not asked after a failure; that an entity is kept where changes
# are not reported; between two sweeps of such entities; that an entity is kept which changed while it was read.
READ_TIMEOUT = 0.5
PAUSE = 1.0
KEPT = 1.0
SWEEP = 0.1
UNSURE = 0.005
# The most lookup keys that are kept, including those that name nobody; beyond that, everything is forgotten.
MOST_NAMES = 200_000
# The most attempts to read an entity that changes meanwhile; then it is used as it is.
MOST_READS = 4

_UNREAD = object()


class _Kind(NamedTuple):
    """What differs between companies and users."""

    name: str
    entities: Any
    lookups: Any


@dataclass
class _Kept:
    """An entity in the core: the lookup keys that were read, as (name, value) by their key in the cache."""

    names: dict[str, tuple[str, str]]


@dataclass(eq=False)
class _Reading:
    """One read under way: whether the value has changed meanwhile."""

    is_stale: bool = False


class Found(NamedTuple):
    """What the cache has of the entities of a check."""

    flag: bool
    is_conflict: bool  # the keys name several companies, or several users


class Replica:
    """Reads what the replicator has written.

    Args:
        health: asks whether the replicator is ready.
        caches: all five of them.
        core: receives what is read.
        faults: where failures are reported.
        version: of the entities, until the replicator reports its own.
        on_ready: called with whether checks may be decided here.

    """

    def __init__(
        self,
        health: HealthCheck,
        caches: CacheSettings,
        core: Core,
        faults: FaultLog,
        *,
        version: str,
        on_ready: Callable[[bool], None],
    ) -> None:
        self._health = health
        self._caches = caches
        self._core = core
        self._faults = faults
        self._keys = CacheKeys(version)
        self._on_ready = on_ready
        self._kinds = {
            COMPANY: _Kind("company", caches.company, caches.company_lookup),
            USER: _Kind("user", caches.user, caches.user_lookup),
        }
        # What has been read, by its key in the cache: the ids that lookup keys name, entities in the core,
        # and flags; None for what does not exist. Other threads read the first.
        self._names: dict[str, str | None] = {}
        self._entities: dict[tuple[str, str], _Kept] = {}
        self._flags: dict[str, str | None] = {}
        self._read_at: dict[str, float] = {}
        # Keys that are being read.
        self._reading: dict[str, list[_Reading]] = {}
        self._trackers = make_trackers(caches, self)
        self._tracked = dict.fromkeys(range(len(self._trackers)), False)
        self._must_sweep = asyncio.Event()
        self._must_sweep.set()
        self._paused_until = 0.0
        self.ready = False
        self._empty()
        on_ready(False)

    def _empty(self) -> None:
        """Remove from the core what the replica of an earlier event loop has left there."""
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
        """Whether the replicator responds, and is ready."""
        return self.ready

    @property
    def first_outcome(self) -> asyncio.Event:
        """Set once the first health check has succeeded or failed."""
        return self._health.first_outcome

    @property
    def is_tracked(self) -> bool:
        """Whether Redis reports every change."""
        return bool(self._tracked) and all(self._tracked.values())

    def services(self) -> list[tuple[str, Callable[[], Coroutine[object, object, None]]]]:
        """Return the tasks to run for as long as the client does, by name."""
        work: list[tuple[str, Callable[[], Coroutine[object, object, None]]]] = [
            (HEALTH_TOPIC, partial(self._health.run, self._take_health)),
            ("sweeper of the replicator's cache", self._sweep),
        ]
        return [*work, *((TRACKING_TOPIC, tracker.run) for tracker in self._trackers)]

    # Health

    def _take_health(self, health: Health) -> None:
        if health.version is not None and health.version != self._keys.version:
            self.forget(None)
            self._keys = CacheKeys(health.version)
        self._set_ready(health.is_ready)

    def _set_ready(self, is_ready: bool) -> None:
        if is_ready == self.ready:
            return
        if is_ready and not self._core.has_flags():
            # The core has flags from now on, none of them yet: each is read when it is checked.
            self._ingest(FLAGS, "full", [])
        if not is_ready:
            self.forget(None)
        self.ready = is_ready
        self._on_ready(is_ready)

    # Reading

    async def request(self, entity_type: str, keys: Mapping[str, str], deadline: float) -> bool:
        """Read an entity by its keys; return whether it is in the core."""
        if not self.ready:
            return False
        try:
            return await before(deadline, self._find(entity_type, keys)) > 0
        except (CacheError, asyncio.TimeoutError):
            return False

    async def load(
        self, flag_key: str, company: Mapping[str, str] | None, user: Mapping[str, str] | None
    ) -> Found:
        """Read the entities of a check, as far as they are not in the core.

        One that changes while another is read is dropped, and would count as nobody: it is read again.

        Raises:
            CacheError: the cache could not be read.

        """
        for _ in range(MOST_READS):
            flag, companies, users = await asyncio.gather(
                self._find_flag(flag_key), self._find(COMPANY, company), self._find(USER, user)
            )
            is_kept = companies != 1 or self._core.company_id(company or {}) is not None
            if is_kept and (users != 1 or self._core.user_id(user or {}) is not None):
                return Found(flag, max(companies, users) > 1)
        raise CacheError("an entity changes as fast as it is read")

    def covers(self, entity_type: str, keys: Mapping[str, str] | None) -> bool:
        """Tell whether everything that these keys name has been read, without a conflict.

        May be called from any thread. A single key needs no look: the core knows it or does not.
        """
        if not keys or len(keys) == 1:
            return True
        kind = self._kinds[entity_type]
        names = [self._keys.lookup(kind.name, *pair) for pair in keys.items()]
        ids = {self._names.get(name, _UNREAD) for name in names} - {None}
        return _UNREAD not in ids and len(ids) <= 1

    async def _find(self, entity_type: str, keys: Mapping[str, str] | None) -> int:
        """Read an entity by its keys; return how many existing entities the keys name."""
        if not keys:
            return 0
        kind = self._kinds[entity_type]
        pairs = {
            self._keys.lookup(kind.name, name, value): (name, value) for name, value in keys.items()
        }
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
        """Make the core know an entity under these lookup keys; return whether it exists."""
        kept = self._entities.get((entity_type, entity_id))
        if kept is not None and names.keys() <= kept.names.keys():
            find = self._core.company_id if entity_type == COMPANY else self._core.user_id
            if find(dict(names.values())) is not None:
                return True  # it has not been evicted since
        kind = self._kinds[entity_type]
        value, is_current = await self._read(kind.entities, self._keys.entity(kind.name, entity_id))
        document = as_document(value)
        if document is None:
            self._drop(entity_type, entity_id)
            return False
        kept = self._entities.get((entity_type, entity_id))
        known = names if kept is None else _merged(kept.names, names)
        whole = {**document, "id": entity_id, "keys": dict(known.values())}
        if not self._ingest(entity_type, "full", whole):
            return False
        self._entities[entity_type, entity_id] = _Kept(known)
        if not is_current or any(self._names.get(name) != entity_id for name in names):
            # It changes as fast as it is read: use it for this check only.
            asyncio.get_running_loop().call_later(UNSURE, self._drop, entity_type, entity_id)
        return True

    async def _find_flag(self, flag_key: str) -> bool:
        name = self._keys.flag(flag_key)
        if name in self._flags:
            return self._flags[name] is not None
        value, is_current = await self._read(self._caches.flag, name)
        flag = as_document(value)
        found = flag is not None and self._ingest(FLAG, "full", flag)
        if not found:
            self._drop_flag(flag_key)
        if is_current:
            self._flags[name] = flag["key"] if flag is not None and found else None
        elif flag is not None and found:
            asyncio.get_running_loop().call_later(UNSURE, self._drop_flag, flag["key"])
        return found

    async def _read(self, cache: Any, name: str) -> tuple[Any, bool]:
        """Read a value; return also whether it was unchanged while it was read."""
        now, keys = asyncio.get_running_loop().time, self._keys
        if now() < self._paused_until:
            raise CacheError("it failed a moment ago")
        for _ in range(MOST_READS):
            begun, reading = now(), _Reading()
            self._reading.setdefault(name, []).append(reading)
            try:
                value = await within(result_of(cache.get, name), READ_TIMEOUT)
            except Exception as error:  # a provider may raise anything
                self._faults.raised(TOPIC, describe(error))
                self._paused_until = now() + PAUSE
                raise CacheError(str(error)) from error
            finally:
                readings = self._reading[name]
                readings.remove(reading)
                if not readings:
                    del self._reading[name]
            if self._keys is not keys:
                raise CacheError("another version of the replicator writes other keys")
            # A reply may be older than that of a read which began later.
            reading.is_stale |= begun < self._read_at.get(name, begun)
            if not reading.is_stale:
                break
        self._faults.cleared(TOPIC)
        self._read_at[name] = max(begun, self._read_at.get(name, begun))
        return value, not reading.is_stale

    def _ingest(self, entity_type: str, message_type: str, data: Any) -> bool:
        return ingest(self._core, self._faults, TOPIC, entity_type, message_type, data)

    # Forgetting

    def tracks(self, number: int, is_complete: bool) -> None:
        """Note whether one of the trackers reports every change."""
        if is_complete:
            self._faults.cleared(TRACKING_TOPIC)
        if self._tracked[number] or is_complete:
            self.forget(None)
        self._tracked[number] = is_complete
        if self.is_tracked:
            self._must_sweep.clear()
        else:
            self._must_sweep.set()

    def untracked(self, error: Exception) -> None:
        """Report why changes are not tracked."""
        kept = f"entities are read again when they are {KEPT:g} s old"
        self._faults.raised(TRACKING_TOPIC, f"Redis does not tell them ({describe(error)}); {kept}")

    def forget(self, name: str | None) -> None:
        """Forget what a key of the cache stands for; None stands for everything."""
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
            start = f"{kind.name}:{self._keys.version}:"
            if name.startswith(start):
                self._drop(entity_type, name[len(start) :] if entity_id is None else entity_id)

    def _drop(self, entity_type: str, entity_id: str) -> None:
        kept = self._entities.pop((entity_type, entity_id), None)
        if kept is not None:
            self._ingest(entity_type, "delete", {"id": entity_id})

    def _drop_flag(self, flag_key: str) -> None:
        self._ingest(FLAG, "delete", {"key": flag_key})

    async def _sweep(self) -> None:
        """Forget what is too old, where changes are not reported."""
        while await self._must_sweep.wait():
            await asyncio.sleep(SWEEP)
            if self.is_tracked:
                continue
            oldest = asyncio.get_running_loop().time() - (KEPT - 2 * SWEEP)
            for name in [name for name, at in self._read_at.items() if at <= oldest]:
                self.forget(name)

    # Writing

    async def count(self, company: Mapping[str, str], event: str, quantity: int) -> None:
        """Add usage to the metrics of a company in the cache, as the published SDK does."""
        kind = self._kinds[COMPANY]
        try:
            names = [self._keys.lookup(kind.name, *pair) for pair in company.items()]
            ids = {each for each in await self._all(kind.lookups, names) if each}
            if len(ids) != 1:
                return
            (entity_id,) = ids
            name = self._keys.entity(kind.name, entity_id)
            document, _ = await self._read(kind.entities, name)
            if not isinstance(document, dict):
                return
            grown = with_usage(document, event, quantity)
            keys = grown.get("keys") or {}
            await result_of(kind.entities.set, name, grown, self._caches.ttl)
            if not self.is_tracked:
                # Redis does not report it, and what the core has may be older than what was read here.
                self.forget(name)
            for key, value in keys.items():
                lookup = self._keys.lookup(kind.name, key, value)
                await result_of(kind.lookups.set, lookup, entity_id, self._caches.ttl)
        except CacheError:
            return
        except Exception as error:  # noqa: BLE001 - a provider may raise anything
            self._faults.raised(TOPIC, describe(error))


def _merged(
    known: dict[str, tuple[str, str]], more: dict[str, tuple[str, str]]
) -> dict[str, tuple[str, str]]:
    """Add lookup keys to those of an entity, which has one value for each name.

    The cache may have older values as well: a check that uses one of those reads it again.
    """
    names = {name.lower() for name, _ in more.values()}
    kept = {key: pair for key, pair in known.items() if pair[0].lower() not in names}
    return {**kept, **more}
