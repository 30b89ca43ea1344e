"""Threads for work that blocks, which still gets done where no thread can be started any more.

Nothing here knows what the work is.
"""

from __future__ import annotations

import _thread
import concurrent.futures
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class ThreadPool(ThreadPoolExecutor):
    """An executor that does work in place when the interpreter exits, where no thread can be started."""

    def submit(
        self, work: Callable[..., T], /, *arguments: Any, **keywords: Any
    ) -> concurrent.futures.Future[T]:
        """Do work on a thread, or right away."""
        try:
            return super().submit(work, *arguments, **keywords)
        except RuntimeError:
            done: concurrent.futures.Future[T] = concurrent.futures.Future()
        try:
            done.set_result(work(*arguments, **keywords))
        except Exception as error:  # noqa: BLE001 - the caller handles it
            done.set_exception(error)
        return done


class Outcome(Generic[T]):
    """The result of work on another thread, which any number of threads may wait for.

    Unlike with `concurrent.futures.Future`, a signal handler may raise at any point of a wait, and the
    caller sees that exception: a condition variable, left at the wrong moment, would raise another. And
    a handler may wait for the outcome while the code that it interrupts does the same.
    """

    def __init__(self) -> None:
        self._is_done = False
        self._result: T | None = None
        self._error: BaseException | None = None
        self._waiting: list[threading.Lock] = []

    def wait(self, timeout: float | None) -> bool:
        """Wait until the work is done, at most so many seconds; return whether it is."""
        done_lock = threading.Lock()
        done_lock.acquire()
        self._waiting.append(done_lock)
        # Looked at afterwards: `end` only releases those who are in the list by then.
        return self._is_done or done_lock.acquire(timeout=-1 if timeout is None else timeout)

    def result(self) -> T:
        """Return the result of work that is done, or raise its exception."""
        if self._error is not None:
            raise self._error
        return cast("T", self._result)

    def end(self, result: T | None, error: BaseException | None) -> None:
        """Set the result and release everybody who waits; only the first call counts."""
        if self._is_done:
            return
        self._result, self._error = result, error
        self._is_done = True
        for done_lock in self._waiting.copy():
            done_lock.release()


def on_new_thread(work: Callable[[], T]) -> Outcome[T]:
    """Do work on a new daemon thread, or in place where none can be started any more.

    Not on a `threading.Thread`, whose start waits on a condition variable.
    """
    outcome: Outcome[T] = Outcome()

    def run() -> None:
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001 - the caller handles it
            outcome.end(None, error)
        else:
            outcome.end(result, None)

    try:
        _thread.start_new_thread(run, ())
    except RuntimeError:
        run()
    return outcome
