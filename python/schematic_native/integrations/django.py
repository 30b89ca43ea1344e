"""Holds for views of Django, under WSGI and ASGI, which are settled when the response has been sent.

An event loop is never blocked by a synchronous client.
"""

# ruff: noqa: SLF001 - a hold is part of this package

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, TypeVar, cast

from asgiref.sync import iscoroutinefunction, sync_to_async
from django.http import HttpResponseBase, JsonResponse

from schematic_native.client import AsyncHold, Hold

if TYPE_CHECKING:
    from collections.abc import Callable

    from schematic_native.client import AsyncSchematic, Schematic
    from schematic_native.config.options import LookupKeys

F = TypeVar("F", bound="Callable[..., Any]")

PAYMENT_REQUIRED = 402


def held(
    client: Schematic | AsyncSchematic,
    flag_key: str,
    *,
    company: LookupKeys | Callable[..., LookupKeys],
    user: LookupKeys | Callable[..., LookupKeys | None] | None = None,
    usage: float | Callable[..., float],
    **keywords: Any,
) -> Callable[[F], F]:
    """Return a decorator that holds credits for each request of a view, and passes the hold to it as `hold`.

    The response to a denied request has status 402 and the reason. A streamed response keeps the hold
    until it ends or the browser disconnects.

    Args:
        client: of the project: a Schematic, or, only under ASGI, an AsyncSchematic.
        flag_key: of the flag to check.
        company: lookup keys, or a function of the view's arguments that returns them.
        user: the same for the user.
        usage: units of the event to hold at first, or a function of the view's arguments.
        keywords: further arguments of `Schematic.hold`.

    Raises:
        TypeError: the client is asynchronous, and the view is not.

    """

    def make(arguments: tuple[Any, ...], values: dict[str, Any]) -> Hold | AsyncHold:
        def of_call(value: Any) -> Any:
            return value(*arguments, **values) if callable(value) else value

        return client.hold(
            flag_key, of_call(company), of_call(user), usage=of_call(usage), **keywords
        )

    def decorate(view: F) -> F:
        wrap = _serve_async if iscoroutinefunction(view) else _serve
        return cast("F", wrap(view, make))

    return decorate


def _serve(
    view: Callable[..., Any], make: Callable[..., Hold | AsyncHold]
) -> Callable[..., HttpResponseBase]:
    @functools.wraps(view)
    def serve(*arguments: Any, **values: Any) -> HttpResponseBase:
        hold = make(arguments, values)
        if isinstance(hold, AsyncHold):
            raise TypeError(f"{view!r} is not asynchronous: it needs a Schematic")
        with hold:
            if not hold.allowed:
                return _denied(hold)
            return _hand_over(hold, view(*arguments, hold=hold, **values))

    return serve


def _serve_async(
    view: Callable[..., Any], make: Callable[..., Hold | AsyncHold]
) -> Callable[..., Any]:
    @functools.wraps(view)
    async def serve(*arguments: Any, **values: Any) -> HttpResponseBase:
        hold = make(arguments, values)
        if isinstance(hold, AsyncHold):
            await hold.__aenter__()
        else:
            # It may have to wait, which must not block the loop.
            await sync_to_async(hold.__enter__, thread_sensitive=False)()
        try:
            if not hold.allowed:
                return _denied(hold)
            return _hand_over(hold, await view(*arguments, hold=hold, **values))
        finally:
            if isinstance(hold, AsyncHold):
                await hold.__aexit__(None, None, None)
            elif not hold._is_left():
                hold._end_unawaited()

    return serve


def _denied(hold: Hold | AsyncHold) -> HttpResponseBase:
    return JsonResponse({"error": hold.reason}, status=PAYMENT_REQUIRED)


def _hand_over(hold: Hold | AsyncHold, response: HttpResponseBase) -> HttpResponseBase:
    """Make a streamed response keep the hold until it ends; any other already has its content."""
    if response.streaming:
        streamed = cast("Any", response)
        # Django closes it with the response. The view has counted its items.
        streamed.streaming_content = hold.stream(streamed.streaming_content, lambda _: 0)
    return response
