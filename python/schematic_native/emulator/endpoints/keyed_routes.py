"""Routes that want the API key, and put what their handlers return into the API's envelope.

Capture has the key in each event instead, the admin API has none.
"""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.routing import Route

from schematic_native.emulator.endpoints.responses import wrapped
from schematic_native.emulator.errors import UnauthorizedError

if TYPE_CHECKING:
    from starlette.responses import Response

    from schematic_native.emulator.state.service import Service

Handler = Callable[[Request], Awaitable[Any]]
# Methods, separated by spaces; path; what to do.
RouteEntry = tuple[str, str, Handler]


def keyed_routes(service: Service, entries: Iterable[RouteEntry]) -> list[Route]:
    """Make the routes of a group of endpoints."""
    return [
        Route(path, _endpoint(service, handler), methods=methods.split())
        for methods, path, handler in entries
    ]


def _endpoint(service: Service, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        require_key(service, request.headers.get("x-schematic-api-key"))
        return wrapped(await handler(request))

    return endpoint


def require_key(service: Service, key: str | None) -> None:
    """Refuse a request without the seed's API key."""
    if key is None or not hmac.compare_digest(key.encode(), service.api_key.encode()):
        raise UnauthorizedError("missing or unknown API key")
