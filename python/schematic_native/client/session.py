"""What one client has running, and how that comes to an end without the client.

A program may drop a client, end its event loop or end itself without a shutdown. The session is
what then still knows of queued events and of leases, and delivers and releases them. It never holds
the client, so that a client nobody uses any more can be collected.
"""

from __future__ import annotations

import atexit
import contextlib
import sys
import threading
import time
import warnings
from typing import TYPE_CHECKING

from schematic_native.config.defaults import SHUTDOWN_BUDGET
from schematic_native.ground.threads import Outcome, on_new_thread

if TYPE_CHECKING:
    from collections.abc import Callable

    from schematic_native.client.loop_thread import LoopThread
    from schematic_native.client.parts import Parts
    from schematic_native.client.runtime import Runtime

# Seconds that a shutdown also has to close its connections.
GRACE = 1.0
# Seconds that it waits for its thread at least, where its own are used up.
LEAST_JOIN = 0.1
# Seconds between two looks at a loop that may end without a word.
POLL = 0.01

# Sessions that have something to bring to an end, held so that it happens even if nobody else
# holds them.
_open: set[Session] = set()


class Session:
    """The runtime of one client, and what it is made of.

    Args:
        name: of the client's class, for messages.
        parts: what the client is made of.

    """

    def __init__(self, name: str, parts: Parts) -> None:
        self._name = name
        self._parts = parts
        self.runtime: Runtime | None = None
        # The I/O thread of a synchronous client.
        self.thread: LoopThread | None = None
        # Held only to start. A signal handler may start in the midst of it.
        self.starting = threading.RLock()
        # What is done for a client that was dropped.
        self._ending: Outcome[None] | None = None

    def start(self, on_streaming: Callable[[bool], None]) -> Runtime:
        """Make the runtime on the running event loop; it goes on where an earlier one has ended.

        Args:
            on_streaming: called when the DataStream has brought its flags.

        """
        from schematic_native.client.runtime import Runtime  # noqa: PLC0415 - loads what I/O needs

        _open.add(self)
        self.runtime = Runtime(self._parts, on_streaming, self.runtime)
        return self.runtime

    def keep(self) -> None:
        """Bring this session to an end when the interpreter ends, if nobody has done so by then."""
        _open.add(self)

    def forget(self) -> None:
        """Take note that everything has been delivered and closed, or that its time was over."""
        _open.discard(self)

    def shut_down(self) -> None:
        """Deliver the events, release the leases and close everything: for a synchronous client.

        A call joins one that is under way. What an exception out of a signal handler interrupts goes
        on in the background.
        """
        thread = self.thread
        if thread is None:
            return
        thread.refuse_own()
        until = time.monotonic() + SHUTDOWN_BUDGET
        from schematic_native.client.loop_thread import LoopEndedError  # noqa: PLC0415 - loads what I/O needs

        async def close() -> None:
            # Asked for on the loop, where a start that was interrupted has ended by then.
            if self.runtime is not None:
                await self.runtime.close()

        # No lock is held here: an exception out of a signal handler may leave one behind.
        with contextlib.suppress(LoopEndedError):  # by another call, that has closed everything
            # Joins the closing that another call has begun, and goes on when this call is interrupted.
            closing = thread.begin(close)
            if closing.wait(until + GRACE - time.monotonic()):
                closing.result()
            else:
                self._parts.faults.raised("shutdown", "not finished in time")
        thread.stop(max(LEAST_JOIN, until - time.monotonic()))
        # In this order: whoever is interrupted in between is followed by another call, or by the exit hook.
        self.forget()
        self.thread = None

    def abandon(self) -> None:
        """End in the background: the client has been garbage collected.

        Takes no lock and waits for nothing, for a collection may happen at any point of any code.
        """
        if self not in _open or self._parts.core.forked:
            return
        # Asked for before the ending begins, which takes the thread away.
        is_threaded = self.thread is not None
        loop = None if is_threaded or self.runtime is None else self.runtime.loop
        # A loop that stands still may run again; if it does not, the interpreter's end is left.
        if loop is None or loop.is_running() or loop.is_closed():
            self._ending = on_new_thread(self._end)
        # Last: a program may have made errors of its warnings.
        self._warn("was garbage collected without a shutdown", "" if is_threaded else "await ")

    def end_with_interpreter(self) -> None:
        """Deliver and release what is left, within the budget of a shutdown."""
        if self._ending is not None:
            self._ending.wait(SHUTDOWN_BUDGET + GRACE)
        elif self.thread is not None:
            self.shut_down()
        else:
            self._end()
            self._warn("was not shut down", "await ")

    def _end(self) -> None:
        if self.thread is not None:
            self.shut_down()
            return
        runtime = self.runtime
        if runtime is not None and runtime.loop.is_running():
            with contextlib.suppress(RuntimeError):  # it has been closed since
                runtime.loop.call_soon_threadsafe(runtime.drop)
            until = time.monotonic() + SHUTDOWN_BUDGET + GRACE
            # The loop may end at any point of it, and then calls nobody back.
            while runtime.loop.is_running() and not runtime.ended and time.monotonic() < until:
                time.sleep(POLL)
        if runtime is not None and not runtime.ended and not runtime.loop.is_running():
            self._end_on_new_loop()
        self.forget()

    def _end_on_new_loop(self) -> None:
        import asyncio  # noqa: PLC0415 - loaded when I/O starts

        from schematic_native.ground.threads import ThreadPool  # noqa: PLC0415

        async def finish() -> None:
            await self.start(lambda _: None).close()

        loop = asyncio.new_event_loop()
        # Its threads can be had at the interpreter's end, too.
        workers = ThreadPool(thread_name_prefix="schematic-native worker")
        loop.set_default_executor(workers)
        try:
            loop.run_until_complete(finish())
        except Exception as error:  # noqa: BLE001 - there is nobody to raise it to
            self._parts.faults.raised("shutdown", f"{type(error).__name__}: {error}")
        finally:
            loop.run_until_complete(loop.shutdown_asyncgens())
            workers.shutdown(wait=False)
            loop.close()

    def _warn(self, what: str, how: str) -> None:
        warnings.warn(
            f"{self._name} of {self._parts.settings.base_url} {what}: its events are delivered and its "
            f"leases released all the same; call {how}shutdown(), or use it as a context manager",
            ResourceWarning,
            stacklevel=2,
            source=self,
        )


def forget_parent() -> None:
    """Leave the sessions of the process that this one was forked from to it."""
    _open.clear()


def end_all() -> None:
    """Bring every session to an end that is still open."""
    for session in list(_open):
        session.end_with_interpreter()


def at_exit(end: Callable[[], None]) -> None:
    """Have open sessions brought to their end with the interpreter, by a function that does it."""

    def end_in_child() -> None:
        """End with the threads of a child of multiprocessing, which ends without atexit."""
        multiprocessing = sys.modules.get("multiprocessing")
        if multiprocessing is not None and multiprocessing.parent_process() is not None:
            end()

    # By then every thread that is not a daemon has ended, and has settled what it had to settle.
    atexit.register(end)
    # The threading module's own hook has no public name.
    register = getattr(threading, "_register_atexit", None)
    if register is not None:
        register(end_in_child)
