"""Virtual time: one world, and in it the event loops of pods and servers.

A world decides which loop goes on next, by its seed, and moves the clock when none has anything to do.
It never waits, starts no thread and reads no clock of the machine.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from asyncio import events
from collections import deque
from contextvars import copy_context
from functools import partial
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import contextvars
    from collections.abc import Callable, Coroutine

# Handles that a world runs without the clock moving before it calls that a loop without an end.
MOST_AT_ONCE = 200_000


class EndlessError(AssertionError):
    """Something goes round in circles while the clock stands still."""


class Handle(partial[Any]):
    """Something that is to happen; as a `partial` it is made and called without a frame of its own."""

    _cancelled = False
    _when = 0.0

    def cancel(self) -> None:
        """Let it not happen."""
        self._cancelled = True

    def cancelled(self) -> bool:
        """Tell whether it will not happen."""
        return self._cancelled

    def when(self) -> float:
        """Return the instant at which it is to happen."""
        return self._when


class World:
    """Virtual time, and whose turn it is.

    Args:
        seed: decides the order in which loops take their turns; whatever draws from `random`, too.

    """

    def __init__(self, seed: object) -> None:
        self.random = random.Random(str(seed))
        self.now = 0.0
        self._timers: list[tuple[float, int, Handle, Loop | None]] = []
        self._next_number = itertools.count(1).__next__
        # Loops that have something to do, each once.
        self._ready: list[Loop] = []
        self.current: Loop | None = None

    def at(self, when: float, call: Callable[..., object], *arguments: Any) -> Handle:
        """Call something on no loop at an instant."""
        happening = Handle(call, *arguments)
        heappush(self._timers, (when, self._next_number(), happening, None))
        return happening

    def later(self, delay: float, call: Callable[..., object], *arguments: Any) -> Handle:
        """Call something on no loop, in so many seconds."""
        return self.at(self.now + delay, call, *arguments)

    def on(self, loop: Loop, when: float, call: Callable[..., object], *arguments: Any) -> None:
        """Call something on a loop at an instant."""
        heappush(self._timers, (when, self._next_number(), Handle(call, *arguments), loop))

    def schedule(self, when: float, handle: Handle, loop: Loop) -> None:
        """Run a handle on a loop at an instant."""
        heappush(self._timers, (when, self._next_number(), handle, loop))

    def wake(self, loop: Loop) -> None:
        """Note that a loop has something to do."""
        self._ready.append(loop)

    def run(self, seconds: float) -> None:
        """Let so many seconds pass."""
        self.run_until(self.now + seconds)

    def run_until(self, end: float) -> None:
        """Let everything happen that happens until an instant."""
        timers, ready = self._timers, self._ready
        try:
            if ready:
                self._settle()
            while timers and timers[0][0] <= end:
                when, _, handle, loop = heappop(timers)
                if handle._cancelled:
                    continue
                self.now = max(self.now, when)
                if loop is None:
                    self._leave()
                    handle()
                elif not loop.is_dead:
                    loop.handles.append(handle)
                    if not (loop.is_awake or loop.is_frozen):
                        loop.is_awake = True
                        ready.append(loop)
                if ready:
                    self._settle()
        finally:
            self._leave()
        self.now = max(self.now, end)

    def _settle(self) -> None:
        """Let everything happen that happens without the clock moving."""
        ready, draw = self._ready, self.random.random
        left = MOST_AT_ONCE
        while ready:
            loop = ready[int(draw() * len(ready)) if len(ready) > 1 else 0]
            if loop is not self.current:
                self.current = loop
                events._set_running_loop(loop)
            left -= loop.run_some()
            if not loop.handles or loop.is_frozen or loop.is_dead:
                ready.remove(loop)
                loop.is_awake = False
            if left < 0:
                raise EndlessError(f"{loop.name} goes round in circles at {self.now:.6f} s")

    def _leave(self) -> None:
        """Be in no loop, as what happens on none expects."""
        if self.current is not None:
            self.current = None
            events._set_running_loop(None)

    def close(self) -> None:
        """Forget what was to happen."""
        self._timers.clear()
        self._ready.clear()


class Loop(asyncio.AbstractEventLoop):
    """An event loop in a world: of one pod, or of a server.

    Args:
        world: gives it its turns.
        name: for the trace.

    """

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.is_awake = False
        self.is_frozen = False
        self.is_dead = False
        # Handles that it may still run; the pod dies after the last. None: no limit.
        self.fuse: int | None = None
        self.on_burnt: Callable[[], None] = _nothing
        self.failures: list[dict[str, Any]] = []
        # What it is to run at its next turns, and its futures, which are made without a frame of their own.
        self.handles: deque[Handle] = deque()
        self.create_future = partial(asyncio.Future, loop=self)  # type: ignore[method-assign, assignment]
        self._is_closed = False
        self._tasks: list[asyncio.Task[Any]] = []
        self._prune_at = 64

    # What the world asks

    @property
    def tasks(self) -> list[asyncio.Task[Any]]:
        """What is under way, oldest first."""
        return [task for task in self._tasks if not task.done()]

    def run_some(self) -> int:
        """Take a turn, as asyncio's own loops do: what was there at its start; tells how much that was."""
        handles = self.handles
        count = len(handles)
        for done in range(count):
            if self.fuse is not None and not self._burn():
                return done + 1
            if self.is_dead or self.is_frozen:
                return done + 1
            handle = handles.popleft()
            if not handle._cancelled:
                try:
                    handle()
                except (SystemExit, KeyboardInterrupt):
                    raise
                except BaseException as error:  # noqa: BLE001 - it is told, as asyncio's loops do
                    self.call_exception_handler({"exception": error, "handle": handle})
        return count

    def _burn(self) -> bool:
        if self.fuse:
            self.fuse -= 1
            return True
        self.fuse = None
        self.on_burnt()
        return False

    def freeze(self) -> None:
        """Take no turn until it thaws."""
        self.is_frozen = True

    def thaw(self) -> None:
        """Go on."""
        self.is_frozen = False
        if self.handles and not self.is_awake:
            self.is_awake = True
            self.world.wake(self)

    def die(self) -> None:
        """Run nothing any more, not even what cleans up: as `kill -9` has it."""
        self.is_dead = True
        self.handles.clear()
        for task in self.tasks:
            task._log_destroy_pending = False  # type: ignore[attr-defined]

    # What asyncio asks

    def time(self) -> float:
        return self.world.now

    def call_soon(  # type: ignore[override]
        self, callback: Any, *args: Any, context: contextvars.Context | None = None
    ) -> Handle:
        handle = Handle((copy_context() if context is None else context).run, callback, *args)
        if not self.is_dead:
            self.handles.append(handle)
            if not (self.is_awake or self.is_frozen):
                self.is_awake = True
                self.world.wake(self)
        return handle

    call_soon_threadsafe = call_soon  # type: ignore[assignment]

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Any, *args: Any, context: contextvars.Context | None = None
    ) -> Handle:
        world = self.world
        when = world.now + delay
        handle = Handle((copy_context() if context is None else context).run, callback, *args)
        handle._when = when
        world.schedule(when, handle, self)
        return handle

    def call_at(  # type: ignore[override]
        self, when: float, callback: Any, *args: Any, context: contextvars.Context | None = None
    ) -> Handle:
        handle = Handle((copy_context() if context is None else context).run, callback, *args)
        handle._when = when
        self.world.schedule(when, handle, self)
        return handle

    def create_task(
        self,
        coro: Coroutine[Any, Any, Any],
        *,
        name: object = None,
        context: contextvars.Context | None = None,
    ) -> asyncio.Task[Any]:
        if context is None:
            task = asyncio.Task(coro, loop=self, name=name)  # type: ignore[arg-type]
        else:
            task = asyncio.Task(coro, loop=self, name=name, context=context)  # type: ignore[arg-type, call-arg]
        tasks = self._tasks
        tasks.append(task)
        if len(tasks) > self._prune_at:
            self._tasks = self.tasks
            self._prune_at = 64 + len(self._tasks)
        return task

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> asyncio.Future[Any]:
        """Do at once what would be done on a thread; the answer comes a turn later."""
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - it is the caller's
            future.set_exception(error)
        return future

    # Asked for each future: this says False without a frame of its own.
    get_debug = bool

    def is_running(self) -> bool:
        return self.world.current is self

    def is_closed(self) -> bool:
        return self._is_closed

    def close(self) -> None:
        self._is_closed = True

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        # What is found when a dead process is cleared away was never to be told.
        if not self.is_dead:
            self.failures.append(context)

    default_exception_handler = call_exception_handler


def _nothing() -> None:
    """Stand in for who is told of a death."""
