"""The map of a cluster: which server has which keys.

It is only a guess that servers correct by redirecting; it never sends anything itself.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.exceptions import AskError, MovedError, RedisError

from schematic_native.ground.store_errors import StoreError
from schematic_native.redis.circuit_breaker import CircuitBreaker
from schematic_native.redis.resp import encoded
from schematic_native.redis.values import text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


class ClusterMap:
    """Which server of a cluster has which keys. Servers are named by host and port.

    Args:
        seeds: the servers that the user has named.
        remap: the address by which a server that the cluster names is reached.

    """

    def __init__(self, seeds: Iterable[str], remap: Callable[[str, int], tuple[str, int]]) -> None:
        self._seeds = list(seeds)
        self._remap = remap
        self._servers: list[str | None] = []
        self._breaker = CircuitBreaker()
        self.is_stale = True

    @property
    def is_known(self) -> bool:
        """Whether there is a map, be it an old one."""
        return bool(self._servers)

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

    def read(self, rows: object, source: str) -> bool:
        """Take over a server's reply to `CLUSTER SLOTS`; returns whether it is a map."""
        if not isinstance(rows, (list, tuple)) or not rows:
            return False
        servers: list[str | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        for first, last, (host, port, *_), *_ in rows:
            servers[first : last + 1] = [self.name(text(host or ""), port, source)] * (
                last + 1 - first
            )
        self._servers = servers
        return True

    def move(self, error: AskError, source: str) -> str:
        """Return the server that a key has moved to; a move for good is noted."""
        server = self.name(error.host, error.port, source)
        if isinstance(error, MovedError):
            self.is_stale = True
            if self._servers:
                self._servers[error.slot_id] = server
        return server

    def name(self, host: str, port: int, source: str) -> str:
        """Return a server's name. One that does not know its own host has that of the source."""
        host, port = self._remap(host or source.rpartition(":")[0], port)
        return f"{host}:{port}"

    def sources(self) -> Iterator[str]:
        """Iterate over the servers to ask for the map, if it is time to ask.

        One caller asks for a newer map while the others use the one there is.
        """
        if self._servers and not self.is_stale:
            return
        try:
            began = self._breaker.begin()
        except StoreError:
            if self._servers:
                return
            began = time.monotonic()
        self.is_stale = False
        yield from dict.fromkeys([*filter(None, self._servers), *self._seeds])
        # Reached only if none of them had a map: the caller stops at the first that has.
        self.is_stale = True
        error = RedisError("no server of the cluster tells where keys are")
        self._breaker.failed(StoreError(str(error), lost=False), error, began)


def map_of(client: Any) -> ClusterMap:
    """Return the map of the cluster that a client of redis-py belongs to."""
    nodes = client.nodes_manager
    return ClusterMap(nodes.startup_nodes, nodes.remap_host_port)


def address_of(name: str) -> dict[str, str | int]:
    """Return the settings of a connection to a server."""
    host, _, port = name.rpartition(":")
    return {"host": host, "port": int(port)}
