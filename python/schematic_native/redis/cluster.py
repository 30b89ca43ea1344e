"""Connections to the servers of a cluster.

A batch goes to all servers that have a part of it at once. What one of them fails to do is told
as the reply of its own commands, for the others have done theirs.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.exceptions import AskError, MovedError, RedisError

from schematic_native.ground.store_errors import StoreError
from schematic_native.redis.async_connections import AsyncServer
from schematic_native.redis.circuit_breaker import Rest
from schematic_native.redis.connections import CONNECT_TIMEOUT, SyncServer, encoded
from schematic_native.redis.failures import unheard
from schematic_native.redis.operations import Command
from schematic_native.redis.rows import text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    import redis
    import redis.asyncio

    from schematic_native.redis.connections import Answered
    from schematic_native.redis.operations import Batch, Replies

# So often is a command sent to where the cluster says that its key is.
MOST_REDIRECTIONS = 3
# Seconds that one server is given to tell the map.
MAP_TIMEOUT = 0.25
ASK_FOR_MAP = [Command("", ("CLUSTER", "SLOTS"))]


class Map:
    """Which server of a cluster has which keys. Servers are named by host and port.

    Args:
        seeds: the servers that the user has named.
        remap: the address by which a server that the cluster names is reached.

    """

    def __init__(self, seeds: Iterable[str], remap: Callable[[str, int], tuple[str, int]]) -> None:
        self._seeds = list(seeds)
        self._remap = remap
        self._servers: list[str | None] = []
        self._rest = Rest()
        self.is_stale = True

    def server_of(self, key: str) -> str:
        """Return the server that has a key.

        Raises:
            StoreError: none has it, as far as is known.

        """
        if not self._servers:
            raise StoreError("no server of the Redis cluster can be reached", lost=False)
        slot = key_slot(encoded(key))
        server = self._servers[slot]
        if server is None:
            self.is_stale = True
            raise StoreError(f"no server of the Redis cluster has slot {slot}", lost=False)
        return server

    def read(self, rows: object, teller: str) -> bool:
        """Take the map as a server tells it, if it tells one."""
        if not isinstance(rows, (list, tuple)) or not rows:
            return False
        servers: list[str | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        for first, last, (host, port, *_), *_ in rows:
            servers[first : last + 1] = [self.name(text(host or ""), port, teller)] * (
                last + 1 - first
            )
        self._servers = servers
        return True

    def move(self, error: AskError, teller: str) -> str:
        """Note where a key has moved to, for good or for now, and return that server."""
        server = self.name(error.host, error.port, teller)
        if isinstance(error, MovedError):
            self.is_stale = True
            if self._servers:
                self._servers[error.slot_id] = server
        return server

    def name(self, host: str, port: int, teller: str) -> str:
        """Name a server; one that does not know its own host is where it was asked."""
        host, port = self._remap(host or teller.rpartition(":")[0], port)
        return f"{host}:{port}"

    def tellers(self) -> Iterator[str]:
        """Iterate over the servers to ask for the map, if it is time to ask.

        One caller asks for a newer map while the others use the one there is.
        """
        if self._servers and not self.is_stale:
            return
        try:
            began = self._rest.begin()
        except StoreError:
            if self._servers:
                return
            began = time.monotonic()
        self.is_stale = False
        yield from dict.fromkeys([*filter(None, self._servers), *self._seeds])
        # The caller has left by now, unless nobody has told the map.
        self.is_stale = True
        nobody = RedisError("no server of the cluster tells where keys are")
        self._rest.note(StoreError(str(nobody), lost=False), nobody, began)


class _Places:
    """A batch that is spread over the servers of a cluster: which commands go where."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.replies: list[object] = [None] * len(batch)
        # What is still to be sent, and where, if a server has told that.
        self._left: dict[int, str | None] = dict.fromkeys(range(len(batch)))

    def by_server(self, server_of: Callable[[str], str]) -> dict[str, list[int]]:
        """Group by server what is still to be sent."""
        groups: dict[str, list[int]] = {}
        for at, told in self._left.items():
            try:
                groups.setdefault(told or server_of(self.batch[at].key), []).append(at)
            except StoreError as error:
                self.replies[at] = error
        self._left = {}
        return groups

    def commands(self, places: Iterable[int]) -> list[Command]:
        """Return the commands of some places."""
        return [self.batch[at] for at in places]

    def fill(self, places: Iterable[int], replies: Replies) -> None:
        """Keep the replies of some commands."""
        for at, reply in zip(places, replies, strict=True):
            self.replies[at] = reply

    def fail(self, places: Iterable[int], error: StoreError) -> None:
        """Keep a failure as the reply of some commands."""
        for at in places:
            self.replies[at] = error

    def redirected(self, groups: dict[str, list[int]]) -> list[tuple[str, int, AskError]]:
        """Find what was not carried out because its key is elsewhere; by whom that was told."""
        return [
            (server, at, reply)
            for server, places in groups.items()
            for at in places
            if isinstance(reply := self.replies[at], AskError)
        ]

    def send_again(self, at: int, server: str) -> None:
        """Note that a command is still to be sent, and where: a map that comes now may be older."""
        self._left[at] = server

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to be sent."""
        return not self._left


class SyncCluster:
    """Connections to the servers of a cluster, for any thread."""

    def __init__(self, client: redis.RedisCluster) -> None:
        self._map = _map_of(client)
        self._servers: dict[str, SyncServer] = {}
        any_client: Any = client
        pool = any_client.get_redis_connection(any_client.get_nodes()[0]).connection_pool
        self._make, self._settings = pool.connection_class, pool.connection_kwargs

    def exchange(self, batch: Batch, deadline: float | None, *, in_full: bool) -> Replies:
        """Send a batch to where its keys are, all at once; follow the keys that have moved."""
        places = _Places(batch)
        for _ in range(MOST_REDIRECTIONS):
            self._refresh(deadline)
            groups = places.by_server(self._map.server_of)
            self._exchange(places, groups, deadline, in_full=in_full)
            for teller, at, error in places.redirected(groups):
                server = self._map.move(error, teller)
                if isinstance(error, MovedError):
                    places.send_again(at, server)
                else:
                    self._ask(places, at, server, deadline, in_full=in_full)
            if places.is_done:
                break
        return places.replies

    def close(self) -> None:
        """Close the connections."""
        for server in self._servers.values():
            server.close()

    def _exchange(
        self,
        places: _Places,
        groups: dict[str, list[int]],
        deadline: float | None,
        *,
        in_full: bool,
    ) -> None:
        sent = []
        for name, group in groups.items():
            server = self._server(name)
            try:
                waiting = server.send(places.commands(group), deadline, in_full=in_full)
            except StoreError as error:
                self._fail(places, group, error)
            else:
                sent.append((server, group, waiting))
        for server, group, waiting in sent:
            try:
                places.fill(group, server.receive(waiting, deadline))
            except StoreError as error:
                self._fail(places, group, error)

    def _ask(
        self, places: _Places, at: int, name: str, deadline: float | None, *, in_full: bool
    ) -> None:
        """Send a command to where its key is on its way to."""
        command, server = places.commands([at]), self._server(name)
        try:
            replies = server.exchange(command, deadline, in_full=in_full, asking=True)
        except StoreError as error:
            self._fail(places, [at], error)
        else:
            places.fill([at], replies[1:])

    def _fail(self, places: _Places, group: Sequence[int], error: StoreError) -> None:
        # A server that does not answer may have been replaced by another.
        self._map.is_stale = True
        places.fail(group, error)

    def _refresh(self, deadline: float | None) -> None:
        for name in self._map.tellers():
            soon = _soon(time.monotonic(), deadline)
            try:
                [rows] = self._server(name).exchange(ASK_FOR_MAP, soon, in_full=False)
            except StoreError:
                continue
            if self._map.read(rows, name):
                return

    def _server(self, name: str) -> SyncServer:
        server = self._servers.get(name)
        if server is None:
            settings = {**self._settings, **_address(name)}
            server = self._servers.setdefault(name, SyncServer(self._make, settings))
        return server


class AsyncCluster:
    """Connections to the servers of a cluster, for one event loop after another."""

    def __init__(self, client: redis.asyncio.RedisCluster) -> None:
        self._map = _map_of(client)
        self._servers: dict[str, AsyncServer] = {}
        any_client: Any = client
        node = next(iter(any_client.nodes_manager.startup_nodes.values()))
        self._make, self._settings = node.connection_class, node.connection_kwargs
        self._most = node.max_connections
        self._asking: set[asyncio.Task[Replies]] = set()

    def ask(
        self, batch: Batch, deadline: float | None, answered: Answered, *, in_full: bool
    ) -> None:
        """Send a batch; `answered` is called with its replies, or with what went wrong."""
        task = asyncio.create_task(self.exchange(batch, deadline, in_full=in_full))
        self._asking.add(task)
        task.add_done_callback(partial(self._answer, answered))

    def _answer(self, answered: Answered, task: asyncio.Task[Replies]) -> None:
        self._asking.discard(task)
        if task.cancelled():
            return  # with its loop, and nobody is left to answer
        error = task.exception()
        if error is None:
            answered(task.result())
        else:
            answered(error if isinstance(error, StoreError) else unheard(error))

    async def exchange(self, batch: Batch, deadline: float | None, *, in_full: bool) -> Replies:
        """Send a batch to where its keys are, all at once; follow the keys that have moved."""
        places = _Places(batch)
        for _ in range(MOST_REDIRECTIONS):
            await self._refresh(deadline)
            groups = places.by_server(self._map.server_of)
            await self._exchange(places, groups, deadline, in_full=in_full)
            for teller, at, error in places.redirected(groups):
                server = self._map.move(error, teller)
                if isinstance(error, MovedError):
                    places.send_again(at, server)
                else:
                    await self._ask(places, at, server, deadline, in_full=in_full)
            if places.is_done:
                break
        return places.replies

    async def close(self) -> None:
        """Close the connections."""
        for server in self._servers.values():
            await server.close()

    async def _exchange(
        self,
        places: _Places,
        groups: dict[str, list[int]],
        deadline: float | None,
        *,
        in_full: bool,
    ) -> None:
        exchanges = [
            self._server(name).exchange(places.commands(group), deadline, in_full=in_full)
            for name, group in groups.items()
        ]
        outcomes = await asyncio.gather(*exchanges, return_exceptions=True)
        for group, outcome in zip(groups.values(), outcomes, strict=True):
            if isinstance(outcome, StoreError):
                self._fail(places, group, outcome)
            elif isinstance(outcome, BaseException):
                raise outcome
            else:
                places.fill(group, outcome)

    async def _ask(
        self, places: _Places, at: int, name: str, deadline: float | None, *, in_full: bool
    ) -> None:
        """Send a command to where its key is on its way to."""
        command, server = places.commands([at]), self._server(name)
        try:
            replies = await server.exchange(command, deadline, in_full=in_full, asking=True)
        except StoreError as error:
            self._fail(places, [at], error)
        else:
            places.fill([at], replies[1:])

    def _fail(self, places: _Places, group: Sequence[int], error: StoreError) -> None:
        # A server that does not answer may have been replaced by another.
        self._map.is_stale = True
        places.fail(group, error)

    async def _refresh(self, deadline: float | None) -> None:
        for name in self._map.tellers():
            soon = _soon(asyncio.get_running_loop().time(), deadline)
            try:
                [rows] = await self._server(name).exchange(ASK_FOR_MAP, soon, in_full=False)
            except StoreError:
                continue
            if self._map.read(rows, name):
                return

    def _server(self, name: str) -> AsyncServer:
        server = self._servers.get(name)
        if server is None:
            settings = {**self._settings, **_address(name)}
            server = self._servers[name] = AsyncServer(self._make, settings, self._most)
        return server


def _map_of(client: Any) -> Map:
    nodes = client.nodes_manager
    return Map(nodes.startup_nodes, nodes.remap_host_port)


def _address(name: str) -> dict[str, str | int]:
    host, _, port = name.rpartition(":")
    return {"host": host, "port": int(port)}


def _soon(now: float, deadline: float | None) -> float:
    """Return when a server must have told the map, so that time is left for the next, and after."""
    left = CONNECT_TIMEOUT if deadline is None else deadline - now
    return now + min(MAP_TIMEOUT, left / 2)
