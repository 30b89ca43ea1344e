"""The ASGI application: faults first, then capture, REST, DataStream and the admin API."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from schematic_native.emulator import admin, management, rest
from schematic_native.emulator.answers import deny, refused
from schematic_native.emulator.capture import capture
from schematic_native.emulator.datastream import DataStream
from schematic_native.emulator.errors import ServiceError
from schematic_native.emulator.faults import Fault, Faults

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    from starlette.requests import Request
    from starlette.responses import Response

    from schematic_native.emulator.service import Service

    Message = MutableMapping[str, Any]
    Scope = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]

_LEASE = "/billing/credits/lease"
_PLACES: list[tuple[re.Pattern[str], str]] = [
    (re.compile(admin.PREFIX + "/.*"), "admin"),
    (re.compile("/batch"), "capture"),
    (re.compile("/datastream"), "datastream"),
    (re.compile(_LEASE), "acquire"),
    (re.compile(_LEASE + "/[^/]+/extend"), "extend"),
    (re.compile("/billing/credits/(lease|reservations)/[^/]+/release"), "release"),
    (re.compile("/flags/.*"), "check"),
]


def place_of(path: str) -> str:
    """Name the kind of a path, as faults select it."""
    return next((place for pattern, place in _PLACES if pattern.fullmatch(path)), "other")


class App:
    """The outermost ASGI callable."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.faults = Faults()
        # How many requests came to each kind of path, faults included.
        self.requests: Counter[str] = Counter()
        # What was asked for that the emulator does not know, by method and path.
        self.unknown: Counter[str] = Counter()
        self.stream = DataStream(service)
        # Told by the server, which owns the sockets: cut the connection of one peer, or of all
        # clients; listen or not.
        self.cut: Callable[[Any], None] = _ignore
        self.listen: Callable[[bool], Awaitable[None]] = _ignore_switch
        self._healed = asyncio.Event()
        self._inner = Starlette(
            routes=[
                *rest.routes(service),
                *management.routes(service, self.stream),
                *admin.routes(self),
                WebSocketRoute("/datastream", self._serve_stream),
            ],
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
        self.requests[place] += 1
        wait, fault = self.faults.strike(place)
        if wait:
            await asyncio.sleep(wait)
        if fault is not None:
            await self._suffer(fault, scope, receive, send)
        else:
            await self._serve(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/batch" and scope.get("method") == "POST":
            await capture(self.service, receive, send)
            return
        try:
            await self._inner(scope, receive, send)
        except ClientDisconnect:
            # A client that did not wait for a delayed request to be read is no fault of ours.
            return

    async def _answer_unknown(self, request: Request, _error: Exception) -> Response:
        asked = f"{request.method} {request.url.path}"
        self.unknown[asked] += 1
        return refused(404, f"no such endpoint: the emulator does not know {asked}")

    async def _answer_wrong_method(self, request: Request, error: Exception) -> Response:
        self.unknown[f"{request.method} {request.url.path}"] += 1
        headers = getattr(error, "headers", None) or {}
        allowed = headers.get("Allow", "another method")
        return refused(405, f"{request.url.path} takes {allowed}, not {request.method}", headers)

    async def _serve_stream(self, socket: WebSocket) -> None:
        await self.stream.serve(socket, silent=socket.scope.get("silent", False))

    async def _suffer(self, fault: Fault, scope: Scope, receive: Receive, send: Send) -> None:
        is_socket = scope["type"] == "websocket"
        if fault.kind == "status":
            after = fault.retry_after
            headers = None if after is None else {"retry-after": f"{after:g}"}
            answer = refused(fault.status, f"injected fault {fault.id}", headers)
            if is_socket:
                await deny(WebSocket(scope, receive, send), answer)
            else:
                await answer(scope, receive, send)
        elif fault.kind == "freeze" and is_socket:
            scope["silent"] = True
            await self._serve(scope, receive, send)
        elif fault.kind == "freeze":
            await self._healed.wait()
            await self._cut(scope)
        elif fault.kind == "cut" and not is_socket:
            await self._serve(scope, receive, _discard)
            await self._cut(scope)
        else:
            await self._cut(scope)

    async def _cut(self, scope: Scope) -> None:
        """Cut a request's connection, and let that happen before the request ends unanswered."""
        self.cut(scope["client"])
        # Or else the server would log that an answer is missing.
        await asyncio.sleep(0)

    async def fail(self, arguments: dict[str, Any]) -> Fault:
        """Put a fault in force, and do at once what it does at once."""
        fault = self.faults.add(arguments)
        if fault.kind == "refuse" and fault.on == "any":
            await self.listen(False)
        elif fault.kind == "drop" and fault.on in {"datastream", "any"}:
            self.drop_sockets()
        return fault

    def drop_sockets(self) -> int:
        """Cut every open WebSocket; return how many there were."""
        connections = list(self.stream.connections)
        for connection in connections:
            self.cut(connection.socket.scope["client"])
        return len(connections)

    async def heal(self, fault_id: int | None = None) -> None:
        """Take one fault, or all, out of force; what was frozen is cut."""
        self.faults.clear(fault_id)
        remaining = self.faults.faults.values()
        if not any(f.kind == "refuse" and f.on == "any" for f in remaining):
            await self.listen(True)
        if not any(f.kind == "freeze" for f in remaining):
            self._healed.set()
            self._healed = asyncio.Event()
            for connection in [c for c in self.stream.connections if c.silent]:
                self.cut(connection.socket.scope["client"])


async def _discard(_message: Message) -> None:
    """Lose an answer: the client is about to see a broken connection."""


def _ignore(_peer: object) -> None:
    """Stand in for a server that is not running yet."""


async def _ignore_switch(_on: bool) -> None:
    """Stand in for a server that is not running yet."""


async def _answer_service_error(_request: Request, error: Exception) -> Response:
    status = error.status if isinstance(error, ServiceError) else 500
    return refused(status, str(error))


async def _answer_failure(_request: Request, error: Exception) -> Response:
    """Answer a fault of the emulator's own as the service would; the server logs the trace."""
    return refused(500, f"internal error: {error!r}")
