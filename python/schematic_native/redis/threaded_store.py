"""A synchronous store that an event loop can wait for, asked on worker threads.

It never uses the loop's own threads: its user may keep all of them busy.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from schematic_native.ground.store_errors import StoreError
from schematic_native.ground.threads import ThreadPool

if TYPE_CHECKING:
    import concurrent.futures
    from collections.abc import Callable

    from schematic_native.redis.async_store import Late
    from schematic_native.redis.commands import Operation
    from schematic_native.redis.sync_store import SyncStore

T = TypeVar("T")

# So many operations are under way at once.
MOST_WORKERS = 32


class ThreadedStore:
    """A synchronous store for event loops.

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

        If the caller is cancelled, an operation that has begun goes on, and `late` is called
        with its result: None if it failed, or had not begun.
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
            answer.cancel()  # or its exception would be logged as never retrieved
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
    """Call `late` on the loop with a result that its caller does not wait for any longer."""
    failed = work.cancelled() or work.exception() is not None
    with contextlib.suppress(RuntimeError):  # the loop has ended
        loop.call_soon_threadsafe(late, None if failed else work.result())
