"""How the synchronous client waits: it blocks while a coroutine runs on the client's I/O thread.

With a synchronous Redis client, the commands run on the caller's thread, which saves a thread switch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from schematic_native._native import CheckResult
from schematic_native.client.event_buffer import (
    Buffered,
    EventBuffer,
    as_pushed,
    replaced_push,
)
from schematic_native.client.lease_checks import LeaseChecks
from schematic_native.client.waiting import outcome_of

if TYPE_CHECKING:
    from schematic_native._native import OwedClaim, PendingCheck
    from schematic_native.client.event_arguments import IdentifyEvent, TrackEvent
    from schematic_native.client.runtime import Runtime
    from schematic_native.client.waiting import Waiting
    from schematic_native.leases.requests import CheckArguments
    from schematic_native.leases.store_calls import StoreCalls

Outcome = TypeVar("Outcome")
Answer = TypeVar("Answer")

# Seconds that a synchronous caller waits beyond the check's own timeout, so that the check can still
# report what timed out.
GRACE = 0.05


class BlockingClient(LeaseChecks, Buffered[EventBuffer]):
    """A client whose calls block the calling thread while they wait."""

    _buffer_kind = EventBuffer

    def _finish(self, waiting: Waiting[Outcome, Answer]) -> Answer:
        """Wait for the outcome of a call, slightly longer than its timeout, and conclude the call."""
        from schematic_native.client.loop_thread import (  # noqa: PLC0415 - for I/O only
            LateError,
            LoopEndedError,
        )

        runtime = self._ensure_running()
        thread = self._session.thread
        if runtime is None or thread is None:
            return waiting.conclude(waiting.late())
        try:
            outcome = thread.call(lambda: waiting.work(runtime), waiting.timeout + GRACE)
        except (LateError, LoopEndedError):
            outcome = waiting.late()
        return waiting.conclude(outcome)

    def _check_waiting(
        self,
        arguments: CheckArguments,
        pending: PendingCheck | None,
        ttl: float | None = None,
        key: str | None = None,
    ) -> CheckResult:
        """Finish a check that memory could not answer."""
        begun = self._begin_check(self._read_check(arguments, ttl, key), pending)
        return begun if isinstance(begun, CheckResult) else self._finish(begun)

    def _queue(self, method: str, event: TrackEvent | IdentifyEvent) -> None:
        """Queue an event, unless the client is offline or shut down."""
        if self._refuses_event(method):
            return
        push = None if self._buffer is None else replaced_push(self._buffer)
        if push is None:
            self._put(event)
            return
        try:
            push(as_pushed(event))
        except Exception as error:  # noqa: BLE001 - the program's own push may raise anything
            self._push_failed(error)

    def _put(self, event: TrackEvent | IdentifyEvent) -> None:
        event.queue(self._core)
        runtime = self._ensure_running()
        if runtime is not None and event.has_follow_up(runtime):
            runtime.loop.call_soon_threadsafe(event.follow_up, runtime)

    def _reset(self) -> None:
        """Create fresh state, for a new client and for a forked child process."""
        super()._reset()
        self._calls = self._store_calls()

    def _store_calls(self) -> StoreCalls | None:
        if self._store is None:
            return None
        from schematic_native.leases.store_calls import calls_of  # noqa: PLC0415 - only with Redis

        return calls_of(self._store, self._core, self._faults)

    def _advance(self, pending: PendingCheck, timeout: float) -> CheckResult | PendingCheck:
        """Run the next step on this thread if the Redis client is synchronous: no thread switch."""
        return pending if self._calls is None else self._calls.advance(pending, timeout)

    def _claim(self, owed: OwedClaim) -> None:
        """Make the claim of a settle, on this thread if possible and otherwise on the I/O thread.

        A claim that fails or is interrupted is retried before its usage is sent, or at a sweep.
        """
        if self._calls is not None:
            self._calls.claim(owed)
            return
        from schematic_native.leases.lease_store import STORE_TIMEOUT  # noqa: PLC0415

        self._finish(outcome_of(lambda runtime: runtime.claim(owed), STORE_TIMEOUT))

    def _ensure_running(self) -> Runtime | None:
        """Start the I/O thread on first use; returns None once the client is shut down."""
        self._restart_if_forked()
        session = self._session
        if session.runtime is not None:
            return session.runtime
        with session.starting:
            if self._closed:
                return None
            if session.runtime is None:
                from schematic_native.client.loop_thread import LoopThread  # noqa: PLC0415 - for I/O only

                async def start() -> None:
                    # Runs on the loop, so that it completes even if the caller is interrupted.
                    self._start()

                try:
                    if session.thread is None:
                        session.thread = LoopThread()
                except RuntimeError as error:
                    # Since Python 3.12, no thread can be started once the main thread has ended.
                    self._faults.raised("start", str(error))
                    return None
                session.keep()
                session.thread.call(start)
        if self._does_no_io:
            # Another thread has shut the client down, perhaps before there was a thread to stop.
            session.shut_down()
            return None
        return session.runtime
