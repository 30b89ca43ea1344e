"""Threads for what blocks."""

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
    """Threads of our own; what comes when executors have ended already is done in place.

    That is so at the end of the interpreter, where no thread can be started any more.
    """

    def submit(
        self, work: Callable[..., T], /, *arguments: Any, **keywords: Any
    ) -> concurrent.futures.Future[T]:
        """Do work on a thread, or at once."""
        try:
            return super().submit(work, *arguments, **keywords)
        except RuntimeError:
            done: concurrent.futures.Future[T] = concurrent.futures.Future()
        try:
            done.set_result(work(*arguments, **keywords))
        except Exception as error:  # noqa: BLE001 - it is the caller's
            done.set_exception(error)
        return done


class Outcome(Generic[T]):
    """What work on another thread comes to, for any thread that waits for it.

    Unlike `concurrent.futures.Future` it may be interrupted at any point by an exception out of a
    signal handler, which then is what the caller sees: a condition variable, left at the wrong
    instant, raises an error of its own. And a handler may wait for it while the code that it has
    interrupted does, too.
    """

    def __init__(self) -> None:
        self._is_done = False
        self._result: T | None = None
        self._error: BaseException | None = None
        self._waiting: list[threading.Lock] = []

    def wait(self, timeout: float | None) -> bool:
        """Wait until the work is done; tells whether it is, after so many seconds at most."""
        told = threading.Lock()
        told.acquire()
        self._waiting.append(told)
        # Asked after that: whoever ends the work tells those who are waiting by then.
        return self._is_done or told.acquire(timeout=-1 if timeout is None else timeout)

    def result(self) -> T:
        """Return what work has come to that is done, or raise what it raised."""
        if self._error is not None:
            raise self._error
        return cast("T", self._result)

    def end(self, result: T | None, error: BaseException | None) -> None:
        """Tell everybody, once."""
        if self._is_done:
            return
        self._result, self._error = result, error
        self._is_done = True
        for told in self._waiting.copy():
            told.release()


def on_new_thread(work: Callable[[], T]) -> Outcome[T]:
    """Do work on a new daemon thread; in place where none can be started any more.

    Not a `threading.Thread`, which waits for its start on a condition variable.
    """
    outcome: Outcome[T] = Outcome()

    def run() -> None:
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001 - it is the caller's
            outcome.end(None, error)
        else:
            outcome.end(result, None)

    try:
        _thread.start_new_thread(run, ())
    except RuntimeError:
        run()
    return outcome
