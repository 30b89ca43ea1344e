"""The requests of the page: itself, its script and style, its feed, and a check that is tried."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING

from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from schematic_native.emulator.dashboard.check_result import check
from schematic_native.emulator.dashboard.check_section import PATH as CHECK
from schematic_native.emulator.dashboard.feed import Feed
from schematic_native.emulator.dashboard.page import ASSETS, page
from schematic_native.emulator.endpoints.own_page_guard import require_own_page
from schematic_native.emulator.endpoints.request_body import read_object

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request

    from schematic_native.emulator.components import Components

_HEADERS = {
    # Nothing from elsewhere, nothing inline, and no other page around this one.
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src data:; form-action 'none'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


def routes(components: Components) -> list[Route]:
    """Return the routes of the page."""

    async def show(request: Request) -> Response:
        url = f"http://{request.headers['host']}"
        return HTMLResponse(page(components, url, components.control_url), headers=_HEADERS)

    async def stream(_request: Request) -> Feed:
        return Feed(components, _HEADERS)

    async def try_check(request: Request) -> Response:
        result = check(components.service, await read_object(request))
        return HTMLResponse(result, headers=_HEADERS)

    return [
        _route("GET", "/", show),
        _route("GET", f"{ASSETS}/feed", stream),
        _route("POST", CHECK, try_check),
        _route("GET", f"{ASSETS}/dashboard.css", _asset("dashboard.css", "text/css")),
        _route("GET", f"{ASSETS}/dashboard.js", _asset("dashboard.js", "text/javascript")),
    ]


def _route(
    method: str, path: str, handle: Callable[[Request], Awaitable[Response | Feed]]
) -> Route:
    async def endpoint(request: Request) -> Response | Feed:
        require_own_page(request)
        return await handle(request)

    return Route(path, endpoint, methods=[method])


def _asset(name: str, media_type: str) -> Callable[[Request], Awaitable[Response | Feed]]:
    folder = resources.files("schematic_native.emulator.dashboard").joinpath("assets")

    async def serve(_request: Request) -> Response:
        return Response(folder.joinpath(name).read_bytes(), media_type=media_type, headers=_HEADERS)

    return serve
