"""Holds for requests of Starlette and FastAPI, which are settled when the response has been sent.

A dependency of FastAPI may end before a streamed response does. So `hold_for` never ends a hold that it
begins: `HoldMiddleware` does, with the last byte of the response or when the browser disconnects.
"""

# ruff: noqa: SLF001 - a hold is part of this package

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection  # noqa: TC002 - FastAPI reads the annotation

from schematic_native.client import AsyncSchematic

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

    from starlette.applications import Starlette
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from schematic_native.client import AsyncHold
    from schematic_native.config.options import LookupKeys

PAYMENT_REQUIRED = 402
# The key of the scope under which the middleware keeps the holds of a request.
_HOLDS = "schematic_native.holds"


def lifespan(
    client: AsyncSchematic,
) -> Callable[[Starlette], AbstractAsyncContextManager[None]]:
    """Return a lifespan that starts the client with the application and shuts it down with it.

    Until then, it is `app.state.schematic`.
    """

    @asynccontextmanager
    async def live(app: Starlette) -> AsyncIterator[None]:
        async with client:
            app.state.schematic = client
            yield

    return live


def hold_for(
    client: AsyncSchematic,
    flag_key: str,
    *,
    company: LookupKeys | Callable[[Any], LookupKeys],
    user: LookupKeys | Callable[[Any], LookupKeys | None] | None = None,
    usage: float | Callable[[Any], float],
    **keywords: Any,
) -> Callable[[HTTPConnection], Awaitable[AsyncHold]]:
    """Return a dependency that holds credits for a request: `hold: Annotated[AsyncHold, Depends(...)]`.

    Starlette has no dependencies: call it with the request there. The response to a denied request has
    status 402 and the reason. The application needs `HoldMiddleware`.

    Args:
        client: of the application.
        flag_key: of the flag to check.
        company: lookup keys, or a function of the request that returns them.
        user: the same for the user.
        usage: units of the event to hold at first, or a function of the request.
        keywords: further arguments of `AsyncSchematic.hold`.

    Raises:
        TypeError: the client is not asynchronous.

    """
    if not isinstance(client, AsyncSchematic):
        raise TypeError(f"client must be an AsyncSchematic, got {client!r}")

    async def held(request: HTTPConnection) -> AsyncHold:
        holds = request.scope.get(_HOLDS)
        if holds is None:
            raise RuntimeError("the application needs HoldMiddleware: app.add_middleware(...)")

        def of_request(value: Any) -> Any:
            return value(request) if callable(value) else value

        hold = client.hold(
            flag_key,
            of_request(company),
            of_request(user),
            usage=of_request(usage),
            **keywords,
        )
        holds.append(hold)
        await hold.__aenter__()
        if not hold.allowed:
            raise HTTPException(PAYMENT_REQUIRED, hold.reason)
        return hold

    return held


class HoldMiddleware:
    """Ends the holds of a request when its response has been sent, or the browser has disconnected."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] not in {"http", "websocket"}:
            await self.app(scope, receive, send)
            return
        holds: list[AsyncHold] = []
        scope[_HOLDS] = holds

        async def send_and_settle(message: Message) -> None:
            await send(message)
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                await _end(holds)

        try:
            await self.app(scope, receive, send_and_settle)
        finally:
            await _end(holds)


async def _end(holds: list[AsyncHold]) -> None:
    try:
        while holds:
            await holds.pop()._finish()
    finally:
        # If this is cancelled, the others must not wait.
        while holds:
            holds.pop()._end_unawaited()
