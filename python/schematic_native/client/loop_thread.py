"""The event loop that a synchronous client has on a daemon thread of its own.

Calls are safe to be interrupted by an exception from a signal handler at any point: none holds a
lock, and what has begun on the loop goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from typing import TYPE_CHECKING, Any, TypeVar

from schematic_native.ground.threads import Outcome, ThreadPool

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable

T = TypeVar("T")

ENDED = "the client's I/O thread has ended"


# Seconds until a loop is woken again that has not ended.
WAKE_AGAIN = 0.1


class LoopEndedError(RuntimeError):
    """The loop has ended, and what was asked of it is not done."""


class LateError(Exception):
    """The time that a caller has for work on the loop is over.

    No TimeoutError: a signal handler may raise that, and it is not ours to catch.
    """


class _Work(Outcome[T]):
    """What work on the loop comes to."""

    def __init__(self) -> None:
        super().__init__()
        # Set on the loop once the work has begun; whoever gives it up sets the other.
        self.task: asyncio.Task[T] | None = None
        self.is_given_up = False


class LoopThread:
    """A daemon thread with a loop of its own, for the synchronous client."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        # What nobody has told the end of: told when the loop ends, whatever has become of it.
        self._open: set[_Work[Any]] = set()
        self._has_ended = False
        self._ended: Outcome[None] = Outcome()
        self._workers = ThreadPool(thread_name_prefix="schematic-native worker")
        self._loop.set_default_executor(self._workers)
        self._thread = threading.Thread(target=self._run, name="schematic-native", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:
            self._loop.close()
            raise

    def call(
        self, work: Callable[[], Coroutine[object, object, T]], timeout: float | None = None
    ) -> T:
        """Run a coroutine on the loop and wait for it.

        Raises:
            LateError: it took longer than `timeout` seconds; it is cancelled.
            LoopEndedError: the loop has ended, now or before.

        """
        self.refuse_own()
        outcome = self.begin(work)
        is_done = False
        try:
            is_done = outcome.wait(timeout)
        finally:
            if not is_done:
                self._give_up(outcome)
        if not is_done:
            raise LateError
        return outcome.result()

    def begin(self, work: Callable[[], Coroutine[object, object, T]]) -> _Work[T]:
        """Have work done on the loop; whoever waits for it may be interrupted without harm to it.

        Raises:
            LoopEndedError: the loop has ended; the work is not begun.

        """
        outcome: _Work[T] = _Work()

        def start() -> None:
            if outcome.is_given_up:
                self._end(outcome, None, LoopEndedError(ENDED))
                return
            outcome.task = task = self._loop.create_task(work())
            task.add_done_callback(finished)

        def finished(task: asyncio.Task[T]) -> None:
            if task.cancelled():
                self._end(outcome, None, LoopEndedError(ENDED))
            elif (error := task.exception()) is not None:
                self._end(outcome, None, error)
            else:
                self._end(outcome, task.result(), None)

        self._open.add(outcome)
        try:
            self._loop.call_soon_threadsafe(start)
        except RuntimeError:
            self._open.discard(outcome)
            raise LoopEndedError(ENDED) from None
        if self._has_ended:
            # Between the two lines: it may have ended without a look at this.
            self._end(outcome, None, LoopEndedError(ENDED))
        return outcome

    def _give_up(self, outcome: _Work[Any]) -> None:
        """Cancel work that nobody waits for any longer."""
        outcome.is_given_up = True

        def cancel() -> None:
            if outcome.task is not None:
                outcome.task.cancel()

        with contextlib.suppress(RuntimeError):  # of a loop that is closed
            self._loop.call_soon_threadsafe(cancel)

    def _end(self, outcome: _Work[Any], result: object, error: BaseException | None) -> None:
        self._open.discard(outcome)
        outcome.end(result, error)

    def refuse_own(self) -> None:
        """Raise RuntimeError on the loop's own thread, which would wait for itself."""
        if threading.current_thread() is self._thread:
            raise RuntimeError("a synchronous client cannot be called from its own I/O thread")

    def stop(self, timeout: float) -> None:
        """End the loop and its thread, if they have not ended.

        A worker thread stuck in a user's httpx.Client is not waited for longer.
        """
        until = time.monotonic() + timeout
        while (left := until - time.monotonic()) > 0:
            # Again and again: asyncio drops an OSError out of a signal handler together with the call
            # that wakes its loop.
            with contextlib.suppress(RuntimeError):  # of a loop that is closed
                self._loop.call_soon_threadsafe(self._loop.stop)
            if self._ended.wait(min(left, WAKE_AGAIN)):
                break
        # It ends at once, then. A thread that a signal handler has interrupted in here is not joined.
        self._thread.join(WAKE_AGAIN)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            self._loop.run_until_complete(cancel_all(list(asyncio.all_tasks(self._loop))))
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            # Here, since asyncio takes a thread for it, which cannot be had when the interpreter ends.
            self._workers.shutdown()
            asyncio.set_event_loop(None)
            self._loop.close()
            # From here on nothing is begun any more, and what was is told.
            self._has_ended = True
            for outcome in self._open.copy():
                self._end(outcome, None, LoopEndedError(ENDED))
            self._ended.end(None, None)


async def cancel_all(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancel tasks, and wait until each has ended."""
    ending = list(tasks)
    for task in ending:
        task.cancel()
    await asyncio.gather(*ending, return_exceptions=True)
