"""Stores: operations and a driver that runs them."""

from __future__ import annotations

import asyncio
import contextlib
import time
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import redis
import redis.asyncio

from schematic_native.ground.machine import THIS, Machine
from schematic_native.ground.store_errors import StoreError
from schematic_native.ground.threads import ThreadPool
from schematic_native.redis.async_connections import AsyncServer
from schematic_native.redis.cluster import AsyncCluster, SyncCluster
from schematic_native.redis.connections import AsyncLinks, SyncLinks, SyncServer
from schematic_native.redis.drivers import AsyncDriver, Late, SyncDriver
from schematic_native.redis.keys import Keys
from schematic_native.redis.operations import Operation, Operations

if TYPE_CHECKING:
    import concurrent.futures
    from collections.abc import Callable

T = TypeVar("T")

# So many operations of a synchronous client are under way at once.
MOST_WORKERS = 32


class SyncStore:
    """A store that is asked on the calling thread.

    Args:
        operations: what it can do.
        links: how it is reached.

    """

    def __init__(self, operations: Operations, links: SyncLinks) -> None:
        self.operations = operations
        self._links = links
        self._driver = SyncDriver(links)

    def run(self, operation: Operation[T], timeout: float | None = None) -> T:
        """Run an operation within so many seconds, or raise `StoreError`."""
        return self._driver.run(operation, timeout)

    def close(self) -> None:
        """Close this store's connections; the user's client stays open."""
        self._links.close()


class AsyncStore:
    """A store that is asked on the event loop.

    Args:
        operations: what it can do.
        links: how it is reached.

    """

    def __init__(self, operations: Operations, links: AsyncLinks) -> None:
        self.operations = operations
        self._links = links
        self._driver = AsyncDriver(links)

    async def run(
        self,
        operation: Operation[T],
        timeout: float | None = None,
        late: Late[T] = None,
    ) -> T:
        """Run an operation within so many seconds, or raise `StoreError`.

        If the caller is cancelled, the operation goes on, and `late` is told its result: None if it
        failed.
        """
        return await self._driver.run(operation, timeout, late)

    async def close(self) -> None:
        """Close this store's connections; the user's client stays open."""
        await self._links.close()


class ThreadedStore:
    """A synchronous store, asked on worker threads so that an event loop can wait for it.

    The threads are its own: those of the loop may all be busy with what its user does there.

    Args:
        store: the synchronous store.

    """

    def __init__(self, store: SyncStore) -> None:
        self.operations = store.operations
        self._store = store
        self._workers = ThreadPool(MOST_WORKERS, "schematic-native Redis")

    async def run(
        self,
        operation: Operation[T],
        timeout: float | None = None,
        late: Late[T] = None,
    ) -> T:
        """Run an operation within so many seconds, or raise `StoreError`.

        If the caller is cancelled, an operation that has begun goes on, and `late` is told its
        result: None if it failed, or had not begun.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        work = self._workers.submit(self._run, operation, deadline)
        answer: asyncio.Future[T] = asyncio.wrap_future(work)
        try:
            await asyncio.wait({answer}, timeout=timeout)
            if work.cancel():
                raise StoreError("no thread was free in time to ask Redis", lost=False)
            return await answer
        except asyncio.CancelledError:
            answer.cancel()  # or nobody would ask how it ended
            if late is not None:
                work.add_done_callback(partial(_tell, asyncio.get_running_loop(), late))
            raise

    def _run(self, operation: Operation[T], deadline: float | None) -> T:
        left = None if deadline is None else deadline - time.monotonic()
        return self._store.run(operation, left)

    async def close(self) -> None:
        """Close this store's connections; the user's client stays open."""
        self._workers.shutdown(wait=False)
        self._store.close()


def _tell(
    loop: asyncio.AbstractEventLoop,
    late: Callable[[T | None], None],
    work: concurrent.futures.Future[T],
) -> None:
    """Tell the loop the result of what its caller does not wait for any longer."""
    failed = work.cancelled() or work.exception() is not None
    with contextlib.suppress(RuntimeError):  # the loop has ended, and who would hear it
        loop.call_soon_threadsafe(late, None if failed else work.result())


Store: TypeAlias = SyncStore | AsyncStore
WaitedStore: TypeAlias = AsyncStore | ThreadedStore


def open_store(redis_client: object, prefix: str, machine: Machine = THIS) -> Store:
    """Open the store that a client of redis-py leads to.

    Args:
        redis_client: `Redis` or `RedisCluster`, of `redis` or of `redis.asyncio`.
        prefix: what each key begins with.
        machine: gives its clock and its randomness.

    Raises:
        TypeError: it is none of these.

    """
    spread = Operations(Keys(prefix), is_spread=True)
    if isinstance(redis_client, redis.RedisCluster):
        return SyncStore(spread, SyncCluster(redis_client))
    if isinstance(redis_client, redis.asyncio.RedisCluster):
        return AsyncStore(spread, AsyncCluster(redis_client))
    operations = Operations(Keys(prefix), token=machine.token)
    if isinstance(redis_client, redis.Redis):
        pool = redis_client.connection_pool
        return SyncStore(operations, SyncServer(pool.connection_class, pool.connection_kwargs))
    if isinstance(redis_client, redis.asyncio.Redis):
        waiting: Any = redis_client.connection_pool
        links = AsyncServer(
            waiting.connection_class,
            waiting.connection_kwargs,
            waiting.max_connections,
            machine.monotonic,
        )
        return AsyncStore(operations, links)
    raise TypeError(
        "credit_leases.redis_client must be a Redis or RedisCluster of redis or of redis.asyncio, "
        f"got {type(redis_client).__name__}"
    )
