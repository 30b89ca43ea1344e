"""The places where leases can live: for each, what a client is given and how the place is looked at."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import redis
import redis.asyncio

from tests.conformance.backends import InMemory, InRedis
from tests.conformance.clock import Clock
from tests.stores.clocks import ServerClock
from tests.stores.servers import RedisServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conformance.backends import Backend
    from tests.conformance.programs import Program


class Place(Protocol):
    """Where the leases of one vector after another live."""

    def begin(self) -> Clock:
        """Forget the vector before; return the clock by which this place goes, at the start."""

    def redis_client(self, kind: str) -> Any:
        """Make what a client of a kind, "sync" or "async", is given of Redis; None for nothing."""

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


class OneServer:
    """Leases live in one real server of Redis, which goes by the vector's clock."""

    def __init__(self, clock: ServerClock) -> None:
        self._clock = clock
        with clock.rules():
            self._server = RedisServer("--appendonly", "no").start()

    def begin(self) -> Clock:
        self._server.flush()
        return Clock(self._clock.stand_at)

    def redis_client(self, kind: str) -> Any:
        module = redis if kind == "sync" else redis.asyncio
        return module.Redis(host="127.0.0.1", port=self._server.port)

    def backend(self, program: Program) -> Backend:
        return InRedis(program)

    def remove(self) -> None:
        self._server.remove()


@contextmanager
def open_place(name: str) -> Iterator[Place]:
    if name == "in_memory":
        yield Process()
        return
    clock = ServerClock()
    place = OneServer(clock)
    try:
        yield place
    finally:
        place.remove()
        clock.remove()


PLACES = ("in_memory", "redis")
