"""Following the keys that change in Redis, by its client-side caching in broadcasting mode.

On each server two connections are kept: for one the server tracks keys by their prefixes, to the other it
sends the names of those that change. Both are made as the user's client makes its own, and neither ever
writes a key.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, cast

import redis
import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ResponseError

from schematic_native.ground.time_limit import within
from schematic_native.redis.connections import OWN_ENCODING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

CHANNEL = "__redis__:invalidate"
# Seconds: to connect; between two pings; until tracking is tried again after a fault, and after a refusal.
# A connection may go silent just after its answer to a ping: the pulse of that ping and all that are missed
# take less than a second, so that it is noticed by then.
CONNECT_TIMEOUT = 2.0
PULSE = 0.24
MISSED_PULSES = 3
PAUSE = 0.25
LONGEST_PAUSE = 5.0
PAUSE_REFUSED = 60.0
# The settings of a connection that are taken over from the client; all others are our own.
_KEPT = frozenset(
    {
        "client_name",
        "connection_pool",  # of a Sentinel, which knows where its server is
        "credential_provider",
        "db",
        "host",
        "password",
        "path",
        "port",
        "socket_keepalive",
        "socket_keepalive_options",
        "username",
    }
)


class TrackingRefusedError(Exception):
    """The server, or a proxy before it, does not track keys."""


class Tracker:
    """Follows the keys of some prefixes.

    Args:
        client: a client of redis-py: one server, Sentinel or a cluster, synchronous or asyncio.
        prefixes: what keys begin with; none may begin with another.
        on_change: called with each key that has changed, or with None if any may have.
        on_state: called with whether every change is reported from now on. Earlier changes are not,
            so whatever was read before must be forgotten.
        on_fault: called with why changes are not reported.

    """

    def __init__(
        self,
        client: Any,
        prefixes: Sequence[str],
        *,
        on_change: Callable[[str | None], None],
        on_state: Callable[[bool], None],
        on_fault: Callable[[Exception], None],
    ) -> None:
        self._client = client
        self._prefixes = prefixes
        self._on_change = on_change
        self._on_state = on_state
        self._on_fault = on_fault

    async def run(self) -> None:
        """Follow, until cancelled."""
        pause = PAUSE
        while True:
            began = asyncio.get_running_loop().time()
            try:
                await self._follow()
            except TrackingRefusedError as error:
                self._on_fault(error)
                pause = PAUSE_REFUSED
            except Exception as error:  # noqa: BLE001 - redis-py raises what it likes
                self._on_fault(error)
                if asyncio.get_running_loop().time() - began > LONGEST_PAUSE:
                    pause = PAUSE
            finally:
                self._on_state(False)
            await asyncio.sleep(pause)
            pause = min(LONGEST_PAUSE, pause * 2)

    async def _follow(self) -> None:
        """Follow every server until one of them is lost."""
        makers = await _servers(self._client)
        pairs: list[_Pair] = []
        try:
            for make in makers.values():
                pair = _Pair(make)
                pairs.append(pair)
                await within(pair.start(self._prefixes), CONNECT_TIMEOUT)
            self._on_state(True)
            work = [pair.listen(self._on_change) for pair in pairs]
            work += [pair.watch() for pair in pairs]
            if len(makers) > 1:
                work.append(self._watch_map(frozenset(makers)))
            tasks = [asyncio.ensure_future(each) for each in work]
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in tasks:
                    if task.done():
                        task.result()
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            for pair in pairs:
                await pair.close()

    async def _watch_map(self, known: frozenset[str]) -> None:
        """Wait until the cluster has other servers."""
        while True:
            await asyncio.sleep(PULSE)
            if frozenset(await _servers(self._client)) != known:
                raise ConnectionError("the servers of the cluster have changed")


class _Pair:
    """The two connections to one server."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._listener, self._keeper = make(), make()
        self._heard: dict[int, bool] = {}

    async def start(self, prefixes: Sequence[str]) -> None:
        """Connect, and have the server track."""
        await self._listener.connect()
        client_id = await _ask(self._listener, "CLIENT", "ID")
        await _ask(self._listener, "SUBSCRIBE", CHANNEL)
        await self._keeper.connect()
        words: list[Any] = ["CLIENT", "TRACKING", "ON", "REDIRECT", client_id, "BCAST"]
        for prefix in prefixes:
            words += ["PREFIX", prefix]
        try:
            await _ask(self._keeper, *words)
        except ResponseError as error:
            raise TrackingRefusedError(str(error)) from error

    async def listen(self, on_change: Callable[[str | None], None]) -> None:
        """Report what changes."""
        while True:
            reply = await self._listener.read_response()
            self._heard[id(self._listener)] = True
            if not isinstance(reply, (list, tuple)) or not reply or reply[0] != b"message":
                continue  # the answer to a ping
            keys = reply[2]
            if keys is None:
                on_change(None)
                continue
            for key in keys if isinstance(keys, (list, tuple)) else [keys]:
                on_change(key.decode("utf-8", "surrogateescape"))

    async def watch(self) -> None:
        """Ping both connections; raise if one does not reply."""
        answers, missed = asyncio.ensure_future(self._hear_keeper()), 0
        try:
            while missed < MISSED_PULSES:
                for connection in (self._listener, self._keeper):
                    self._heard[id(connection)] = False
                    await connection.send_command("PING")
                await asyncio.wait({answers}, timeout=PULSE)
                if answers.done():
                    answers.result()
                missed = 0 if all(self._heard.values()) else missed + 1
            raise ConnectionError("no answer to pings")
        finally:
            answers.cancel()
            await asyncio.gather(answers, return_exceptions=True)

    async def _hear_keeper(self) -> None:
        while True:
            await self._keeper.read_response()
            self._heard[id(self._keeper)] = True

    async def close(self) -> None:
        """Close both connections."""
        for connection in (self._listener, self._keeper):
            with contextlib.suppress(Exception):  # it is not used any more
                await connection.disconnect(nowait=True)


async def _ask(connection: Any, *words: Any) -> Any:
    await connection.send_command(*words)
    return await connection.read_response()


async def _servers(client: Any) -> dict[str, Callable[[], Any]]:
    """Return, for each server that has keys, what makes a connection to it."""
    if isinstance(client, redis.asyncio.RedisCluster):
        await client.initialize()
        return {node.name: _maker(node) for node in client.get_primaries()}
    if isinstance(client, redis.RedisCluster):
        found, cluster = {}, cast("Any", client)
        for node in cluster.get_primaries():
            pool = client.get_redis_connection(node).connection_pool
            found[node.name] = _portable(pool)
        return found
    if isinstance(client, redis.Redis):
        return {"": _portable(client.connection_pool)}
    if isinstance(client, redis.asyncio.Redis):
        return {"": _maker(client.connection_pool)}
    raise TrackingRefusedError(f"{type(client).__name__} is no client of redis-py")


def _maker(source: Any) -> Callable[[], Any]:
    """Make connections as a pool, or a node of a cluster, makes its own."""
    return _making(source.connection_class, source.connection_kwargs)


def _portable(pool: Any) -> Callable[[], Any]:
    """Make connections for an event loop as a synchronous pool makes its own."""
    name = pool.connection_class.__name__
    kind = getattr(redis.asyncio.connection, name, None)
    if kind is None:
        raise TrackingRefusedError(f"there is no {name} for an event loop")
    return _making(kind, pool.connection_kwargs)


def _making(kind: Callable[..., Any], settings: Mapping[str, Any]) -> Callable[[], Any]:
    # Other settings may not be allowed with the older protocol.
    kept = {name: each for name, each in settings.items() if name in _KEPT or name[:3] == "ssl"}
    return lambda: kind(**{**kept, **_OWN})


# The older protocol, in which one connection can be redirected to another; reads have no timeout.
_OWN: dict[str, Any] = {
    **OWN_ENCODING,
    "protocol": 2,
    "retry": Retry(NoBackoff(), 0),
    "retry_on_error": [],
    "health_check_interval": 0,
    "socket_timeout": None,
    "socket_connect_timeout": CONNECT_TIMEOUT,
}
