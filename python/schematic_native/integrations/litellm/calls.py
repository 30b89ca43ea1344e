"""Holds around functions of LiteLLM's SDK and of its Router.

A call is held for before it is made, whatever retries and fallbacks it then takes, and ends with one
bill of what its answer has used.
"""

# ruff: noqa: SLF001 - a hold is a part of this package

from __future__ import annotations

import asyncio
import functools
import inspect
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

from schematic_native.client import AsyncHold, Hold, Schematic
from schematic_native.integrations.litellm.bills import Bill
from schematic_native.integrations.litellm.estimates import MOST, estimate
from schematic_native.integrations.litellm.streams import AsyncHeldStream, HeldStream

if TYPE_CHECKING:
    from collections.abc import Callable

    from schematic_native.client import AsyncSchematic
    from schematic_native.config.options import LookupKeys

F = TypeVar("F", bound="Callable[..., Any]")


def held(
    client: Schematic | AsyncSchematic,
    flag_key: str,
    *,
    company: LookupKeys | Callable[..., LookupKeys],
    user: LookupKeys | Callable[..., LookupKeys | None] | None = None,
    usage: float | Callable[..., float] | None = None,
    most: int = MOST,
    drain_for: float = 0,
    **keywords: Any,
) -> Callable[[F], F]:
    """Return a decorator of a function that LiteLLM gives: `held(...)(litellm.acompletion)`.

    What is called takes the same arguments and returns the same, a stream included. It holds an
    estimate of the tokens, and bills those that the answer tells: once, whatever retries and
    fallbacks were needed. A call that fails bills nothing; a stream that fails or is left bills
    what came of it. An answer out of LiteLLM's cache is not billed. A stream is to be read to its
    end, or closed.

    Args:
        client: a Schematic, or for asynchronous functions an AsyncSchematic.
        flag_key: the flag, whose event counts tokens.
        company: its lookup keys, or a function of the call's arguments that returns them.
        user: the same of the user.
        usage: tokens to hold at first, or a function of the call's arguments; by default those of
            the prompt and as many as the answer may have at most (1024 if the call does not say).
        most: what the default holds at first at most; it grows as an answer comes.
        drain_for: seconds for which a stream that was left is read on, up to its usage, so that the
            bill is the provider's; by default what was seen is billed, and its tokens are counted here.
        keywords: further ones of `Schematic.hold`.

    Raises:
        CreditsDenied: by a call: denied; nothing was asked of a provider.
        TypeError: the client is asynchronous, and the function is not.

    """
    terms = _Terms(
        client, flag_key, company, user, usage, most, drain_for, {"required": True} | keywords
    )

    def decorate(function: F) -> F:
        if inspect.iscoroutinefunction(function):
            return cast("F", _call_async(terms, function))
        if not isinstance(client, Schematic):
            raise TypeError(
                f"{function!r} is not asynchronous: it needs a Schematic, not {client!r}"
            )
        return cast("F", _call(terms, function))

    return decorate


class _Terms(NamedTuple):
    """What `held` was told: values, or functions of the call's arguments."""

    client: Schematic | AsyncSchematic
    flag_key: str
    company: Any
    user: Any
    usage: Any
    most: int
    drain_for: float
    keywords: dict[str, Any]

    def begin(
        self, function: Callable[..., Any], arguments: tuple[Any, ...], keywords: dict[str, Any]
    ) -> tuple[Hold | AsyncHold, Bill]:
        """Return the hold and the bill of one call."""

        def of_call(value: Any) -> Any:
            return value(*arguments, **keywords) if callable(value) else value

        named = dict(zip(_positions(function), arguments, strict=False)) | keywords
        likely = estimate(named, has_answer="embedding" not in function.__name__)
        usage = likely.usage(self.most) if self.usage is None else of_call(self.usage)
        hold = self.client.hold(
            self.flag_key, of_call(self.company), of_call(self.user), usage=usage, **self.keywords
        )
        return hold, Bill(likely.prompt)


def _call(terms: _Terms, function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*arguments: Any, **keywords: Any) -> Any:
        hold, bill = terms.begin(function, arguments, keywords)
        hold = cast("Hold", hold)
        with hold:
            hides = _tell_usage(function, keywords)
            response = function(*arguments, **keywords)
            if not hasattr(response, "__next__"):
                _settle(hold, bill, response)
                return response
            hold._leave_open()
        return HeldStream(response, hold, bill, hides=hides, drain_for=terms.drain_for)

    return call


def _call_async(terms: _Terms, function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    async def call(*arguments: Any, **keywords: Any) -> Any:
        hold, bill = terms.begin(function, arguments, keywords)
        await enter(hold)
        is_left = False
        try:
            hides = _tell_usage(function, keywords)
            response = await function(*arguments, **keywords)
            if not hasattr(response, "__anext__"):
                _settle(hold, bill, response)
                return response
            is_left = True
        finally:
            if not is_left:
                await leave(hold)
        return AsyncHeldStream(response, hold, bill, hides=hides, drain_for=terms.drain_for)

    return call


async def enter(hold: Hold | AsyncHold) -> None:
    """Enter a hold of either client without holding up the loop.

    Raises:
        CreditsDenied: denied, though required.

    """
    if isinstance(hold, AsyncHold):
        await hold.__aenter__()
        return
    entering = asyncio.get_running_loop().run_in_executor(None, hold.__enter__)

    def end(entered: asyncio.Future[Hold]) -> None:
        if entered.exception() is None:
            hold._end_unawaited()

    try:
        await asyncio.shield(entering)
    except asyncio.CancelledError:
        entering.add_done_callback(end)
        raise


async def leave(hold: Hold | AsyncHold) -> None:
    """Settle a hold of either client without holding up the loop."""
    if isinstance(hold, AsyncHold):
        await hold._finish()
    else:
        hold._end_unawaited()


def _settle(hold: Hold | AsyncHold, bill: Bill, response: Any) -> None:
    bill.see(response)
    bill.charge(hold)


@functools.lru_cache(maxsize=64)
def _positions(function: Callable[..., Any]) -> tuple[str, ...]:
    """Name the positional parameters of a function."""
    return tuple(inspect.signature(function).parameters)


def _tell_usage(function: Callable[..., Any], keywords: dict[str, Any]) -> bool:
    """Have a stream tell its usage; returns whether that is to be kept from the caller."""
    if not keywords.get("stream") or "responses" in function.__name__:
        return False
    given = keywords.get("stream_options") or {}
    if given.get("include_usage"):
        return False
    keywords["stream_options"] = {**given, "include_usage": True}
    return True
