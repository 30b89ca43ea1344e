"""Threads that handle the items of one queue for an event loop: how many are awake, and when the loop is woken.

Nothing here knows what the items are.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

from schematic_native.service.proxies import UnusableTransportError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

T = TypeVar("T")

# Seconds that a thread waits for another item before it ends.
LONGEST_IDLE = 30.0
# Seconds that an item may wait for a thread that handles another. With a service nearby that is several requests,
# which take less than waking a thread for each.
LONGEST_WAIT = 0.005
# When so many are done, the loop is woken before the last one is handled.
MANY = 4
# The weight of the newest item in the mean of how long they take.
NEWEST = 0.25


class _Thread(threading.Thread):
    """A thread that can be woken by one other thread."""

    def __init__(self, work: Callable[[_Thread], None]) -> None:
        super().__init__(target=work, args=(self,), name="schematic-native sender", daemon=True)
        self._woken = threading.Lock()
        self._woken.acquire()

    def wake(self) -> None:
        self._woken.release()

    def wait(self) -> bool:
        """Wait to be woken, but not for ever; return whether it was."""
        return self._woken.acquire(timeout=LONGEST_IDLE)


class SenderThreads(Generic[T]):
    """Handles items on threads, and finishes each on the loop.

    A thread takes one item after another. As many are awake as it takes for no item to wait longer than
    LONGEST_WAIT: one thread if an item takes a fraction of that, one for each item if it takes longer. The
    loop is woken when no item waits, for all that are done by then.

    Everything but what `_work` calls is called on the loop.

    Args:
        loop: finishes items.
        handle: called on a thread with each item; never raises.
        finish: called on the loop with each item that was handled.

    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        handle: Callable[[T], None],
        finish: Callable[[T], None],
    ) -> None:
        self._loop = loop
        self._handle = handle
        self._finish = finish
        self._lock = threading.Lock()  # of the next five
        self._threads: set[_Thread] = set()
        self._idle: list[_Thread] = []  # the latest last
        self._waiting: deque[T] = deque()
        self._unfinished: set[T] = set()
        self._seconds = 0.0  # that an item took lately
        self._done: deque[T] = deque()
        self._is_wake_up_scheduled = False
        self._look: asyncio.TimerHandle | None = None  # while items wait for a busy thread
        self._is_closed = False
        self._on_end: Callable[[], None] | None = None

    def start(self) -> None:
        """Start another thread.

        Raises:
            UnusableTransportError: that cannot be done, and there is none.

        """
        thread = _Thread(self._work)
        with self._lock:
            self._threads.add(thread)
        try:
            thread.start()
        except RuntimeError as error:
            with self._lock:
                self._threads.discard(thread)
                has_others = bool(self._threads)
            # Otherwise another thread takes the item when it has finished its own.
            if not has_others:
                raise UnusableTransportError(str(error)) from None

    def put(self, item: T) -> None:
        """Have an item handled.

        Raises:
            UnusableTransportError: there is no thread, and none can be started.

        """
        with self._lock:
            self._waiting.append(item)
            self._unfinished.add(item)
            is_busy_enough = self._is_busy_enough()
        if not is_busy_enough:
            self._rouse_for(item)
        elif self._look is None:
            self._look = self._loop.call_later(LONGEST_WAIT, self._hurry)

    def close(self, on_end: Callable[[], None]) -> list[_Thread]:
        """End the threads when nothing waits; `on_end` is called on the loop after the last. Return them."""
        self._on_end = on_end
        with self._lock:
            self._is_closed = True
            threads, idle = list(self._threads), self._idle
            self._idle = []
        for thread in idle:
            thread.wake()
        if not threads:
            on_end()
        return threads

    def is_ending(self, thread: _Thread) -> bool:
        """Tell whether a thread is about to return."""
        return thread not in self._threads

    @property
    def unfinished(self) -> list[T]:
        """The items that wait or are being handled."""
        with self._lock:
            return list(self._unfinished)

    @property
    def _busy(self) -> int:
        return len(self._threads) - len(self._idle)

    def _is_busy_enough(self) -> bool:
        """Tell whether the threads that are awake will do for the items that there are."""
        busy, count = self._busy, len(self._unfinished)
        return busy >= count or (busy > 0 and count * self._seconds <= busy * LONGEST_WAIT)

    def _rouse_for(self, item: T) -> None:
        try:
            self._rouse()
        except UnusableTransportError:
            with self._lock:
                self._waiting.remove(item)
                self._unfinished.discard(item)
            raise

    def _rouse(self) -> None:
        """Wake the thread that has been idle for the shortest time, or start one."""
        with self._lock:
            thread = self._idle.pop() if self._idle else None
        if thread is None:
            self.start()
        else:
            thread.wake()

    def _hurry(self) -> None:
        """Items have waited for long enough: have a thread for each."""
        self._look = None
        self.finish_done()
        if not self._waiting:
            return
        with contextlib.suppress(UnusableTransportError):
            for _ in range(len(self._unfinished) - self._busy):
                self._rouse()
        self._look = self._loop.call_later(LONGEST_WAIT, self._hurry)

    def finish_done(self) -> None:
        """Finish the items that have been handled."""
        # First, so that an item that is done after the last look schedules another wake-up.
        self._is_wake_up_scheduled = False
        while self._done:
            self._finish(self._done.popleft())
        if self._look is not None and not self._waiting:
            self._look.cancel()
            self._look = None

    # On the threads

    def _work(self, me: _Thread) -> None:
        while (item := self._next(me)) is not None:
            begun = time.monotonic()
            self._handle(item)
            seconds = time.monotonic() - begun
            with self._lock:
                self._unfinished.discard(item)
                self._seconds += (seconds - self._seconds) * NEWEST
            self._done.append(item)
            if not self._waiting:
                self._wake_loop()

    def _next(self, me: _Thread) -> T | None:
        """Return the next item; None if the thread is to end."""
        while True:
            with self._lock:
                if self._waiting:
                    item = self._waiting.popleft()
                    break
                if self._is_closed:
                    self._end(me)
                    return None
                self._idle.append(me)
            if not me.wait() and self._ends_idle(me):
                return None
        # The loop has time to put more while this one is being handled.
        if len(self._done) >= MANY and not self._waiting:
            self._wake_loop()
        return item

    def _ends_idle(self, me: _Thread) -> bool:
        """Tell whether a thread that was not woken for long is to end."""
        with self._lock:
            if me in self._idle:
                self._idle.remove(me)
                is_over = self._is_superfluous()
                if is_over:
                    self._threads.discard(me)
                return is_over
        me.wait()  # it has just been chosen, and is about to be woken
        return False

    def _is_superfluous(self) -> bool:
        # One thread stays: when the interpreter exits, no other can be started.
        fewest = 0 if self._loop.is_closed() else 1
        return len(self._threads) > max(fewest, len(self._unfinished))

    def _end(self, me: _Thread) -> None:
        self._threads.discard(me)
        if not self._threads and self._on_end is not None:
            self._call_on_loop(self._on_end)

    def _wake_loop(self) -> None:
        if not self._is_wake_up_scheduled:
            self._is_wake_up_scheduled = True
            self._call_on_loop(self.finish_done)

    def _call_on_loop(self, callback: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(callback)
