"""Caches of entities that processes share, in the layout of the published SDKs.

What the DataStream brings is written there, so that processes of any SDK find it, and what this
process does not know yet is looked for there first. Neither may hold up a check: a read has a short
limit, writes are made by a task of their own, and a cache that fails is left alone for a moment.
"""

from __future__ import annotations

import asyncio
import inspect
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from schematic_native.cache.documents import ingest, merged_company, merged_user
from schematic_native.ground import json_text
from schematic_native.ground.time_limit import within
from schematic_native.service.datastream import COMPANY, FLAGS, LARGE_MESSAGE, USER

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from schematic_native._native import Core, Ingested
    from schematic_native.config.settings import CacheSettings
    from schematic_native.ground.fault_log import Faults

TOPIC = "the shared cache"
FLAG = "rulesengine.Flag"
# Seconds: of a read, of the writes for one message, and of leaving a cache alone that failed.
READ_TIMEOUT = 0.25
WRITE_TIMEOUT = 2.0
PAUSE = 1.0
# Entities whose updates wait for a slow cache; the oldest give way.
MOST_WAITING = 10_000
# Commands that are under way at once for one message.
AT_ONCE = 50

Document = dict[str, Any]


class _Kind(NamedTuple):
    """What differs between companies and users."""

    name: str
    entities: Any
    lookups: Any
    merge: Callable[[Document, Document], Document]


class _Update(NamedTuple):
    """A message of the DataStream, which is read when its turn has come."""

    message_type: str
    message: bytes


class EntityCaches:
    """Reads and writes the caches of one client.

    Args:
        settings: the caches, each of which may be None.
        core: takes what is found.
        faults: where failures are reported.
        version: what keys are told apart by: that of the engine.
        is_reading: whether a message is on its way into the core, so that what is found may be older.

    """

    def __init__(
        self,
        settings: CacheSettings,
        core: Core,
        faults: Faults,
        *,
        version: str,
        is_reading: Callable[[], bool],
    ) -> None:
        self._core = core
        self._faults = faults
        self._version = version
        self._is_reading = is_reading
        self._ttl = settings.ttl
        self._flags = settings.flag
        # Keys of flags by id: a message that one is gone need not tell it.
        self._flag_names: dict[object, str] = {}
        self._kinds = {
            COMPANY: _Kind("company", settings.company, settings.company_lookup, merged_company),
            USER: _Kind("user", settings.user, settings.user_lookup, merged_user),
        }
        self._paused_until = 0.0
        self._finding: dict[tuple[str, frozenset[tuple[str, str]]], asyncio.Future[bool]] = {}
        self._waiting: dict[tuple[str, str], list[_Update]] = {}
        self._rung = asyncio.Event()

    # Reading

    async def find(self, entity_type: str, keys: Mapping[str, str]) -> bool:
        """Look for an entity by its keys; what is found is in the core afterwards.

        Callers that look for the same at once share one look.
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
        except Exception as error:  # noqa: BLE001 - a cache of the user's raises what it likes
            self._failed(error)
            return False
        self._worked()
        if self._is_known(entity_type, keys):
            return True  # pushed meanwhile, and newer than what was found
        if not documents or self._is_reading():
            return False
        return all(self._ingest(entity_type, "full", document) for document in documents)

    async def _read(self, kind: _Kind, keys: dict[str, str]) -> list[Document]:
        """Return what the keys name; entities of two ids are for the core to tell a conflict."""
        names = [self._lookup_key(kind, *pair) for pair in keys.items()]
        found = await asyncio.gather(*(_do(kind.lookups.get(name)) for name in names))
        ids = dict.fromkeys(each for each in found if isinstance(each, str))
        documents = await asyncio.gather(
            *(_do(kind.entities.get(self._entity_key(kind, each))) for each in ids)
        )
        read = [_as_document(document) for document in documents]
        named = zip(ids, read, strict=True)
        return [each for entity_id, each in named if each and each.get("id") == entity_id]

    def _is_known(self, entity_type: str, keys: Mapping[str, str]) -> bool:
        known = self._core.company_id if entity_type == COMPANY else self._core.user_id
        return known(keys) is not None

    def _ingest(self, entity_type: str, message_type: str, data: Document) -> bool:
        return ingest(self._core, self._faults, TOPIC, entity_type, message_type, data)

    def forget(self, entity_type: str, entity_id: str) -> None:
        """Forget an entity that the service does not know, here and in the cache."""
        gone = {"id": entity_id}
        self._ingest(entity_type, "delete", gone)
        message = json_text.write({"data": gone})
        self._put(entity_type, entity_id, _Update("delete", message))

    # Writing

    def take(self, message: bytes, ingested: Ingested) -> None:
        """Take note of a message that the core has taken."""
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
        self._rung.set()

    async def run(self) -> None:
        """Write what is waiting, one entity after the other, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            if not self._waiting:
                self._rung.clear()
                await self._rung.wait()
            left = self._paused_until - loop.time()
            if left > 0:
                await asyncio.sleep(left)
            name = next(iter(self._waiting), None)
            if name is None:
                continue
            updates = self._waiting.pop(name)
            try:
                await within(self._write(*name, updates), WRITE_TIMEOUT)
            except Exception as error:  # noqa: BLE001 - a cache of the user's raises what it likes
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
        named = {self._flag_key(flag["key"]): flag for flag in whole}
        await _all([partial(self._flags.set, name, flag) for name, flag in named.items()])
        if hasattr(self._flags, "delete_missing"):
            await _do(self._flags.delete_missing(list(named), scan_pattern="flags:*"))

    async def _write_flag(self, message_type: str, flag_id: str, flag: Document) -> None:
        before, key = self._flag_names.get(flag_id), flag.get("key")
        if message_type == "full" and isinstance(key, str):
            self._flag_names[flag_id] = key
            await _do(self._flags.set(self._flag_key(key), flag))
            gone = None if before is None or before.lower() == key.lower() else before
        else:
            gone = before or key
        if isinstance(gone, str):
            await _do(self._flags.delete(self._flag_key(gone)))

    async def _write_entity(
        self, kind: _Kind, message_type: str, entity_id: str, data: Document
    ) -> None:
        name = self._entity_key(kind, entity_id)
        before = _as_document(await _do(kind.entities.get(name)))
        if message_type == "delete":
            await self._drop_lookups(kind, entity_id, _keys(before or data))
            await _do(kind.entities.delete(name))
            return
        if message_type == "partial":
            if before is None:
                return  # the next whole message brings it
            data = kind.merge(before, data)
        now = _keys(data)
        await self._drop_lookups(kind, entity_id, _keys(before) - now)
        await _do(kind.entities.set(name, data, self._ttl))
        if kind.lookups is not None:
            names = [self._lookup_key(kind, *pair) for pair in now]
            await _all([partial(kind.lookups.set, name, entity_id, self._ttl) for name in names])

    async def _drop_lookups(self, kind: _Kind, entity_id: str, pairs: set[tuple[str, str]]) -> None:
        """Delete lookup keys, but for those that name another entity by now."""
        if kind.lookups is None:
            return
        for pair in pairs:
            name = self._lookup_key(kind, *pair)
            if await _do(kind.lookups.get(name)) == entity_id:
                await _do(kind.lookups.delete(name))

    # Keys

    def _flag_key(self, key: str) -> str:
        return f"flags:{self._version}:{key.lower()}"

    def _entity_key(self, kind: _Kind, entity_id: str) -> str:
        return f"{kind.name}:{self._version}:{entity_id}"

    def _lookup_key(self, kind: _Kind, name: str, value: str) -> str:
        return f"{kind.name}:{self._version}:{name.lower()}:{value.lower()}"

    # Faults

    def _failed(self, error: BaseException) -> None:
        self._paused_until = asyncio.get_running_loop().time() + PAUSE
        said = "no answer in time" if isinstance(error, asyncio.TimeoutError) else str(error)
        self._faults.raised(TOPIC, f"{type(error).__name__}: {said}")

    def _worked(self) -> None:
        self._faults.cleared(TOPIC)


def _data(message: bytes) -> Any:
    return json_text.read(message).get("data")


async def _do(answer: Any) -> Any:
    """Wait for what a provider answers, if it must be waited for."""
    return await answer if inspect.isawaitable(answer) else answer


async def _all(commands: list[Callable[[], Awaitable[object]]]) -> None:
    """Carry out many commands, some at once."""
    for start in range(0, len(commands), AT_ONCE):
        await asyncio.gather(*(_do(command()) for command in commands[start : start + AT_ONCE]))


def _as_document(value: Any) -> Document | None:
    """Return an entity as a provider answers it: a mapping, or the published package's model."""
    dump = getattr(value, "model_dump", None)
    if callable(dump):
        value = dump(mode="json")
    return value if isinstance(value, dict) else None


def _keys(document: Document | None) -> set[tuple[str, str]]:
    """Return the lookup keys of an entity; names and values compare case-insensitively."""
    keys = (document or {}).get("keys") or {}
    return {
        (name.lower(), value.lower())
        for name, value in keys.items()
        if isinstance(name, str) and isinstance(value, str)
    }
