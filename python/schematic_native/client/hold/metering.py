"""`metered`: a hold around each call of a function, or for as long as its generator runs.

It only wraps functions; holding and billing are left to the hold.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar, cast

from schematic_native.client.awaiting import AwaitingClient
from schematic_native.client.hold.asynchronous import AsyncHold
from schematic_native.ground.arguments import read_text, shown

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from types import TracebackType

    from schematic_native.client.hold.synchronous import Hold

F = TypeVar("F", bound="Callable[..., Any]")


class Client(Protocol):
    """What the decorator needs of a client of either kind."""

    @property
    def hold(self) -> Callable[..., Hold | AsyncHold]:
        """The client's method `hold`."""


class Metering(NamedTuple):
    """The arguments of `metered`: values, or functions of the call's arguments."""

    client: Client
    flag_key: str
    company: object
    user: object
    usage: object
    units: Callable[[Any], float]
    keywords: dict[str, Any]

    def hold(self, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Hold | AsyncHold:
        """Create the hold of one call."""

        def of_call(value: Any) -> Any:
            return value(*arguments, **keywords) if callable(value) else value

        return self.client.hold(
            self.flag_key,
            of_call(self.company),
            of_call(self.user),
            usage=of_call(self.usage),
            required=True,
            **self.keywords,
        )

    def wrap(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function with a hold around each call."""
        import inspect  # noqa: PLC0415 - takes long to load

        if inspect.isasyncgenfunction(function):
            return self._wrap_async_generator(function)
        if inspect.iscoroutinefunction(function):
            return self._wrap_coroutine(function)
        if isinstance(self.client, AwaitingClient):
            raise TypeError(
                f"{function!r} is not asynchronous: an AsyncSchematic cannot wait for its hold"
            )
        if inspect.isgeneratorfunction(function):
            return self._wrap_generator(function)
        return self._wrap_function(function)

    def _wrap_function(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*arguments: Any, **keywords: Any) -> Any:
            with _synchronous(self.hold(arguments, keywords)) as hold:
                result = function(*arguments, **keywords)
                hold.use(self.units(result))
                return result

        return call

    def _wrap_generator(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def generate(*arguments: Any, **keywords: Any) -> Iterator[Any]:
            with _synchronous(self.hold(arguments, keywords)) as hold:
                yield from hold.stream(function(*arguments, **keywords), self.units)

        return generate

    def _wrap_coroutine(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        async def call(*arguments: Any, **keywords: Any) -> Any:
            async with _Entered(self.hold(arguments, keywords)) as hold:
                result = await function(*arguments, **keywords)
                hold.use(self.units(result))
                return result

        return call

    def _wrap_async_generator(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        async def generate(*arguments: Any, **keywords: Any) -> AsyncIterator[Any]:
            async with _Entered(self.hold(arguments, keywords)) as hold:
                stream = hold.stream(function(*arguments, **keywords), self.units)
                try:
                    async for item in stream:
                        yield item
                finally:
                    await stream.aclose()

        return generate


class _Entered:
    """A hold of either client as an asynchronous context manager."""

    def __init__(self, hold: Hold | AsyncHold) -> None:
        self._hold = hold

    async def __aenter__(self) -> Hold | AsyncHold:
        hold = self._hold
        return await hold.__aenter__() if isinstance(hold, AsyncHold) else hold.__enter__()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if isinstance(self._hold, AsyncHold):
            await self._hold.__aexit__(exc_type, exc, traceback)
        else:
            self._hold.__exit__(exc_type, exc, traceback)


def _synchronous(hold: Hold | AsyncHold) -> Hold:
    if isinstance(hold, AsyncHold):
        raise TypeError("an AsyncSchematic meters asynchronous functions")
    return hold


def metered(metering: Metering) -> Callable[[F], F]:
    """Return the decorator for the method `metered` of both clients."""
    read_text("flag_key", metering.flag_key)
    if not callable(metering.units):
        raise TypeError(f"units must be a function of the result, got {shown(metering.units)}")

    def decorate(function: F) -> F:
        return cast("F", metering.wrap(function))

    return decorate
