"""Holds for views of Flask, which are settled when the response has been sent.

Nothing here works without a request.
"""

# ruff: noqa: SLF001 - a hold is part of this package

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, TypeVar, cast

import flask

if TYPE_CHECKING:
    from collections.abc import Callable

    from schematic_native.client import Schematic
    from schematic_native.config.options import LookupKeys

F = TypeVar("F", bound="Callable[..., Any]")

PAYMENT_REQUIRED = 402


def held(
    client: Schematic,
    flag_key: str,
    *,
    company: LookupKeys | Callable[..., LookupKeys],
    user: LookupKeys | Callable[..., LookupKeys | None] | None = None,
    usage: float | Callable[..., float],
    **keywords: Any,
) -> Callable[[F], F]:
    """Return a decorator that holds credits for each request of a view, and passes the hold to it as `hold`.

    Put it below the route. The response to a denied request has status 402 and the reason. A streamed
    response keeps the hold until it ends or the browser disconnects.

    Args:
        client: of the application.
        flag_key: of the flag to check.
        company: lookup keys, or a function of the view's arguments that returns them.
        user: the same for the user.
        usage: units of the event to hold at first, or a function of the view's arguments.
        keywords: further arguments of `Schematic.hold`.

    """

    def decorate(view: F) -> F:
        @functools.wraps(view)
        def serve(*arguments: Any, **values: Any) -> flask.Response:
            def of_call(value: Any) -> Any:
                return value(*arguments, **values) if callable(value) else value

            hold = client.hold(
                flag_key, of_call(company), of_call(user), usage=of_call(usage), **keywords
            )
            with hold:
                if not hold.allowed:
                    return flask.make_response({"error": hold.reason}, PAYMENT_REQUIRED)
                answer = flask.current_app.ensure_sync(view)(*arguments, hold=hold, **values)
                response = flask.make_response(answer)
                hold._leave_open()
            response.call_on_close(hold._close)
            return response

        return cast("F", serve)

    return decorate
