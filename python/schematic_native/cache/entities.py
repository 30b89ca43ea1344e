"""Caches of entities that processes share: what the DataStream sends is written there, and read from there.

Processes with any SDK use the same layout (`keys.py`). A cache must never hold up a check: a read has a short
limit, a separate task writes, and after a failure the cache is not asked for a moment.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from schematic_native.cache.documents import (
    as_document,
    ingest,
    lookup_keys,
    merged_company,
    merged_user,
)
from schematic_native.cache.keys import CacheKeys
from schematic_native.cache.provider_calls import call_all, describe, result_of
from schematic_native.ground import json_text
from schematic_native.ground.time_limit import within
from schematic_native.service.datastream import COMPANY, FLAGS, LARGE_MESSAGE, USER

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from schematic_native._native import Core, Ingested
    from schematic_native.cache.documents import Document
    from schematic_native.config.datastream_settings import CacheSettings
    from schematic_native.ground.fault_log import FaultLog

TOPIC = "the shared cache"
FLAG = "rulesengine.Flag"
# Seconds: that a read may take, that the writes for one message may take, and that a cache is not asked after a
# failure.
READ_TIMEOUT = 0.25
WRITE_TIMEOUT = 2.0
PAUSE = 1.0
# The most entities whose updates may wait for a slow cache; beyond that, the oldest are dropped.
MOST_WAITING = 10_000


class _Kind(NamedTuple):
    """What differs between companies and users."""

    name: str
    entities: Any
    lookups: Any
    merge: Callable[[Document, Document], Document]


class _Update(NamedTuple):
    """A message of the DataStream, parsed when it is written."""

    message_type: str
    message: bytes


class EntityCaches:
    """Reads and writes the caches of one client.

    Args:
        settings: the caches, each of which may be None.
        core: receives what is found.
        faults: where failures are reported.
        version: of the engine, which is part of every key.
        is_reading: whether the core is reading a message, so that what is found here may be older.

    """

    def __init__(
        self,
        settings: CacheSettings,
        core: Core,
        faults: FaultLog,
        *,
        version: str,
        is_reading: Callable[[], bool],
    ) -> None:
        self._core = core
        self._faults = faults
        self._keys = CacheKeys(version)
        self._is_reading = is_reading
        self._ttl = settings.ttl
        self._flags = settings.flag
        # Keys of flags by id: the message that deletes one may lack the key.
        self._flag_names: dict[object, str] = {}
        self._kinds = {
            COMPANY: _Kind("company", settings.company, settings.company_lookup, merged_company),
            USER: _Kind("user", settings.user, settings.user_lookup, merged_user),
        }
        self._paused_until = 0.0
        self._finding: dict[tuple[str, frozenset[tuple[str, str]]], asyncio.Future[bool]] = {}
        self._waiting: dict[tuple[str, str], list[_Update]] = {}
        self._has_updates = asyncio.Event()

    # Reading

    async def find(self, entity_type: str, keys: Mapping[str, str]) -> bool:
        """Look for an entity by its keys and pass it to the core; return whether there is one.

        Concurrent calls for the same keys share one read.
        """
        kind = self._kinds[entity_type]
        loop = asyncio.get_running_loop()
        if kind.entities is None or kind.lookups is None or loop.time() < self._paused_until:
            return False
        name = (entity_type, frozenset(keys.items()))
        looking = self._finding.get(name)
        if looking is None:
            looking = asyncio.ensure_future(self._find(entity_type, dict(keys)))
            self._finding[name] = looking
            looking.add_done_callback(lambda _: self._finding.pop(name, None))
        return await asyncio.shield(looking)

    async def _find(self, entity_type: str, keys: dict[str, str]) -> bool:
        kind = self._kinds[entity_type]
        try:
            documents = await within(self._read(kind, keys), READ_TIMEOUT)
        except Exception as error:  # noqa: BLE001 - a given cache may raise anything
            self._failed(error)
            return False
        self._worked()
        if self._is_known(entity_type, keys):
            return True  # it has arrived meanwhile, and is newer than what was found
        if not documents or self._is_reading():
            return False
        return all(self._ingest(entity_type, "full", document) for document in documents)

    async def _read(self, kind: _Kind, keys: dict[str, str]) -> list[Document]:
        """Return the entities that the keys name; more than one is a conflict, which the core reports."""
        names = [self._keys.lookup(kind.name, *pair) for pair in keys.items()]
        found = await asyncio.gather(*(result_of(kind.lookups.get, name) for name in names))
        ids = dict.fromkeys(each for each in found if isinstance(each, str))
        documents = await asyncio.gather(
            *(result_of(kind.entities.get, self._keys.entity(kind.name, each)) for each in ids)
        )
        read = [as_document(document) for document in documents]
        named = zip(ids, read, strict=True)
        return [each for entity_id, each in named if each and each.get("id") == entity_id]

    def _is_known(self, entity_type: str, keys: Mapping[str, str]) -> bool:
        known = self._core.company_id if entity_type == COMPANY else self._core.user_id
        return known(keys) is not None

    def _ingest(self, entity_type: str, message_type: str, data: Document) -> bool:
        return ingest(self._core, self._faults, TOPIC, entity_type, message_type, data)

    def forget(self, entity_type: str, entity_id: str) -> None:
        """Delete an entity that the service does not know, in the core and in the cache."""
        gone = {"id": entity_id}
        self._ingest(entity_type, "delete", gone)
        message = json_text.write({"data": gone})
        self._put(entity_type, entity_id, _Update("delete", message))

    # Writing

    def take(self, message: bytes, ingested: Ingested) -> None:
        """Queue a message that the core has received for writing."""
        entity_type, message_type = ingested.entity_type or "", ingested.message_type or ""
        if message_type not in {"full", "partial", "delete"} or (
            message_type == "full" and ingested.skipped and entity_type != FLAGS
        ):
            return
        if entity_type in {FLAGS, FLAG}:
            if self._flags is None:
                return
        elif entity_type not in self._kinds or self._kinds[entity_type].entities is None:
            return
        update, entity_id = _Update(message_type, message), ingested.entity_id
        if entity_type == FLAGS:
            for name in [name for name in self._waiting if name[0] == FLAG]:
                del self._waiting[name]
            self._put(FLAGS, "", update)
            return
        if entity_id is None:
            entity_id = (_data(message) or {}).get("id")
        if isinstance(entity_id, str):
            self._put(entity_type, entity_id, update)

    def _put(self, entity_type: str, entity_id: str, update: _Update) -> None:
        name = (entity_type, entity_id)
        earlier = self._waiting.pop(name, []) if update.message_type == "partial" else []
        self._waiting.pop(name, None)
        self._waiting[name] = [*earlier, update]
        if len(self._waiting) > MOST_WAITING:
            del self._waiting[next(iter(self._waiting))]
            self._faults.noted(f"{TOPIC}: it is too slow; updates of entities are left out")
        self._has_updates.set()

    async def run(self) -> None:
        """Write the queued updates, one entity after the other, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            if not self._waiting:
                self._has_updates.clear()
                await self._has_updates.wait()
            left = self._paused_until - loop.time()
            if left > 0:
                await asyncio.sleep(left)
            name = next(iter(self._waiting), None)
            if name is None:
                continue
            updates = self._waiting.pop(name)
            try:
                await within(self._write(*name, updates), WRITE_TIMEOUT)
            except Exception as error:  # noqa: BLE001 - a given cache may raise anything
                self._failed(error)
            else:
                self._worked()

    async def _write(self, entity_type: str, entity_id: str, updates: list[_Update]) -> None:
        for message_type, message in updates:
            data = (
                _data(message)
                if len(message) <= LARGE_MESSAGE
                else await asyncio.to_thread(_data, message)
            )
            if entity_type == FLAGS:
                await self._write_flags(data if isinstance(data, list) else [])
            elif not isinstance(data, dict):
                continue
            elif entity_type == FLAG:
                await self._write_flag(message_type, entity_id, data)
            else:
                await self._write_entity(self._kinds[entity_type], message_type, entity_id, data)

    async def _write_flags(self, flags: list[Any]) -> None:
        whole = [flag for flag in flags if isinstance(flag, dict)]
        whole = [flag for flag in whole if isinstance(flag.get("key"), str)]
        self._flag_names = {flag.get("id"): flag["key"] for flag in whole}
        named = {self._keys.flag(flag["key"]): flag for flag in whole}
        await call_all([partial(self._flags.set, name, flag) for name, flag in named.items()])
        if hasattr(self._flags, "delete_missing"):
            await result_of(self._flags.delete_missing, list(named), scan_pattern="flags:*")

    async def _write_flag(self, message_type: str, flag_id: str, flag: Document) -> None:
        before, key = self._flag_names.get(flag_id), flag.get("key")
        if message_type == "full" and isinstance(key, str):
            self._flag_names[flag_id] = key
            await result_of(self._flags.set, self._keys.flag(key), flag)
            gone = None if before is None or before.lower() == key.lower() else before
        else:
            gone = before or key
        if isinstance(gone, str):
            await result_of(self._flags.delete, self._keys.flag(gone))

    async def _write_entity(
        self, kind: _Kind, message_type: str, entity_id: str, data: Document
    ) -> None:
        name = self._keys.entity(kind.name, entity_id)
        before = as_document(await result_of(kind.entities.get, name))
        if message_type == "delete":
            await self._drop_lookups(kind, entity_id, lookup_keys(before or data))
            await result_of(kind.entities.delete, name)
            return
        if message_type == "partial":
            if before is None:
                return  # the next full message will write it
            data = kind.merge(before, data)
        now = lookup_keys(data)
        await self._drop_lookups(
            kind, entity_id, [pair for pair in lookup_keys(before) if pair not in now]
        )
        await result_of(kind.entities.set, name, data, self._ttl)
        if kind.lookups is not None:
            names = [self._keys.lookup(kind.name, *pair) for pair in now]
            await call_all(
                [partial(kind.lookups.set, name, entity_id, self._ttl) for name in names]
            )

    async def _drop_lookups(
        self, kind: _Kind, entity_id: str, pairs: list[tuple[str, str]]
    ) -> None:
        """Delete lookup keys, except those that name another entity by now."""
        if kind.lookups is None:
            return
        for pair in pairs:
            name = self._keys.lookup(kind.name, *pair)
            if await result_of(kind.lookups.get, name) == entity_id:
                await result_of(kind.lookups.delete, name)

    # Faults

    def _failed(self, error: BaseException) -> None:
        self._paused_until = asyncio.get_running_loop().time() + PAUSE
        self._faults.raised(TOPIC, describe(error))

    def _worked(self) -> None:
        self._faults.cleared(TOPIC)


def _data(message: bytes) -> Any:
    return json_text.read(message).get("data")
