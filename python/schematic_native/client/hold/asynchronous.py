"""`AsyncHold`: the hold of the asynchronous client, used with `async with`.

It only waits; `ending`, `growing` and `renewing` decide.
"""

# ruff: noqa: SLF001 - a hold is part of its client

from __future__ import annotations

from typing import TYPE_CHECKING

from schematic_native.client.awaiting import AwaitingClient
from schematic_native.client.hold.ending import finish_owed
from schematic_native.client.hold.streams import StreamedHold

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from schematic_native._native import CheckResult, PendingCheck
    from schematic_native.leases.requests import CheckArguments


class AsyncHold(StreamedHold[AwaitingClient]):
    """Credits held for a block of work: see `AsyncSchematic.hold`."""

    async def __aenter__(self) -> Self:
        """Check the flag and hold the credits.

        Raises:
            CreditsDenied: the check denies, and the hold was created with `required`.
            TypeError, ValueError: an argument is wrong; nothing is held.

        """
        begun = self._begin()
        if begun is not True:
            try:
                # A pending check is falsy.
                self._accept_first_check(begun or await self._finish_check(self._arguments, begun))
            except BaseException:
                self._is_entering = False
                raise
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._stream is not None and self._hands_over(exc):
            return
        if not self._ends_at_once():
            await self._finish()

    async def _finish_check(
        self, arguments: CheckArguments, begun: PendingCheck | None
    ) -> CheckResult:
        """Finish a check that memory could not answer."""
        return await self._client._check_waiting(arguments, begun, self._ttl, self._repeat_key())

    async def _finish(self) -> None:
        """Settle everything; this continues if the caller is cancelled."""
        owing = self._end()
        if not owing:
            return
        import asyncio  # noqa: PLC0415 - loaded where I/O runs

        runtime = self._client._runtime
        if runtime is None or runtime.loop is not asyncio.get_running_loop():
            for owed in owing:
                self._finish_owed_in_background(owed)
            return
        tasks = [asyncio.ensure_future(finish_owed(runtime, owed)) for owed in owing]
        # A shielded gather would complain that nobody took its cancellation when the loop ends meanwhile.
        await asyncio.wait(tasks)
        for task in tasks:
            task.result()

    async def reserve(self, units: float) -> bool:
        """Hold enough for this many more units, and tell whether that succeeded.

        If the feature uses no credits, this tells whether the work is allowed.
        """
        missing = self._missing_units(units)
        if missing <= 0:
            return True
        if not self.allowed:
            return False
        arguments = self._arguments_for(missing)
        begun = self._client._begin_now(*arguments, self._ttl)
        result = begun or await self._finish_check(arguments, begun)
        return self._is_held(result, missing)
