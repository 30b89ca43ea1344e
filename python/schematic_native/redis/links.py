"""Connections to the server, or to the servers of a cluster.

They are made as the user's client makes its own (address, credentials, TLS, protocol, Sentinel),
but never send anything again, and end when the caller's time does. What of redis-py is not part of
its documented interface is used here and nowhere else.
"""

from __future__ import annotations

import asyncio
import os
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

from schematic_native.faults import StoreError
from schematic_native.redis.faults import FAULTS, unheard, unsent
from schematic_native.redis.rest import Rest

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
        self._process = os.getpid()
        self._rest = Rest()

    def exchange(
        self, batch: Batch, deadline: float | None, *, in_full: bool, asking: bool = False
    ) -> Replies:
        """Send a batch, read its replies."""
        connection = self.open(deadline)
        count = self.send(connection, batch, deadline, in_full=in_full, asking=asking)
        return self.receive(connection, count, deadline)

    def open(self, deadline: float | None) -> Any:
        """Take a connection that is open and has nothing to say."""
        self._forget_parent()
        try:
            connection, trusted_until = self._free.pop()
        except IndexError:
            connection, trusted_until = self._make(**self._settings), 0.0
        if connection.is_connected and time.monotonic() > trusted_until:
            _drop_if_closed(connection)
        if not connection.is_connected:
            self._connect(connection, deadline)
        return connection

    def send(
        self,
        connection: Any,
        batch: Batch,
        deadline: float | None,
        *,
        in_full: bool,
        asking: bool = False,
    ) -> int:
        """Send a batch on an open connection; returns how many replies it will read."""
        commands = _commands(batch, in_full=in_full, asking=asking)
        try:
            _bound(connection, deadline)
            connection.send_packed_command([_packed(commands)], check_health=False)
        except FAULTS as error:
            connection.disconnect()
            raise unheard(error) from error
        except BaseException:
            connection.disconnect()
            raise
        return len(commands)

    def receive(self, connection: Any, count: int, deadline: float | None) -> Replies:
        """Read the replies of what was sent."""
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
        self._forget_parent()
        while self._free:
            self._free.pop()[0].disconnect()

    def _forget_parent(self) -> None:
        """Leave the connections of the process that this one was forked from to it."""
        process = os.getpid()
        if process != self._process:
            self._process, self._free = process, deque()

    def _connect(self, connection: Any, deadline: float | None) -> None:
        self._rest.check()
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
            raise self._rest.note(error, unsent(error)) from error
        self._rest.end()


def _drop_if_closed(connection: Any) -> None:
    """Disconnect from a server that has closed its end, which makes the socket readable."""
    try:
        if connection.can_read(0):
            connection.disconnect()
    except FAULTS:
        connection.disconnect()


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
        self._rest = Rest()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def exchange(
        self, batch: Batch, deadline: float | None, *, in_full: bool, asking: bool = False
    ) -> Replies:
        """Send a batch, read its replies."""
        connection = await self.open(deadline)
        return await self.ask(connection, batch, deadline, in_full=in_full, asking=asking)

    async def open(self, deadline: float | None) -> Any:
        """Take a connection that is open."""
        connection = await self._take()
        if connection.is_connected:
            return connection
        self._rest.check()
        try:
            async with timeout_at(_limit(deadline)):
                await connection.connect()
        except FAULTS as error:
            await connection.disconnect(nowait=True)
            raise self._rest.note(error, unsent(error)) from error
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        self._rest.end()
        return connection

    async def ask(
        self,
        connection: Any,
        batch: Batch,
        deadline: float | None,
        *,
        in_full: bool,
        asking: bool = False,
    ) -> Replies:
        """Send a batch on an open connection, read its replies."""
        commands = _commands(batch, in_full=in_full, asking=asking)
        try:
            async with timeout_at(_limit(deadline)):
                await connection.send_packed_command([_packed(commands)], check_health=False)
                replies = await self._receive(connection, len(commands))
        except FAULTS as error:
            await connection.disconnect(nowait=True)
            raise unheard(error) from error
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        self._free.append(connection)
        return replies

    async def close(self) -> None:
        """Close the connections that are not in use."""
        self._forget_others()
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
        self._forget_others()
        while self._free:
            connection = self._free.pop()
            reader = getattr(connection, "_reader", None)
            if connection.is_connected and reader is not None and not reader.at_eof():
                return connection
            await connection.disconnect(nowait=True)
        return self._make(**self._settings)

    def _forget_others(self) -> None:
        """Leave the connections of another loop to it: only that loop could close them."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._loop, self._free = loop, deque()


def _commands(batch: Batch, *, in_full: bool, asking: bool) -> list[tuple[str | int, ...]]:
    """List what is sent; with `ASKING` before each for a key that is on its way to the server."""
    commands = [command.words(in_full=in_full) for command in batch]
    if asking:
        commands = [word for command in commands for word in (("ASKING",), command)]
    return commands


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

    def commands(self, group: Iterable[int]) -> Batch:
        """List the commands of a group."""
        return [self.batch[at] for at in group]

    def fill(self, group: Iterable[int], replies: Replies) -> None:
        """Keep the replies of a group; what was carried out is left no more."""
        for at, reply in zip(group, replies, strict=True):
            self.replies[at] = reply
            if not isinstance(reply, AskError):
                self.left.remove(at)

    def redirected(self) -> list[tuple[int, AskError]]:
        """Find what was not carried out because its key is elsewhere."""
        return [(at, reply) for at in self.left if isinstance(reply := self.replies[at], AskError)]

    def judge(self, error: StoreError) -> StoreError:
        """Tell of a failure what it means for the whole batch, of which a part may be done."""
        error.lost = error.lost or len(self.left) < len(self.batch)
        return error


class _Owners:
    """Which server has a key, as far as is known.

    A server that is silent may have been replaced. Any other knows by whom, and says so when it is
    asked for the key: so nothing is ever waited for but the answer to a command.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self._moved: dict[int, str] = {}
        self._silent: set[str] = set()

    def name_of(self, key: str) -> str:
        """Return the server to ask for a key."""
        try:
            moved = self._moved.get(self._client.keyslot(key))
            name = moved or str(self._client.get_node_from_key(key).name)
            if name not in self._silent:
                return name
            others = (str(node.name) for node in self._client.get_nodes())
            return next((other for other in others if other not in self._silent), name)
        except FAULTS as error:
            raise unsent(error) from error

    def follow(self, error: AskError) -> str:
        """Return the server that a key is said to be on: for good, or for this once."""
        name = f"{error.host}:{error.port}"
        if isinstance(error, MovedError):
            self._moved[error.slot_id] = name
        return name

    def heard(self, name: str) -> None:
        """Note that a server answers."""
        self._silent.discard(name)

    def missed(self, name: str) -> None:
        """Note that a server does not answer."""
        self._silent.add(name)


class SyncCluster:
    """Connections to the servers of a cluster, for any thread."""

    def __init__(self, client: redis.RedisCluster) -> None:
        self._client = client
        self._owners = _Owners(client)
        self._servers: dict[str, SyncServer] = {}

    def exchange(self, batch: Batch, deadline: float | None, *, in_full: bool) -> Replies:
        """Send a batch to where its keys are, all at once; follow the keys that have moved."""
        places = _Places(batch)
        try:
            self._exchange(places, deadline, in_full=in_full)
            for _ in range(MOST_REDIRECTIONS):
                for at, error in places.redirected():
                    self._follow(places, at, error, deadline, in_full=in_full)
        except StoreError as error:
            raise places.judge(error) from error.__cause__
        return places.replies

    def close(self) -> None:
        """Close the connections."""
        for server in self._servers.values():
            server.close()

    def _exchange(self, places: _Places, deadline: float | None, *, in_full: bool) -> None:
        """Send nothing before every server is connected, so that all can still be called off."""
        waiting: deque[tuple[str, Any, list[int]]] = deque()
        try:
            for name, group in places.by_server(self._owners.name_of).items():
                waiting.append((name, self._open(name, deadline), group))
            for name, connection, group in waiting:
                commands = places.commands(group)
                self._server(name).send(connection, commands, deadline, in_full=in_full)
            while waiting:
                name, connection, group = waiting.popleft()
                places.fill(group, self._receive(name, connection, len(group), deadline))
        except BaseException:
            # No connection is left with a reply that nobody reads.
            for _, connection, _ in waiting:
                connection.disconnect()
            raise

    def _follow(
        self, places: _Places, at: int, error: AskError, deadline: float | None, *, in_full: bool
    ) -> None:
        """Send a command to where its key is said to be."""
        name, asking = self._owners.follow(error), not isinstance(error, MovedError)
        connection = self._open(name, deadline)
        commands = places.commands([at])
        server = self._server(name)
        count = server.send(connection, commands, deadline, in_full=in_full, asking=asking)
        places.fill([at], self._receive(name, connection, count, deadline)[-1:])

    def _open(self, name: str, deadline: float | None) -> Any:
        try:
            return self._server(name).open(deadline)
        except StoreError:
            self._owners.missed(name)
            raise

    def _receive(self, name: str, connection: Any, count: int, deadline: float | None) -> Replies:
        try:
            replies = self._server(name).receive(connection, count, deadline)
        except StoreError:
            self._owners.missed(name)
            raise
        self._owners.heard(name)
        return replies

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
        self._owners = _Owners(client)
        self._servers: dict[str, AsyncServer] = {}
        self._is_ready = False

    async def exchange(self, batch: Batch, deadline: float | None, *, in_full: bool) -> Replies:
        """Send a batch to where its keys are, all at once; follow the keys that have moved."""
        await self._prepare(deadline)
        places = _Places(batch)
        try:
            await self._exchange(places, deadline, in_full=in_full)
            for _ in range(MOST_REDIRECTIONS):
                for at, error in places.redirected():
                    await self._follow(places, at, error, deadline, in_full=in_full)
        except StoreError as error:
            raise places.judge(error) from error.__cause__
        return places.replies

    async def close(self) -> None:
        """Close the connections."""
        for server in self._servers.values():
            await server.close()

    async def _prepare(self, deadline: float | None) -> None:
        """Let the client find out where keys are, which it does when it is first used."""
        if self._is_ready:
            return
        try:
            async with timeout_at(_limit(deadline)):
                await self._client.initialize()
        except FAULTS as error:
            raise unsent(error) from error
        self._is_ready = True

    async def _exchange(self, places: _Places, deadline: float | None, *, in_full: bool) -> None:
        """Send nothing before every server is connected, so that all can still be called off."""
        groups = places.by_server(self._owners.name_of)
        connections = await self._open_all(groups, deadline)
        exchanges = [
            self._ask(name, connection, places.commands(group), deadline, in_full=in_full)
            for (name, group), connection in zip(groups.items(), connections, strict=True)
        ]
        # Each is heard out, so that no connection is left with a reply that nobody reads.
        outcomes = await asyncio.gather(*exchanges, return_exceptions=True)
        for group, outcome in zip(groups.values(), outcomes, strict=True):
            if isinstance(outcome, BaseException):
                raise outcome
            places.fill(group, outcome)

    async def _follow(
        self, places: _Places, at: int, error: AskError, deadline: float | None, *, in_full: bool
    ) -> None:
        """Send a command to where its key is said to be."""
        name, asking = self._owners.follow(error), not isinstance(error, MovedError)
        [connection] = await self._open_all([name], deadline)
        commands = places.commands([at])
        replies = await self._ask(
            name, connection, commands, deadline, in_full=in_full, asking=asking
        )
        places.fill([at], replies[-1:])

    async def _open_all(self, names: Iterable[str], deadline: float | None) -> list[Any]:
        connections: list[Any] = []
        try:
            for name in names:
                try:
                    connections.append(await self._server(name).open(deadline))
                except StoreError:
                    self._owners.missed(name)
                    raise
        except BaseException:
            for connection in connections:
                await connection.disconnect(nowait=True)
            raise
        return connections

    async def _ask(
        self,
        name: str,
        connection: Any,
        batch: Batch,
        deadline: float | None,
        *,
        in_full: bool,
        asking: bool = False,
    ) -> Replies:
        try:
            replies = await self._server(name).ask(
                connection, batch, deadline, in_full=in_full, asking=asking
            )
        except StoreError:
            self._owners.missed(name)
            raise
        self._owners.heard(name)
        return replies

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
