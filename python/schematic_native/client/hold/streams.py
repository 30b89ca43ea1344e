"""Iterators that count their items with a hold, and end the hold when they end.

A stream tells the two kinds of holds apart by their protocols, `with` or `async with`, because it must
not import the modules of `Hold` and `AsyncHold`, which import it.
"""

# ruff: noqa: SLF001 - a hold is part of its client

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar
from weakref import ref

from schematic_native.client.hold.denied import CreditsDenied
from schematic_native.client.hold.ending import C
from schematic_native.client.hold.renewing import RenewedHold
from schematic_native.ground.arguments import shown

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

T = TypeVar("T")
AnyHold: TypeAlias = RenewedHold[Any]


class _Stream(Generic[T]):
    """The base of both kinds of streams; it ends its hold when it is garbage collected, too."""

    # A stream that was not made has nothing to end.
    _has_ended = True

    def __init__(self, hold: AnyHold, units: Callable[[T], float]) -> None:
        self._hold = hold
        self._units = units
        self._has_begun = False
        hold._may_outlive = True
        hold._stream = ref(self)
        self._has_ended = False

    def takes_over(self) -> bool:
        """Tell whether the stream has not begun, so that the hold must stay open for it."""
        return not self._has_begun and not self._has_ended

    def __del__(self) -> None:
        if not self._has_ended:
            self._hold._end_unawaited()


class HoldStream(_Stream[T]):
    """An iterator that counts each item that it yields."""

    def __init__(self, hold: AnyHold, items: Iterable[T], units: Callable[[T], float]) -> None:
        self._items = iter(items)
        super().__init__(hold, units)

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        if self._has_ended:
            raise StopIteration
        try:
            if not self._has_begun:
                self._has_begun = True
                self._enter()
            item = next(self._items)
            self._hold.use(self._units(item))
        except BaseException:
            self.close()
            raise
        return item

    def _enter(self) -> None:
        hold = self._hold
        if hold._result is not None:
            return
        if not isinstance(hold, AbstractContextManager):
            raise RuntimeError("enter the hold before a stream that is not asynchronous")  # noqa: TRY004
        hold.__enter__()
        if not hold.allowed:
            raise CreditsDenied(hold.result)

    def close(self) -> None:
        """End the stream and the hold."""
        self._has_ended = True
        try:
            close = getattr(self._items, "close", None)
            if close is not None:
                close()
        finally:
            hold = self._hold
            hold._stream = None
            if isinstance(hold, AbstractContextManager):
                hold.__exit__(None, None, None)
            else:
                hold._end_unawaited()


class AsyncHoldStream(_Stream[T]):
    """An asynchronous iterator that counts each item that it yields."""

    def __init__(self, hold: AnyHold, items: AsyncIterable[T], units: Callable[[T], float]) -> None:
        self._items = items.__aiter__()
        super().__init__(hold, units)

    def __aiter__(self) -> AsyncIterator[T]:
        return self

    async def __anext__(self) -> T:
        if self._has_ended:
            raise StopAsyncIteration
        try:
            if not self._has_begun:
                self._has_begun = True
                await self._enter()
            item = await self._items.__anext__()
            self._hold.use(self._units(item))
        except BaseException:
            await self.aclose()
            raise
        return item

    async def _enter(self) -> None:
        hold = self._hold
        if hold._result is not None:
            return
        if isinstance(hold, AbstractAsyncContextManager):
            await hold.__aenter__()
        elif isinstance(hold, AbstractContextManager):
            hold.__enter__()
        if not hold.allowed:
            raise CreditsDenied(hold.result)

    async def aclose(self) -> None:
        """End the stream and the hold."""
        self._has_ended = True
        try:
            close = getattr(self._items, "aclose", None)
            if close is not None:
                await close()
        finally:
            hold = self._hold
            hold._stream = None
            if isinstance(hold, AbstractAsyncContextManager):
                await hold.__aexit__(None, None, None)
            else:
                hold._end_unawaited()  # waiting synchronously would block the event loop


def _can_be_iterated(items: object) -> bool:
    return isinstance(items, (AsyncIterable, Iterable)) or hasattr(items, "__getitem__")


class StreamedHold(RenewedHold[C]):
    """A hold that can count the items of a stream."""

    def stream(self, items: Iterable[T] | AsyncIterable[T], units: Callable[[T], float]) -> Any:
        """Yield the items, count `units(item)` for each, and end the hold when the stream ends.

        If the hold has not been entered, the first item enters it. If its block ends without an
        exception before the first item, the hold stays open until the stream ends.

        Raises:
            TypeError: items cannot be iterated, or units is no function.

        """
        if not _can_be_iterated(items):
            raise TypeError(f"items must be iterable, got {shown(items)}")
        if not callable(units):
            raise TypeError(f"units must be a function of an item, got {shown(units)}")
        if isinstance(items, AsyncIterable):
            return AsyncHoldStream(self, items, units)
        return HoldStream(self, items, units)
