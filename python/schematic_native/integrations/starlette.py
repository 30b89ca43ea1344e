"""Holds for requests of Starlette and FastAPI, settled when the response has been sent.

A dependency of FastAPI may end before a streamed response does. So `hold_for` only begins the hold;
`HoldMiddleware` ends it, with the last byte of the response, or when the client has gone.
"""

# ruff: noqa: SLF001 - a hold is a part of this package

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
# Where the middleware keeps the holds of a request, in its scope.
_HOLDS = "schematic_native.holds"


def lifespan(
    client: AsyncSchematic,
) -> Callable[[Starlette], AbstractAsyncContextManager[None]]:
    """Return a lifespan that starts the client with the application and shuts it down with it.

    It is `app.state.schematic` meanwhile.
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

    Where there are no dependencies, it is called with the request. A request that is denied is
    answered with status 402 and the reason. The application needs `HoldMiddleware`.

    Args:
        client: the application's client.
        flag_key: the flag.
        company: its lookup keys, or a function of the request that returns them.
        user: the same of the user.
        usage: event units to hold at first, or a function of the request.
        keywords: further ones of `AsyncSchematic.hold`.

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
    """Ends the holds of a request when its response has been sent, or the client has gone."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
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
        # Whoever cancels this does not wait for the others.
        while holds:
            holds.pop()._end_unawaited()
