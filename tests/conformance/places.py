"""The places where leases can live: for each, what a client is given and how the place is looked at."""

from __future__ import annotations

from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import redis
import redis.asyncio

from tests.conformance.backends import InMemory, InRedis
from tests.conformance.clock import Clock
from tests.stores.clocks import ServerClock
from tests.stores.servers import ClusterServers, RedisServer

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterator

    from tests.conformance.backends import Backend
    from tests.conformance.programs import Program


class Place(Protocol):
    """Where the leases of one vector after another live."""

    def begin(self) -> Clock:
        """Forget the vector before; return the clock by which this place goes, at the start."""

    def redis_client(self, kind: str) -> Any:
        """Return what a client of a kind, "sync" or "async", is given of Redis; None for nothing."""

    def backend(self, program: Program) -> Backend:
        """Look at the leases and holds of a client."""


class Process:
    """Leases live in the client's process."""

    def begin(self) -> Clock:
        return Clock()

    def redis_client(self, _kind: str) -> Any:
        return None

    def backend(self, program: Program) -> Backend:
        return InMemory(program.client._core)


class InRedisServers:
    """Leases live in real servers of Redis, one or a cluster, which go by the vector's clock."""

    def __init__(self, servers: RedisServer | ClusterServers, clock: ServerClock) -> None:
        self._servers = servers
        self._clock = clock
        each = servers.servers if isinstance(servers, ClusterServers) else [servers]
        self._cleaners = [server.connect() for server in each]
        # Made once: a client of a cluster asks it for all that it is before its first command.
        self._clients = {"sync": servers.connect(redis), "async": servers.connect(redis.asyncio)}

    def begin(self) -> Clock:
        for cleaner in self._cleaners:
            # Far cheaper than a FLUSHALL, which sets a whole server up anew.
            with cleaner.pipeline(transaction=False) as deletes:
                for key in cleaner.scan_iter():
                    deletes.delete(key)
                deletes.execute()
        return Clock(self._clock.stand_at)

    def close(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.run_until_complete(self._clients["async"].aclose())
        for client in (self._clients["sync"], *self._cleaners):
            client.close()

    def redis_client(self, kind: str) -> Any:
        return self._clients[kind]

    def backend(self, program: Program) -> Backend:
        return InRedis(program)


@contextmanager
def _in_memory(_loop: asyncio.AbstractEventLoop) -> Iterator[Place]:
    yield Process()


@contextmanager
def _in_one_server(loop: asyncio.AbstractEventLoop) -> Iterator[Place]:
    with _in_servers(loop, RedisServer("--appendonly", "no")) as place:
        yield place


@contextmanager
def _in_cluster(loop: asyncio.AbstractEventLoop) -> Iterator[Place]:
    # The clock jumps by minutes: no server is to take another for dead because of it.
    with _in_servers(loop, ClusterServers("--cluster-node-timeout", "2000000000")) as place:
        yield place


@contextmanager
def _in_servers(
    loop: asyncio.AbstractEventLoop, servers: RedisServer | ClusterServers
) -> Iterator[Place]:
    clock = ServerClock()
    with clock.rules():
        servers.start()
    place = InRedisServers(servers, clock)
    yield place
    place.close(loop)
    servers.remove()
    clock.remove()


# Each is opened with the event loop of the asynchronous programs.
PLACES: dict[str, Callable[[asyncio.AbstractEventLoop], AbstractContextManager[Place]]] = {
    "in_memory": _in_memory,
    "redis": _in_one_server,
    "cluster": _in_cluster,
}
