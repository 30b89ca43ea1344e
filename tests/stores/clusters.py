"""A real Redis Cluster of three servers without replicas, started and stopped by the tests."""

from __future__ import annotations

import redis
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from typing_extensions import Self

from tests.conftest import eventually
from tests.stores.servers import RedisServer, free_port


class RedisCluster:
    """Three servers; each has a third of the slots."""

    def __init__(self) -> None:
        self._buses = [free_port() for _ in range(3)]
        self.servers = [
            RedisServer(
                "--cluster-enabled", "yes", "--cluster-port", str(bus),
                "--cluster-node-timeout", "1000", "--cluster-require-full-coverage", "no",
            )
            for bus in self._buses
        ]  # fmt: skip

    @property
    def url(self) -> str:
        return self.servers[0].url

    def start(self) -> Self:
        third = -(-REDIS_CLUSTER_HASH_SLOTS // 3)
        for number, server in enumerate(self.servers):
            server.start()
            last = min((number + 1) * third, REDIS_CLUSTER_HASH_SLOTS) - 1
            server.command("CLUSTER", "ADDSLOTSRANGE", number * third, last)
            server.command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            server.command("CLUSTER", "MEET", "127.0.0.1", self.servers[0].port, self._buses[0])
        eventually(self.is_whole)
        return self

    def is_whole(self) -> bool:
        return all(self._is_whole(server) for server in self.servers)

    def _is_whole(self, server: RedisServer) -> bool:
        info = str(server.command("CLUSTER", "INFO"))
        return "cluster_state:ok" in info and "cluster_slots_ok:16384" in info

    def server_of(self, key: str) -> RedisServer:
        """The server that has a key, as the first that answers has heard."""
        for server in self.servers:
            try:
                rows = server.command("CLUSTER", "SLOTS")
            except redis.RedisError:
                continue
            slot = key_slot(key.encode())
            [port] = [row[2][1] for row in rows if row[0] <= slot <= row[1]]
            return next(server for server in self.servers if server.port == port)
        raise AssertionError("no server of the cluster answers")

    def row(self, key: str) -> dict[str, str]:
        """A hash, wherever it is."""
        with redis.Redis.from_url(self.server_of(key).url, decode_responses=True) as reader:
            return reader.hgetall(key)

    def remove(self) -> None:
        for server in self.servers:
            server.remove()
