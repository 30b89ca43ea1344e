"""Connections to the server, or to the servers of a cluster.

They are made as the user's client makes its own (address, credentials, TLS, protocol, Sentinel),
but never send anything again, and end when the caller's time does. What of redis-py is not part of
its documented interface is used here and nowhere else.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Protocol

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AskError,
    AuthenticationError,
    BusyLoadingError,
    MovedError,
    ResponseError,
)
from redis.retry import Retry

from schematic_native.redis.faults import FAULTS, unheard, unsent

if sys.version_info >= (3, 11):
    from asyncio import timeout_at
else:
    from async_timeout import timeout_at

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from schematic_native.redis.operations import Batch, Replies

# Seconds that connecting, and waiting for an answer, take at most where nobody says less.
CONNECT_TIMEOUT = 1.0
SHORTEST_WAIT = 0.001
# Seconds that a connection which was used is not looked at again before it is used again.
TRUSTED = 0.1
# What a server answers instead of carrying a command out.
REFUSALS = (ResponseError, BusyLoadingError, AuthenticationError)
# So often is a command sent to where the cluster says that its key is.
MOST_REDIRECTIONS = 3


class SyncLinks(Protocol):
    """Exchanges batches on the calling thread."""

    def exchange(self, batch: Batch, deadline: float | None, *, in_full: bool) -> Replies:
        """Send a batch, read its replies; the deadline is one of `time.monotonic`."""

    def close(self) -> None:
        """Close the connections."""


class AsyncLinks(Protocol):
    """Exchanges batches on the event loop."""

    async def exchange(self, batch: Batch, deadline: float | None, *, in_full: bool) -> Replies:
        """Send a batch, read its replies; the deadline is one of the loop's clock."""

    async def close(self) -> None:
        """Close the connections."""


def is_refusal(reply: object) -> bool:
    """Tell whether a reply ends the connection and stands for those after it, too."""
    return isinstance(reply, (BusyLoadingError, AuthenticationError))


class SyncServer:
    """Connections to one server, for any thread.

    Args:
        make: makes a connection.

    """

    def __init__(self, make: Callable[..., Any], settings: dict[str, Any]) -> None:
        self._make = make
        self._settings = {**settings, "retry": Retry(NoBackoff(), 0)}
        # Connections, and until when each may be thought to be open still.
        self._free: deque[tuple[Any, float]] = deque()

    def exchange(
        self, batch: Batch, deadline: float | None, *, in_full: bool, asking: bool = False
    ) -> Replies:
        """Send a batch, read its replies."""
        return self.receive(self.send(batch, deadline, in_full=in_full, asking=asking), deadline)

    def send(
        self, batch: Batch, deadline: float | None, *, in_full: bool, asking: bool = False
    ) -> tuple[Any, int]:
        """Send a batch; returns the connection, and how many replies it will read."""
        connection = self._connected(deadline)
        commands = [command.words(in_full=in_full) for command in batch]
        if asking:
            commands = [word for command in commands for word in (("ASKING",), command)]
        try:
            _bound(connection, deadline)
            connection.send_packed_command([_packed(commands)], check_health=False)
        except FAULTS as error:
            connection.disconnect()
            raise unheard(error) from error
        except BaseException:
            connection.disconnect()
            raise
        return connection, len(commands)

    def receive(self, sent: tuple[Any, int], deadline: float | None) -> Replies:
        """Read the replies of what was sent."""
        connection, count = sent
        replies: list[object] = []
        try:
            while len(replies) < count:
                replies.append(_read(connection, deadline))
                if is_refusal(replies[-1]):
                    replies += [replies[-1]] * (count - len(replies))
        except FAULTS as error:
            connection.disconnect()
            raise unheard(error) from error
        except BaseException:
            connection.disconnect()
            raise
        self._free.append((connection, time.monotonic() + TRUSTED))
        return replies

    def close(self) -> None:
        """Close the connections that are not in use."""
        while self._free:
            self._free.pop()[0].disconnect()

    def _connected(self, deadline: float | None) -> Any:
        """Take a connection that is open and has nothing to say."""
        try:
            connection, trusted_until = self._free.pop()
        except IndexError:
            connection, trusted_until = self._make(**self._settings), 0.0
        if connection.is_connected and time.monotonic() > trusted_until:
            _drop_if_closed(connection)
        if not connection.is_connected:
            _connect(connection, deadline)
        return connection


def _drop_if_closed(connection: Any) -> None:
    """Disconnect from a server that has closed its end, which makes the socket readable."""
    try:
        if connection.can_read(0):
            connection.disconnect()
    except FAULTS:
        connection.disconnect()


def _connect(connection: Any, deadline: float | None) -> None:
    left = _left(deadline)
    if left <= 0:
        error = TimeoutError("no time was left to connect")
        raise unsent(error) from error
    # The second is for what is said at the start: the protocol, who is there, the password.
    connection.socket_connect_timeout = connection.socket_timeout = left
    try:
        connection.connect()
    except FAULTS as error:
        connection.disconnect()
        raise unsent(error) from error


def _read(connection: Any, deadline: float | None) -> object:
    _bound(connection, deadline)
    try:
        reply: object = connection.read_response()
    except REFUSALS as error:
        return error
    return reply


def _bound(connection: Any, deadline: float | None) -> None:
    """Let nothing on a connection wait longer than until the deadline.

    What has come in time is still read after it: a timeout of 0 would be none.
    """
    connection._sock.settimeout(max(_left(deadline), SHORTEST_WAIT))  # noqa: SLF001


def _left(deadline: float | None) -> float:
    return CONNECT_TIMEOUT if deadline is None else deadline - time.monotonic()


class AsyncServer:
    """Connections to one server, for one event loop after another.

    Args:
        make: makes a connection.

    """

    def __init__(self, make: Callable[..., Any], settings: dict[str, Any]) -> None:
        self._make = make
        # The whole exchange has one deadline; one for each call would cost a task each.
        limits = {"socket_connect_timeout": None, "socket_timeout": None}
        self._settings = {**settings, **limits, "retry": AsyncRetry(NoBackoff(), 0)}
        self._free: deque[Any] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def exchange(
        self, batch: Batch, deadline: float | None, *, in_full: bool, asking: bool = False
    ) -> Replies:
        """Send a batch, read its replies."""
        connection = await self._take()
        commands = [command.words(in_full=in_full) for command in batch]
        if asking:
            commands = [word for command in commands for word in (("ASKING",), command)]
        failure = unsent
        try:
            async with timeout_at(_limit(deadline)):
                if not connection.is_connected:
                    await connection.connect()
                failure = unheard
                await connection.send_packed_command([_packed(commands)], check_health=False)
                replies = await self._receive(connection, len(commands))
        except FAULTS as error:
            await connection.disconnect(nowait=True)
            raise failure(error) from error
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        self._free.append(connection)
        return replies

    async def close(self) -> None:
        """Close the connections that are not in use."""
        while self._free:
            await self._free.pop().disconnect(nowait=True)

    async def _receive(self, connection: Any, count: int) -> list[object]:
        replies: list[object] = []
        while len(replies) < count:
            try:
                replies.append(await connection.read_response())
            except REFUSALS as error:
                replies.append(error)
                if is_refusal(error):
                    replies += [error] * (count - len(replies))
        return replies

    async def _take(self) -> Any:
        """Take a connection whose other end is open, or a new one."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            # The connections of a loop that has ended have ended with it.
            self._loop, self._free = loop, deque()
        while self._free:
            connection = self._free.pop()
            reader = getattr(connection, "_reader", None)
            if connection.is_connected and reader is not None and not reader.at_eof():
                return connection
            await connection.disconnect(nowait=True)
        return self._make(**self._settings)


def _packed(commands: Iterable[Sequence[str | int]]) -> bytes:
    """Write commands as the protocol wants them: in a third of the time that redis-py takes."""
    parts: list[str] = []
    for words in commands:
        parts.append(f"*{len(words)}\r\n")
        for word in map(str, words):
            length = len(word) if word.isascii() else len(word.encode())
            parts.append(f"${length}\r\n{word}\r\n")
    return "".join(parts).encode()


def _limit(deadline: float | None) -> float:
    return asyncio.get_running_loop().time() + CONNECT_TIMEOUT if deadline is None else deadline


class _Places:
    """A batch that is spread over the servers of a cluster: which commands go where."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.replies: list[object] = [None] * len(batch)
        self.left = list(range(len(batch)))

    def by_server(self, server_of: Callable[[str], str]) -> dict[str, list[int]]:
        """Group what is left by server."""
        groups: dict[str, list[int]] = {}
        for at in self.left:
            groups.setdefault(server_of(self.batch[at].key), []).append(at)
        return groups

    def fill(self, places: Iterable[int], replies: Replies) -> None:
        """Keep the replies of some commands."""
        for at, reply in zip(places, replies, strict=True):
            self.replies[at] = reply

    def redirected(self) -> list[tuple[int, AskError]]:
        """Find what was not carried out because its key is elsewhere."""
        found = [(at, reply) for at in self.left if isinstance(reply := self.replies[at], AskError)]
        self.left = [at for at, _ in found]
        return found


class SyncCluster:
    """Connections to the servers of a cluster, for any thread."""

    def __init__(self, client: redis.RedisCluster) -> None:
        self._client = client
        self._servers: dict[str, SyncServer] = {}
        self._is_stale = False

    def exchange(self, batch: Batch, deadline: float | None, *, in_full: bool) -> Replies:
        """Send a batch to where its keys are, all at once; follow the keys that have moved."""
        places = _Places(batch)
        for _ in range(MOST_REDIRECTIONS):
            self._refresh()
            try:
                self._exchange(places, deadline, in_full=in_full)
            except BaseException:
                # A server that does not answer may have been replaced by another.
                self._is_stale = True
                raise
            for at, error in places.redirected():
                # To have moved for good is a kind of being elsewhere for now.
                if isinstance(error, MovedError):
                    self._is_stale = True
                    continue
                server = self._server(f"{error.host}:{error.port}")
                asked = server.exchange([batch[at]], deadline, in_full=in_full, asking=True)
                places.fill([at], asked[1:])
                places.left.remove(at)
            if not places.left:
                break
        return places.replies

    def close(self) -> None:
        """Close the connections."""
        for server in self._servers.values():
            server.close()

    def _exchange(self, places: _Places, deadline: float | None, *, in_full: bool) -> None:
        sent = []
        groups = places.by_server(self._name_of)
        for name, group in groups.items():
            server = self._server(name)
            commands = [places.batch[at] for at in group]
            sent.append((server, group, server.send(commands, deadline, in_full=in_full)))
        for server, group, waiting in sent:
            places.fill(group, server.receive(waiting, deadline))

    def _name_of(self, key: str) -> str:
        client: Any = self._client
        return str(client.get_node_from_key(key).name)

    def _refresh(self) -> None:
        if not self._is_stale:
            return
        try:
            self._client.nodes_manager.initialize()
        except FAULTS as error:
            raise unsent(error) from error
        self._is_stale = False

    def _server(self, name: str) -> SyncServer:
        server = self._servers.get(name)
        if server is None:
            host, _, port = name.rpartition(":")
            client: Any = self._client
            node = client.get_node(host, int(port)) or client.get_random_node()
            pool = client.get_redis_connection(node).connection_pool
            settings = {**pool.connection_kwargs, "host": host, "port": int(port)}
            server = self._servers[name] = SyncServer(pool.connection_class, settings)
        return server


class AsyncCluster:
    """Connections to the servers of a cluster, for one event loop after another."""

    def __init__(self, client: redis.asyncio.RedisCluster) -> None:
        self._client = client
        self._servers: dict[str, AsyncServer] = {}
        self._is_stale = True

    async def exchange(self, batch: Batch, deadline: float | None, *, in_full: bool) -> Replies:
        """Send a batch to where its keys are, all at once; follow the keys that have moved."""
        places = _Places(batch)
        for _ in range(MOST_REDIRECTIONS):
            await self._refresh(deadline)
            try:
                await self._exchange(places, deadline, in_full=in_full)
            except BaseException:
                # A server that does not answer may have been replaced by another.
                self._is_stale = True
                raise
            for at, error in places.redirected():
                if isinstance(error, MovedError):
                    self._is_stale = True
                    continue
                server = self._server(f"{error.host}:{error.port}")
                command = [batch[at]]
                asked = await server.exchange(command, deadline, in_full=in_full, asking=True)
                places.fill([at], asked[1:])
                places.left.remove(at)
            if not places.left:
                break
        return places.replies

    async def close(self) -> None:
        """Close the connections."""
        for server in self._servers.values():
            await server.close()

    async def _exchange(self, places: _Places, deadline: float | None, *, in_full: bool) -> None:
        groups = places.by_server(self._name_of)
        exchanges = [
            self._server(name).exchange(
                [places.batch[at] for at in group], deadline, in_full=in_full
            )
            for name, group in groups.items()
        ]
        # Each is heard out, so that no connection is left with a reply that nobody reads.
        outcomes = await asyncio.gather(*exchanges, return_exceptions=True)
        for group, outcome in zip(groups.values(), outcomes, strict=True):
            if isinstance(outcome, BaseException):
                raise outcome
            places.fill(group, outcome)

    def _name_of(self, key: str) -> str:
        client: Any = self._client
        return str(client.get_node_from_key(key).name)

    async def _refresh(self, deadline: float | None) -> None:
        if not self._is_stale:
            return
        try:
            async with timeout_at(_limit(deadline)):
                await self._client.initialize()
                await self._client.nodes_manager.initialize()
        except FAULTS as error:
            raise unsent(error) from error
        self._is_stale = False

    def _server(self, name: str) -> AsyncServer:
        server = self._servers.get(name)
        if server is None:
            host, _, port = name.rpartition(":")
            client: Any = self._client
            node = client.get_node(host, int(port)) or client.get_random_node()
            settings = {**node.connection_kwargs, "host": host, "port": int(port)}
            server = self._servers[name] = AsyncServer(node.connection_class, settings)
        return server


def sync_links(client: redis.Redis | redis.RedisCluster) -> SyncLinks:
    """Make links as a synchronous client makes its own."""
    if isinstance(client, redis.RedisCluster):
        return SyncCluster(client)
    pool = client.connection_pool
    return SyncServer(pool.connection_class, pool.connection_kwargs)


def async_links(client: redis.asyncio.Redis | redis.asyncio.RedisCluster) -> AsyncLinks:
    """Make links as an asynchronous client makes its own."""
    if isinstance(client, redis.asyncio.RedisCluster):
        return AsyncCluster(client)
    pool = client.connection_pool
    return AsyncServer(pool.connection_class, pool.connection_kwargs)
