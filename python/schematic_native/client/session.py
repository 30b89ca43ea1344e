"""The running parts of one client, and how they end when the program calls no shutdown.

A program may drop a client, close its event loop or exit without a shutdown. The session then still
has the queued events and the leases, and delivers and releases them. It must never refer to the
client, so that an unused client can be garbage collected.
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

# Seconds that a shutdown may take beyond its budget, to close connections.
GRACE = 1.0
# The least number of seconds to wait for the I/O thread, even if the budget is used up.
LEAST_JOIN = 0.1
# Seconds between checks of an event loop that may stop without notice.
POLL = 0.01

# Sessions that must be ended at the interpreter's exit. This keeps them alive without their clients.
_open: set[Session] = set()


class Session:
    """The runtime of one client and, if it is synchronous, its I/O thread.

    Args:
        name: the name of the client's class, for messages.
        parts: the client's state that outlives an event loop.

    """

    def __init__(self, name: str, parts: Parts) -> None:
        self._name = name
        self._parts = parts
        # Bills what open holds have used so far; set by the client's `Holds`.
        self.settle_holds: Callable[[], None] = _do_nothing
        self.runtime: Runtime | None = None
        # The I/O thread of a synchronous client.
        self.thread: LoopThread | None = None
        # Held only while starting. Reentrant, because a signal handler may interrupt a start with a
        # call that starts as well.
        self.starting = threading.RLock()
        # The outcome of the background shutdown of a garbage collected client.
        self._ending: Outcome[None] | None = None

    def start(self, on_streaming: Callable[[bool], None]) -> Runtime:
        """Create the runtime on the running event loop; it takes over from an earlier one, if any.

        Args:
            on_streaming: see `Runtime`.

        """
        from schematic_native.client.runtime import Runtime  # noqa: PLC0415 - loads what I/O needs

        _open.add(self)
        self.runtime = Runtime(self._parts, on_streaming, self.runtime)
        return self.runtime

    def keep(self) -> None:
        """Have this session ended at the interpreter's exit, unless it is shut down before."""
        _open.add(self)

    def forget(self) -> None:
        """Note that the session has ended: everything is delivered and closed, or time ran out."""
        _open.discard(self)

    def shut_down(self) -> None:
        """Shut a synchronous client down: deliver the events, release the leases, close everything.

        A call joins a shutdown that is already running. If an exception raised by a signal handler
        interrupts the call, the shutdown continues in the background.
        """
        thread = self.thread
        if thread is None:
            return
        thread.refuse_own_thread()
        until = time.monotonic() + SHUTDOWN_BUDGET
        from schematic_native.client.loop_thread import LoopEndedError  # noqa: PLC0415 - loads what I/O needs

        async def close() -> None:
            # Read on the loop, where a start that was interrupted has completed by now.
            if self.runtime is not None:
                await self.runtime.close()

        # No lock is held here: an exception raised by a signal handler could leave it locked.
        with contextlib.suppress(LoopEndedError):  # another call has closed everything
            # This joins a close that another call has begun, and continues if this call is interrupted.
            closing = thread.begin(close)
            if closing.wait(until + GRACE - time.monotonic()):
                closing.result()
            else:
                self._parts.faults.raised("shutdown", "not finished in time")
        thread.stop(max(LEAST_JOIN, until - time.monotonic()))
        # In this order: if `thread` were cleared first and the call then interrupted, the exit hook would
        # take the session for one that was never shut down.
        self.forget()
        self.thread = None

    def abandon(self) -> None:
        """Shut down in the background, because the client has been garbage collected.

        This takes no lock and does not wait, because garbage collection can happen at any point of
        any code.
        """
        if self not in _open or self._parts.core.forked:
            return
        # Read before the ending begins, which sets `thread` to None.
        is_threaded = self.thread is not None
        loop = None if is_threaded or self.runtime is None else self.runtime.loop
        # A loop that is stopped but not closed may run again, and its tasks are still on it. If it
        # does not, the session ends at the interpreter's exit.
        if loop is None or loop.is_running() or loop.is_closed():
            self._ending = on_new_thread(self._end)
        # This comes last, because a program may turn warnings into errors.
        self._warn("was garbage collected without a shutdown", "" if is_threaded else "await ")

    def end_with_interpreter(self) -> None:
        """Bill open holds, deliver events and release leases that are left, within the budget of a shutdown."""
        self.settle_holds()
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
            # Polled, because a loop that stops in the meantime runs no callback.
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
        # Unlike asyncio's default pool, this one can start threads at the interpreter's exit.
        workers = ThreadPool(thread_name_prefix="schematic-native worker")
        loop.set_default_executor(workers)
        try:
            loop.run_until_complete(finish())
        except Exception as error:  # noqa: BLE001 - no caller is left to raise it to
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


def _do_nothing() -> None:
    """Settle no hold, before there can be any."""


def forget_parent() -> None:
    """Forget, in a forked child, the sessions of the parent process."""
    _open.clear()


def end_all() -> None:
    """End every session that is still open."""
    for session in list(_open):
        session.end_with_interpreter()


def at_exit(end: Callable[[], None]) -> None:
    """Register a function that ends the open sessions at the interpreter's exit."""

    def end_in_child() -> None:
        """End the sessions of a multiprocessing child, which exits without running atexit."""
        multiprocessing = sys.modules.get("multiprocessing")
        if multiprocessing is not None and multiprocessing.parent_process() is not None:
            end()

    # At this point all non-daemon threads have ended, so no settle can come after it.
    atexit.register(end)
    # The threading module's own hook has no public name.
    register = getattr(threading, "_register_atexit", None)
    if register is not None:
        register(end_in_child)
