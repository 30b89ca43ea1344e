"""Redis as a model: the few commands that the package sends, and its own scripts in a real Lua.

`test_redis_model.py` holds it to a real server. It knows nothing of connections; `redis_server.py` does.
"""

from __future__ import annotations

import hashlib
import json
import math
from typing import TYPE_CHECKING, Any, TypeAlias

from lupa.luajit21 import LuaError, LuaRuntime

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Hash: TypeAlias = "dict[bytes, bytes]"
SortedSet: TypeAlias = "dict[bytes, float]"
Words: TypeAlias = "list[bytes]"

WRITES = frozenset(
    {b"HSET", b"HDEL", b"HSETNX", b"DEL", b"PEXPIREAT", b"ZADD", b"ZREM", b"SET", b"PSETEX"}
)
# Commands that a server without memory still carries out.
FREES = frozenset({b"HDEL", b"DEL", b"PEXPIREAT", b"ZREM"})
# Replies that are lists.
LISTS = frozenset({b"HMGET", b"HGETALL", b"HKEYS", b"HVALS", b"TIME", b"ZRANGEBYSCORE"})

_PRELUDE = """
local encode = ...
local call
local lists = {HMGET = true, HGETALL = true, HVALS = true, TIME = true, ZRANGEBYSCORE = true}
redis = {call = function(name, ...)
  if lists[name] then return {call(name, ...)} end
  return (call(name, ...))
end}
cjson = {encode = function(list) return encode(unpack(list, 1, #list)) end}
-- A list comes back as its length and what is in it, which is less work than to ask for each.
local function returned(value)
  if type(value) ~= 'table' then return value end
  local count = 0
  while value[count + 1] ~= nil do
    count = count + 1
    if type(value[count]) == 'table' then return value end
  end
  if count == 0 then return value end
  return count, unpack(value, 1, count)
end
local function compile(text)
  local script = assert(loadstring('local KEYS, ARGV = ...\\n' .. text))
  return function(count, ...)
    local words = {...}
    local keys = {unpack(words, 1, count)}
    return returned(script(keys, {unpack(words, count + 1)}))
  end
end
local function serve(model) call = model end
return compile, serve
"""


class ReplyError(Exception):
    """The server refuses a command."""


class _Done(bytes):
    """What a command without a value replies."""


OK = _Done(b"OK")


class RedisModel:
    """The data of one server, and what it does to them.

    Args:
        clock: epoch seconds.

    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.data: dict[bytes, Hash | SortedSet | bytes] = {}
        self.ends: dict[bytes, int] = {}  # when keys expire, in milliseconds
        self.is_read_only = False
        self.is_full = False
        self.is_spread = False  # as of a cluster: scripts of several keys are refused
        # Called with the words of each row that is written, or whose fields are.
        self.on_row: Callable[[Sequence[bytes]], None] | None = None
        # Called with each key that expires, and what was there.
        self.on_expire: Callable[[bytes, Any], None] | None = None
        # Called with each key that is deleted.
        self.on_delete: Callable[[bytes], None] | None = None
        # Called with each key that a command, and no script, has set, deleted or found expired.
        self.on_change: Callable[[bytes], None] | None = None
        self._has_written = False  # the script that runs
        self._known: set[bytes] = set()  # digests of scripts that this server knows
        self._lua = _lua()

    # What a server does

    def execute(self, words: Words) -> Any:
        """Carry a command out; the reply, which is a `ReplyError` if it is refused."""
        name = words[0].upper()
        try:
            if name == b"EVALSHA":
                return self._run_known(words)
            if name == b"EVAL":
                digest = hashlib.sha1(words[1], usedforsecurity=False).hexdigest().encode()
                self._known.add(digest)
                self._lua.know(digest, words[1])
                return self._run(digest, words)
            return self._carry_out(name, words[1:])
        except ReplyError as error:
            return error

    def restart(self) -> None:
        """Come back with nothing."""
        self.data, self.ends, self._known = {}, {}, set()

    def copy(self) -> tuple[dict[bytes, Any], dict[bytes, int]]:
        """Return what it has, for a replica to come back with."""
        return _copied(self.data), dict(self.ends)

    def fail_over(self, copy: tuple[dict[bytes, Any], dict[bytes, int]]) -> None:
        """Be a replica that has heard less, and no script."""
        self.data = _copied(copy[0])
        self.ends, self._known = dict(copy[1]), set()

    def now(self) -> int:
        """Milliseconds."""
        return round(self._clock() * 1e6) // 1000

    def _micros(self) -> int:
        return round(self._clock() * 1e6)

    def rows(self, prefix: bytes) -> dict[bytes, Any]:
        """Return what is there under keys that begin so, for whoever judges."""
        now = self.now()
        return {
            key: value
            for key, value in self.data.items()
            if key.startswith(prefix) and self.ends.get(key, now + 1) > now
        }

    # Commands and scripts

    def _carry_out(self, name: bytes, arguments: Sequence[bytes]) -> Any:
        command = _COMMANDS.get(name)
        if command is None:
            raise ReplyError(f"ERR unknown command '{name.decode()}'")
        if name in WRITES:
            if self.is_read_only:
                raise ReplyError("READONLY You can't write against a read only replica.")
            # A script that has begun to write is not stopped half way.
            if self.is_full and name not in FREES and not self._has_written:
                raise ReplyError("OOM command not allowed when used memory > 'maxmemory'.")
        reply = command(self, *arguments)
        if self.on_row is not None and name == b"HSET":
            self.on_row(arguments)
        return reply

    def _call(self, name: bytes, *arguments: Any) -> Any:
        """Carry out what a script calls: what is no text is written as Redis writes it."""
        for word in arguments:
            if type(word) is not bytes:
                arguments = tuple(w if type(w) is bytes else b"%.17g" % w for w in arguments)
                break
        reply = self._carry_out(name, arguments)
        if name in WRITES:
            self._has_written = True
        elif name in LISTS:
            return (
                tuple(False if w is None else w for w in reply) if None in reply else tuple(reply)
            )
        return False if reply is None else reply

    def _run_known(self, words: Words) -> Any:
        if words[1] not in self._known:
            raise ReplyError("NOSCRIPT No matching script. Please use EVAL.")
        return self._run(words[1], words)

    def _run(self, digest: bytes, words: Words) -> Any:
        count = int(words[2])
        if self.is_spread and count > 1:
            raise ReplyError("CROSSSLOT Keys in request don't hash to the same slot")
        self._lua.serve(self)
        try:
            return self._lua.run(digest, count, words[3:])
        finally:
            self._has_written = False

    def _value(self, key: bytes, kind: type) -> Any:
        value = self._any(key)
        if value is not None and type(value) is not kind:
            raise ReplyError("WRONGTYPE Operation against a key holding the wrong kind of value")
        return value

    def _any(self, key: bytes) -> Any:
        ends = self.ends.get(key)
        if ends is not None and ends <= self.now():
            self._expire(key)
        return self.data.get(key)

    def _expire(self, key: bytes) -> None:
        del self.ends[key]
        row = self.data.pop(key)
        if self.on_expire is not None:
            self.on_expire(key, row)
        self._changed(key)

    def _changed(self, key: bytes) -> None:
        if self.on_change is not None:
            self.on_change(key)

    def expire(self) -> None:
        """Let go of all that has expired."""
        now = self.now()
        for key in [key for key, ends in self.ends.items() if ends <= now]:
            self._expire(key)

    def _drop_if_empty(self, key: bytes) -> None:
        if not self.data[key]:
            del self.data[key]
            self.ends.pop(key, None)

    def _do_time(self) -> list[bytes]:
        micros = self._micros()
        return [b"%d" % (micros // 1_000_000), b"%d" % (micros % 1_000_000)]

    def _do_exists(self, key: bytes) -> int:
        return int(self._any(key) is not None)

    def _do_del(self, *keys: bytes) -> int:
        return sum(map(self._delete, keys))

    def _delete(self, key: bytes) -> int:
        if self._any(key) is None:
            return 0
        if self.on_delete is not None:
            self.on_delete(key)
        del self.data[key]
        self.ends.pop(key, None)
        self._changed(key)
        return 1

    def _do_get(self, key: bytes) -> bytes | None:
        return self._value(key, bytes)

    def _do_set(self, key: bytes, value: bytes) -> _Done:
        self._any(key)
        self.data[key] = value
        self.ends.pop(key, None)
        self._changed(key)
        return OK

    def _do_psetex(self, key: bytes, lifetime: bytes, value: bytes) -> _Done:
        if int(lifetime) <= 0:
            raise ReplyError("ERR invalid expire time in 'psetex' command")
        self._do_set(key, value)
        self.ends[key] = self.now() + int(lifetime)
        return OK

    def _do_pexpireat(self, key: bytes, at: bytes) -> int:
        if self._any(key) is None:
            return 0
        if int(at) <= self.now():
            return self._delete(key)
        self.ends[key] = int(at)
        return 1

    def _do_hset(self, key: bytes, *words: bytes) -> int:
        row = self._value(key, dict)
        if row is None:
            row = self.data[key] = {}
        before = len(row)
        row.update(zip(words[::2], words[1::2], strict=True))
        return len(row) - before

    def _do_hsetnx(self, key: bytes, field: bytes, value: bytes) -> int:
        row = self._value(key, dict)
        if row is None:
            row = self.data[key] = {}
        if field in row:
            return 0
        row[field] = value
        return 1

    def _do_hget(self, key: bytes, field: bytes) -> bytes | None:
        return (self._value(key, dict) or {}).get(field)

    def _do_hmget(self, key: bytes, *fields: bytes) -> list[bytes | None]:
        row = self._value(key, dict) or {}
        return [row.get(field) for field in fields]

    def _do_hgetall(self, key: bytes) -> list[bytes]:
        row = self._value(key, dict) or {}
        return [word for pair in row.items() for word in pair]

    def _do_hkeys(self, key: bytes) -> list[bytes]:
        return list(self._value(key, dict) or {})

    def _do_hvals(self, key: bytes) -> list[bytes]:
        return list((self._value(key, dict) or {}).values())

    def _do_hdel(self, key: bytes, *fields: bytes) -> int:
        row = self._value(key, dict)
        if row is None:
            return 0
        gone = sum(row.pop(field, None) is not None for field in fields)
        self._drop_if_empty(key)
        return gone

    def _do_zadd(self, key: bytes, *words: bytes) -> int:
        is_new_only = words[0].upper() == b"NX"
        score, name = words[-2:]
        members = self._value(key, _SortedSet)
        if members is None:
            members = self.data[key] = _SortedSet()
        is_new = name not in members
        if is_new or not is_new_only:
            members[name] = float(score)
        return int(is_new)

    def _do_zrem(self, key: bytes, *names: bytes) -> int:
        members = self._value(key, _SortedSet)
        if members is None:
            return 0
        gone = sum(members.pop(name, None) is not None for name in names)
        self._drop_if_empty(key)
        return gone

    def _do_zcard(self, key: bytes) -> int:
        return len(self._value(key, _SortedSet) or ())

    def _do_zrangebyscore(self, key: bytes, least: bytes, most: bytes, *limit: bytes) -> Words:
        members = self._value(key, _SortedSet) or {}
        low, high = float(least), float(most)
        found = sorted((s, name) for name, s in members.items() if low <= s <= high)
        start, count = (int(limit[1]), int(limit[2])) if limit else (0, len(found))
        return [name for _, name in found[start : start + count]]


class _SortedSet(dict[bytes, float]):
    """Scores by member."""

    def copy(self) -> _SortedSet:
        return _SortedSet(self)


def _copied(data: dict[bytes, Any]) -> dict[bytes, Any]:
    return {key: each if isinstance(each, bytes) else each.copy() for key, each in data.items()}


_COMMANDS: dict[bytes, Callable[..., Any]] = {
    name.removeprefix("_do_").upper().encode(): command
    for name, command in vars(RedisModel).items()
    if name.startswith("_do_")
}


class _Lua:
    """One Lua for all models of a process: compiled scripts know nothing of the data."""

    def __init__(self) -> None:
        self._lua = LuaRuntime(encoding=None, unpack_returned_tuples=True)
        self._model: RedisModel | None = None
        self._scripts: dict[bytes, Any] = {}
        prelude = self._lua.eval(b"function(text) return assert(loadstring(text)) end")(
            _PRELUDE.encode()
        )
        self._compile, self._serve = prelude(_encode)

    def serve(self, model: RedisModel) -> None:
        """Let scripts call this model."""
        if model is not self._model:
            self._model = model
            self._serve(model._call)

    def know(self, digest: bytes, text: bytes) -> None:
        """Compile a script, unless it is known."""
        if digest not in self._scripts:
            self._scripts[digest] = self._compile(text)

    def run(self, digest: bytes, count: int, words: Words) -> Any:
        """Run a script with so many keys, and what follows them; what it returns, as the server replies."""
        try:
            reply = self._scripts[digest](count, *words)
        except LuaError as error:
            raise ReplyError(f"ERR {error}") from None
        if type(reply) is tuple:
            return [word if type(word) is bytes else _replied(word) for word in reply[1:]]
        # No list, an empty one, or one that has lists in it.
        return _replied(reply)


def _replied(value: Any) -> Any:
    """Turn what a script returns into a reply, as Redis does."""
    if value is None or value is False or isinstance(value, bytes):
        return value if isinstance(value, bytes) else None
    if value is True:
        return 1
    if isinstance(value, (int, float)):
        return math.trunc(value)
    replies: list[Any] = []
    for at in range(1, len(value) + 1):
        each = value[at]
        if each is None:
            break
        replies.append(_replied(each))
    return replies


def _encode(*values: Any) -> bytes:
    """Write a list as JSON, as Redis' cjson does."""
    texts = [v if v is False else v.decode("utf-8", "surrogateescape") for v in values]
    written = json.dumps(texts, ensure_ascii=False, separators=(",", ":"))
    written = written.replace("/", "\\/").replace("\x7f", "\\u007f")
    return written.encode("utf-8", "surrogateescape")


_shared: list[_Lua] = []


def _lua() -> _Lua:
    """Return the process's Lua, made when it is needed."""
    if not _shared:
        _shared.append(_Lua())
    return _shared[0]
