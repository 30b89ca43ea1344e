"""Connections to the servers of a cluster.

Where a batch goes is decided in `cluster_routing`; here it is only sent.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from schematic_native.ground.store_errors import StoreError
from schematic_native.redis.async_connections import AsyncServer
from schematic_native.redis.cluster_map import address_of, map_of
from schematic_native.redis.cluster_routing import Router
from schematic_native.redis.failures import unheard
from schematic_native.redis.sync_connections import SyncServer

if TYPE_CHECKING:
    from collections.abc import Sequence

    import redis
    import redis.asyncio

    from schematic_native.redis.cluster_routing import Outcome, ServerRequest
    from schematic_native.redis.commands import Batch, Replies
    from schematic_native.redis.connections import Answered
    from schematic_native.redis.sync_connections import Sent


class SyncCluster:
    """Connections to the servers of a cluster, for any thread."""

    def __init__(self, client: redis.RedisCluster) -> None:
        self._router = Router(map_of(client))
        self._servers: dict[str, SyncServer] = {}
        any_client: Any = client
        pool = any_client.get_redis_connection(any_client.get_nodes()[0]).connection_pool
        self._make, self._settings = pool.connection_class, pool.connection_kwargs

    def exchange(self, batch: Batch, deadline: float | None, *, in_full: bool) -> Replies:
        """Send a batch to where its keys are, read its replies."""
        routing = self._router.route(batch, deadline, time.monotonic, in_full=in_full)
        try:
            requests = next(routing)
            while True:
                requests = routing.send(self._exchange(requests))
        except StopIteration as stop:
            replies: Replies = stop.value
            return replies

    def close(self) -> None:
        """Close the connections."""
        for server in self._servers.values():
            server.close()

    def _exchange(self, requests: Sequence[ServerRequest]) -> Sequence[Outcome]:
        """Send to all servers before reading the first reply."""
        sent = [self._send(request) for request in requests]
        return [self._receive(request, each) for request, each in zip(requests, sent, strict=True)]

    def _send(self, request: ServerRequest) -> Sent | StoreError:
        name, batch, deadline, in_full, asking = request
        try:
            return self._server(name).send(batch, deadline, in_full=in_full, asking=asking)
        except StoreError as error:
            return error

    def _receive(self, request: ServerRequest, sent: Sent | StoreError) -> Outcome:
        if isinstance(sent, StoreError):
            return sent
        try:
            return self._server(request.server).receive(sent, request.deadline)
        except StoreError as error:
            return error

    def _server(self, name: str) -> SyncServer:
        server = self._servers.get(name)
        if server is None:
            settings = {**self._settings, **address_of(name)}
            server = self._servers.setdefault(name, SyncServer(self._make, settings))
        return server


class AsyncCluster:
    """Connections to the servers of a cluster, for one event loop after another."""

    def __init__(self, client: redis.asyncio.RedisCluster) -> None:
        self._router = Router(map_of(client))
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

    async def exchange(self, batch: Batch, deadline: float | None, *, in_full: bool) -> Replies:
        """Send a batch to where its keys are, read its replies."""
        clock = asyncio.get_running_loop().time
        routing = self._router.route(batch, deadline, clock, in_full=in_full)
        try:
            requests = next(routing)
            while True:
                requests = routing.send(await self._exchange(requests))
        except StopIteration as stop:
            replies: Replies = stop.value
            return replies

    async def close(self) -> None:
        """Close the connections."""
        for server in self._servers.values():
            await server.close()

    def _answer(self, answered: Answered, task: asyncio.Task[Replies]) -> None:
        self._asking.discard(task)
        if task.cancelled():
            return  # its loop has ended, and the caller with it
        error = task.exception()
        if error is None:
            answered(task.result())
        else:
            answered(error if isinstance(error, StoreError) else unheard(error))

    async def _exchange(self, requests: Sequence[ServerRequest]) -> Sequence[Outcome]:
        """Send to all servers at once."""
        outcomes = await asyncio.gather(*map(self._ask, requests), return_exceptions=True)
        known: list[Outcome] = []
        for outcome in outcomes:
            if isinstance(outcome, BaseException) and not isinstance(outcome, StoreError):
                raise outcome
            known.append(outcome)
        return known

    async def _ask(self, request: ServerRequest) -> Replies:
        name, batch, deadline, in_full, asking = request
        server = self._server(name)
        return await server.exchange(batch, deadline, in_full=in_full, asking=asking)

    def _server(self, name: str) -> AsyncServer:
        server = self._servers.get(name)
        if server is None:
            settings = {**self._settings, **address_of(name)}
            server = self._servers[name] = AsyncServer(self._make, settings, self._most)
        return server
