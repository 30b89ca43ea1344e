"""How the asynchronous client waits: on the caller's event loop, on which its I/O runs as well.

It must never block that loop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from schematic_native._native import CheckResult
from schematic_native.client.event_buffer import (
    AsyncEventBuffer,
    Buffered,
    as_pushed,
    replaced_push,
)
from schematic_native.client.lease_checks import LeaseChecks

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from schematic_native._native import PendingCheck
    from schematic_native.client.event_arguments import IdentifyEvent, TrackEvent
    from schematic_native.client.runtime import Runtime
    from schematic_native.client.waiting import Waiting
    from schematic_native.leases.requests import CheckArguments

Outcome = TypeVar("Outcome")
Answer = TypeVar("Answer")


class AwaitingClient(LeaseChecks, Buffered[AsyncEventBuffer]):
    """A client whose calls are awaited on one event loop."""

    _buffer_kind = AsyncEventBuffer

    async def _finish(self, waiting: Waiting[Outcome, Answer]) -> Answer:
        """Wait for the outcome of a call, and conclude the call."""
        return waiting.conclude(await waiting.work(self._running()))

    async def _check_waiting(
        self,
        arguments: CheckArguments,
        pending: PendingCheck | None,
        ttl: float | None = None,
        key: str | None = None,
    ) -> CheckResult:
        """Finish a check that memory could not answer."""
        request = self._read_check(arguments, ttl, key)
        if pending is not None and pending.need != "plain":
            # Without the detour over `Waiting`, as nothing else can answer it.
            return self._conclude_check(request, await self._running().check(request, pending))
        begun = self._begin_check(request, pending)
        return begun if isinstance(begun, CheckResult) else await self._finish(begun)

    def _queue(
        self, method: str, event: TrackEvent | IdentifyEvent
    ) -> Coroutine[object, object, None] | None:
        """Queue an event, unless the client is offline or shut down; return what to await, if anything."""
        if self._refuses_event(method):
            return None
        push = None if self._buffer is None else replaced_push(self._buffer)
        if push is not None:
            return self._hand_over(push, event)
        self._put(event)
        return None

    async def _hand_over(
        self, push: Callable[[Any], Any], event: TrackEvent | IdentifyEvent
    ) -> None:
        from schematic_native.cache.provider_calls import result_of  # noqa: PLC0415 - loads asyncio

        try:
            await result_of(push, as_pushed(event))
        except Exception as error:  # noqa: BLE001 - the program's own push may raise anything
            self._push_failed(error)

    def _put(self, event: TrackEvent | IdentifyEvent) -> None:
        # This comes first: if this event loop is refused, nothing may have been queued.
        runtime = self._running()
        event.queue(self._core)
        if event.has_follow_up(runtime):
            event.follow_up(runtime)

    def _running(self) -> Runtime:
        """Return the runtime, and start it on this loop if there is none or its loop is closed."""
        import asyncio  # noqa: PLC0415 - loaded when I/O starts

        self._restart_if_forked()
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise RuntimeError(
                "AsyncSchematic does its I/O on asyncio, and no asyncio event loop runs here: call it "
                "within asyncio.run, or use Schematic on a thread, as under trio"
            ) from None
        runtime = self._runtime
        if runtime is None or runtime.loop.is_closed():
            runtime = self._start()
        elif runtime.loop is not loop:
            raise RuntimeError(
                "this AsyncSchematic runs on another event loop: use one client per loop"
            )
        return runtime
