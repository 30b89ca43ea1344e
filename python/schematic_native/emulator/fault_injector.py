"""Carrying out injected faults: connections cut, requests kept waiting, listening stopped.

It decides nothing about the service: a request that no fault hits goes through unchanged.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from starlette.websockets import WebSocket

from schematic_native.emulator.endpoints.responses import deny, refused
from schematic_native.emulator.injected_faults import Fault, Faults

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    from starlette.responses import Response

    from schematic_native.emulator.endpoints.datastream import DataStream

    Message = MutableMapping[str, Any]
    Scope = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]
    Application = Callable[[Scope, Receive, Send], Awaitable[None]]


class FaultInjector:
    """The faults in force, and what they do to requests and connections."""

    def __init__(self, stream: DataStream, application: Application) -> None:
        self._stream = stream
        self._application = application
        self.faults = Faults()
        # Set by the server, which owns the sockets: cut the connection of one peer; listen or not.
        self.cut: Callable[[Any], None] = _ignore
        self.listen: Callable[[bool], Awaitable[None]] = _ignore_switch
        self._healed = asyncio.Event()

    async def serve(self, place: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or WebSocket, or do to it what the faults in force want."""
        wait, fault = self.faults.strike(place)
        if wait:
            await asyncio.sleep(wait)
        if fault is None:
            await self._application(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._fail_socket(fault, scope, receive, send)
        else:
            await self._fail_request(fault, scope, receive, send)

    async def _fail_socket(self, fault: Fault, scope: Scope, receive: Receive, send: Send) -> None:
        if fault.kind == "status":
            await deny(WebSocket(scope, receive, send), _refusal(fault))
        elif fault.kind == "freeze":
            scope["silent"] = True
            await self._application(scope, receive, send)
        else:
            await self._cut(scope)

    async def _fail_request(self, fault: Fault, scope: Scope, receive: Receive, send: Send) -> None:
        if fault.kind == "status":
            await _refusal(fault)(scope, receive, send)
            return
        if fault.kind == "freeze":
            await self._healed.wait()
        elif fault.kind == "cut":
            await self._application(scope, receive, _discard)
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
        connections = list(self._stream.connections)
        for connection in connections:
            self.cut(connection.socket.scope["client"])
        return len(connections)

    async def heal(self, fault_id: int | None = None) -> None:
        """Take one fault, or all, out of force; what was frozen is cut."""
        self.faults.clear(fault_id)
        remaining = self.faults.in_force.values()
        if not any(f.kind == "refuse" and f.on == "any" for f in remaining):
            await self.listen(True)
        if not any(f.kind == "freeze" for f in remaining):
            self._healed.set()
            self._healed = asyncio.Event()
            for connection in [c for c in self._stream.connections if c.silent]:
                self.cut(connection.socket.scope["client"])


def _refusal(fault: Fault) -> Response:
    after = fault.retry_after
    headers = None if after is None else {"retry-after": f"{after:g}"}
    return refused(fault.status, f"injected fault {fault.id}", headers)


async def _discard(_message: Message) -> None:
    """Lose a response: the client is about to see a broken connection."""


def _ignore(_peer: object) -> None:
    """Stand in for a server that is not running yet."""


async def _ignore_switch(_on: bool) -> None:
    """Stand in for a server that is not running yet."""
