"""`AsyncHold`: the hold of the asynchronous client, for `async with`."""

# ruff: noqa: SLF001 - a hold is a part of its client

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from schematic_native.client.awaiting import AwaitingClient
from schematic_native.client.hold.ending import work_off
from schematic_native.client.hold.renewing import RenewedHold
from schematic_native.client.hold.streams import stream

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Callable, Iterable
    from types import TracebackType

    from typing_extensions import Self

    from schematic_native._native import CheckResult, PendingCheck
    from schematic_native.leases.requests import CheckArguments

T = TypeVar("T")


class AsyncHold(RenewedHold[AwaitingClient]):
    """Credits held for a block of work: see `AsyncSchematic.hold`."""

    async def __aenter__(self) -> Self:
        """Check, and hold.

        Raises:
            CreditsDenied: denied, though required.
            TypeError, ValueError: an argument is wrong; nothing is held.

        """
        begun = self._begin()
        if begun is not True:
            # What waits is false.
            self._take(begun or await self._finish_check(self._arguments, begun))
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._stream is not None and self._passes_on(exc):
            return
        if not self._ends_at_once():
            await self._finish()

    async def _finish_check(
        self, arguments: CheckArguments, begun: PendingCheck | None
    ) -> CheckResult:
        """Finish a check that memory could not answer."""
        return await self._client._check_waiting(arguments, begun, self._ttl, self._repeat_key())

    async def _finish(self) -> None:
        """Settle everything; what that waits for goes on if the caller is cancelled."""
        owing = self._end()
        if not owing:
            return
        import asyncio  # noqa: PLC0415 - loaded where I/O runs

        runtime = self._client._runtime
        if runtime is None or runtime.loop is not asyncio.get_running_loop():
            for owed in owing:
                self._leave(owed)
            return
        tasks = [asyncio.ensure_future(work_off(runtime, owed)) for owed in owing]
        await asyncio.shield(asyncio.gather(*tasks))

    async def reserve(self, units: float) -> bool:
        """Make sure that so many more units are held now; tells whether they are.

        Where nothing is metered it tells whether the work is allowed.
        """
        missing = self._lacks(units)
        if missing <= 0:
            return True
        if not self.allowed:
            return False
        arguments = self._ask_for(missing)
        begun = self._client._begin_now(*arguments, self._ttl)
        result = begun or await self._finish_check(arguments, begun)
        return self._is_held(result, missing)

    def stream(self, items: Iterable[T] | AsyncIterable[T], units: Callable[[T], float]) -> Any:
        """Yield the items, counting `units(item)` of each, and end the hold with the stream.

        A hold that has not been entered is entered with the first item; one whose block ends well
        before that goes on until the stream ends.
        """
        return stream(self, items, units)
