"""Servers that the tests of this folder share, and programs that reach them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.stores.callers import PATIENCE, Caller
from tests.stores.servers import ClusterServers, RedisServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(scope="session")
def one_server() -> Iterator[RedisServer]:
    server = RedisServer("--appendonly", "no").start()
    yield server
    server.remove()


@pytest.fixture(scope="session")
def three_servers() -> Iterator[ClusterServers]:
    servers = ClusterServers().start()
    yield servers
    servers.remove()


@pytest.fixture
def server(one_server: RedisServer) -> RedisServer:
    """One server without a key, which is healthy afterwards."""
    one_server.flush()
    return one_server


@pytest.fixture
def cluster(three_servers: ClusterServers) -> ClusterServers:
    """A cluster without a key, which is whole afterwards."""
    three_servers.flush()
    return three_servers


@pytest.fixture
def make_caller(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Caller]]:
    # On a busy machine a program that has time waits for the map of its cluster.
    monkeypatch.setattr("schematic_native.redis.cluster_routing.FIRST_MAP_TIMEOUT", PATIENCE)
    callers: list[Caller] = []

    def make(*arguments: Any, **options: Any) -> Caller:
        callers.append(Caller(*arguments, **options))
        return callers[-1]

    yield make
    for caller in callers:
        caller.close()
