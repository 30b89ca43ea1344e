"""The ASGI application: every request is counted, meets the faults in force, and then its endpoint."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect
from starlette.routing import WebSocketRoute

from schematic_native.emulator.components import Components
from schematic_native.emulator.dashboard import routes as dashboard
from schematic_native.emulator.endpoints import (
    admin,
    credit_leases,
    flag_checks,
    management_catalogue,
    management_credits,
    management_entities,
    management_tokens,
)
from schematic_native.emulator.endpoints.capture import capture
from schematic_native.emulator.endpoints.datastream import DataStream
from schematic_native.emulator.endpoints.responses import refused
from schematic_native.emulator.errors import ServiceError
from schematic_native.emulator.fault_injector import FaultInjector
from schematic_native.emulator.traffic import ADMIN, Traffic, place_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute
    from starlette.websockets import WebSocket

    from schematic_native.emulator.state.service import Service

    Message = MutableMapping[str, Any]
    Scope = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]


class App:
    """The outermost ASGI callable."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.traffic = Traffic()
        self.stream = DataStream(service)
        self.injector = FaultInjector(self.stream, self._serve)
        self.components = Components(service, self.stream, self.injector, self.traffic)
        routes = [
            *credit_leases.routes(service),
            *flag_checks.routes(service),
            *management_entities.routes(service, self.stream),
            *management_catalogue.routes(service),
            *management_credits.routes(service),
            *management_tokens.routes(service),
        ]
        self.traffic.name_endpoints(
            [
                (["WebSocket"], re.compile("/datastream$"), "/datastream"),
                *((route.methods or (), route.path_regex, route.path) for route in routes),
            ]
        )
        self._service_routes = self._routed(
            [WebSocketRoute("/datastream", self._serve_stream), *routes]
        )
        # Apart, as Starlette tries one route after the other.
        self._own_routes = self._routed(
            [*dashboard.routes(self.components), *admin.routes(self.components)]
        )

    def _routed(self, routes: list[BaseRoute]) -> Starlette:
        return Starlette(
            routes=routes,
            exception_handlers={
                ServiceError: _answer_service_error,
                404: self._answer_unknown,
                405: self._answer_wrong_method,
                Exception: _answer_failure,
            },
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or WebSocket."""
        place = place_of(scope["path"])
        self.traffic.requests[place] += 1
        if place == ADMIN:
            await _unless_gone(self._own_routes, scope, receive, send)
            return
        answer = self.traffic.observe(scope, send)
        try:
            await self.injector.serve(place, scope, receive, answer.send)
        finally:
            answer.end()

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/batch" and scope.get("method") == "POST":
            await capture(self.service, scope, receive, send)
            return
        await _unless_gone(self._service_routes, scope, receive, send)

    async def _answer_unknown(self, request: Request, _error: Exception) -> Response:
        asked = f"{request.method} {request.url.path}"
        self.traffic.unknown[asked] += 1
        return refused(404, f"no such endpoint: the emulator does not know {asked}")

    async def _answer_wrong_method(self, request: Request, error: Exception) -> Response:
        self.traffic.unknown[f"{request.method} {request.url.path}"] += 1
        headers = getattr(error, "headers", None) or {}
        allowed = headers.get("Allow", "another method")
        return refused(405, f"{request.url.path} takes {allowed}, not {request.method}", headers)

    async def _serve_stream(self, socket: WebSocket) -> None:
        await self.stream.serve(socket, silent=socket.scope.get("silent", False))


async def _unless_gone(routed: Starlette, scope: Scope, receive: Receive, send: Send) -> None:
    try:
        await routed(scope, receive, send)
    except ClientDisconnect:
        # A client that did not wait for a delayed request to be read is no fault of ours.
        return


async def _answer_service_error(_request: Request, error: Exception) -> Response:
    status = error.status if isinstance(error, ServiceError) else 500
    return refused(status, str(error))


async def _answer_failure(_request: Request, error: Exception) -> Response:
    """Answer a fault of the emulator's own as the service would; the server logs the trace."""
    return refused(500, f"internal error: {error!r}")
