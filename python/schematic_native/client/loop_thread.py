"""The event loop of a synchronous client, on a daemon thread of its own.

A signal handler may interrupt any call here with an exception: no call holds a lock, and work that
has begun on the loop continues.
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

# Seconds between attempts to stop a loop that has not ended yet.
WAKE_AGAIN = 0.1


class LoopEndedError(RuntimeError):
    """The loop has ended, and the work was not done."""


class LateError(Exception):
    """The caller's timeout passed before the work on the loop was done.

    This is not a TimeoutError, because a user's signal handler may raise one, which we must not catch.
    """


class _Work(Outcome[T]):
    """The outcome of work on the loop: a result or an error, once it is done."""

    def __init__(self) -> None:
        super().__init__()
        # `task` is set on the loop when the work begins; `is_given_up` by a caller that timed out or
        # was interrupted.
        self.task: asyncio.Task[T] | None = None
        self.is_given_up = False


class LoopThread:
    """A daemon thread that runs an event loop, for the synchronous client."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        # Work whose outcome is not set yet. When the loop ends, its waiters get a LoopEndedError.
        self._unfinished: set[_Work[Any]] = set()
        self._is_ending = False  # set on the loop: work that reaches it from then on is refused
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
            LateError: the coroutine took longer than `timeout` seconds; it is cancelled.
            LoopEndedError: the loop ended before the coroutine did.

        """
        self.refuse_own_thread()
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
        """Begin work on the loop; interrupting a caller that waits for it does not affect the work.

        Raises:
            LoopEndedError: the loop has ended; the work was not begun.

        """
        outcome: _Work[T] = _Work()

        def start() -> None:
            if outcome.is_given_up or self._is_ending:
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

        self._unfinished.add(outcome)
        try:
            self._loop.call_soon_threadsafe(start)
        except RuntimeError:
            self._unfinished.discard(outcome)
            raise LoopEndedError(ENDED) from None
        if self._has_ended:
            # The loop may have ended after `call_soon_threadsafe`, and never have run `start`.
            self._end(outcome, None, LoopEndedError(ENDED))
        return outcome

    def _give_up(self, outcome: _Work[Any]) -> None:
        """Cancel work whose caller has stopped waiting."""
        outcome.is_given_up = True

        def cancel() -> None:
            if outcome.task is not None:
                outcome.task.cancel()

        with contextlib.suppress(RuntimeError):  # of a loop that is closed
            self._loop.call_soon_threadsafe(cancel)

    def _end(self, outcome: _Work[Any], result: object, error: BaseException | None) -> None:
        self._unfinished.discard(outcome)
        outcome.end(result, error)

    def refuse_own_thread(self) -> None:
        """Raise RuntimeError on the loop's own thread, where waiting would be a deadlock."""
        if threading.current_thread() is self._thread:
            raise RuntimeError("a synchronous client cannot be called from its own I/O thread")

    def stop(self, timeout: float) -> None:
        """Stop the loop and its thread, and wait at most `timeout` seconds for them.

        A worker thread may be stuck in a user's httpx.Client; it is not waited for beyond that.
        """
        until = time.monotonic() + timeout
        while (left := until - time.monotonic()) > 0:
            # Repeated, because a wake-up can get lost: if a signal handler raises an OSError while
            # asyncio wakes its loop, asyncio drops both.
            with contextlib.suppress(RuntimeError):  # of a loop that is closed
                self._loop.call_soon_threadsafe(self._stop_loop)
            if self._ended.wait(min(left, WAKE_AGAIN)):
                break
        # The thread now ends at once. The timeout is for a call from a signal handler that interrupts
        # another call in this join: Python may then never finish the second join.
        self._thread.join(WAKE_AGAIN)

    def _stop_loop(self) -> None:
        # What runs the loop while it ends would take another stop for a failure.
        if not self._is_ending:
            self._loop.stop()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            # A task that began from here on would not be among those that are cancelled.
            self._is_ending = True
            self._loop.run_until_complete(cancel_all(list(asyncio.all_tasks(self._loop))))
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            # Not with `shutdown_default_executor`, which starts a thread: at the interpreter's exit that
            # is no longer possible.
            self._workers.shutdown()
            asyncio.set_event_loop(None)
            self._loop.close()
            # No work begins after this line, so every remaining caller can be told.
            self._has_ended = True
            for outcome in self._unfinished.copy():
                self._end(outcome, None, LoopEndedError(ENDED))
            self._ended.end(None, None)


async def cancel_all(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancel tasks, and wait until each has ended."""
    ending = list(tasks)
    for task in ending:
        task.cancel()
    await asyncio.gather(*ending, return_exceptions=True)
