"""DataStream: the WebSocket over which clients follow flags, companies and users.

It pushes what the state says has changed, and changes nothing itself.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from starlette.websockets import WebSocketDisconnect

from schematic_native.emulator.endpoints.keyed_routes import require_key
from schematic_native.emulator.endpoints.responses import deny, refused
from schematic_native.emulator.errors import InvalidRequestError, UnauthorizedError
from schematic_native.emulator.state.directory import KeyConflictError
from schematic_native.ground import json_text

if TYPE_CHECKING:
    from starlette.websockets import WebSocket

    from schematic_native.emulator.state.changes import Change
    from schematic_native.emulator.state.service import Service

Entity = dict[str, Any]

PUSH_INTERVAL = 0.05  # seconds: changes within it go out as one partial update
FLAGS, FLAG = "rulesengine.Flags", "rulesengine.Flag"
COMPANY, USER = "rulesengine.Company", "rulesengine.User"


class Connection:
    """One client, and what it has asked to follow."""

    def __init__(self, socket: WebSocket, since: float) -> None:
        self.socket = socket
        self.since = since  # epoch seconds of the emulator's clock
        self.followed: dict[str, str] = {}  # the kinds of companies and users, by id
        self.flags = False
        self.silent = False
        # Sending never waits: a client that does not read must not hold up the others.
        self._outbox: asyncio.Queue[str] = asyncio.Queue()

    def send(self, message: str) -> None:
        """Put a message in line."""
        self._outbox.put_nowait(message)

    async def write(self) -> None:
        """Send what is in line, in order, until cancelled."""
        while True:
            message = await self._outbox.get()
            if not self.silent:
                await self.socket.send_text(message)


class DataStream:
    """Every connection, and the pushes to them."""

    def __init__(self, service: Service) -> None:
        self._service = service
        # In the order in which they came, which is that of what is sent to them.
        self.connections: dict[Connection, None] = {}
        self._push_due: asyncio.TimerHandle | None = None
        service.changes.listener = self._schedule_push

    # One connection

    async def serve(self, socket: WebSocket, *, silent: bool = False) -> None:
        """Run one client from its handshake to its end."""
        try:
            require_key(self._service, socket.headers.get("x-schematic-api-key"))
        except UnauthorizedError as error:
            await deny(socket, refused(error.status, str(error)))
            return
        await socket.accept()
        connection = Connection(socket, self._service.clock.now())
        connection.silent = silent
        self.connections[connection] = None
        writer = asyncio.create_task(connection.write())
        try:
            while True:
                self._answer(connection, await socket.receive_text())
        except (WebSocketDisconnect, KeyError, RuntimeError, asyncio.CancelledError):
            # Gone, or a binary frame, which no client of this protocol sends, or the server stops:
            # it cancels what still serves clients, and would report as a fault what lets that through.
            return
        finally:
            self.connections.pop(connection, None)
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)

    def _answer(self, connection: Connection, text: str) -> None:
        try:
            action, entity_type, keys = _read_request(text)
        except InvalidRequestError as error:
            connection.send(_message(None, "error", {"error": str(error)}))
            return
        if entity_type in {FLAGS, FLAG}:
            connection.flags = action == "start"
            if connection.flags:
                connection.send(
                    _message(FLAGS, "full", list(self._service.directory.flags.values()))
                )
            return
        try:
            entity_id = self._find(entity_type, keys)
        except KeyConflictError as error:
            connection.send(_error(entity_type, keys, str(error)))
            return
        if entity_id is None:
            if action == "start":
                connection.send(_error(entity_type, keys, f"{entity_type} not found"))
        elif action == "stop":
            connection.followed.pop(entity_id, None)
        else:
            connection.followed[entity_id] = entity_type
            connection.send(
                _message(entity_type, "full", self._wire(entity_type, entity_id), entity_id)
            )

    def _find(self, entity_type: str, keys: dict[str, str]) -> str | None:
        directory = self._service.directory
        return directory.company_id(keys) if entity_type == COMPANY else directory.user_id(keys)

    def _wire(self, entity_type: str, entity_id: str) -> Entity:
        if entity_type == COMPANY:
            return self._service.company_wire(entity_id)
        return self._service.directory.users[entity_id]

    # Pushes

    def push_full(self, entity_type: str, entity_id: str) -> None:
        """Send a changed flag, company or user whole to all who follow it."""
        data = (
            self._service.directory.flags[entity_id]
            if entity_type == FLAG
            else self._wire(entity_type, entity_id)
        )
        self._push(entity_type, "full", data, entity_id)

    def push_everything(self) -> None:
        """Send every client anew what it follows, after the whole state was replaced."""
        for connection in self.connections:
            if connection.flags:
                flags = list(self._service.directory.flags.values())
                connection.send(_message(FLAGS, "full", flags))
            for entity_id, entity_type in connection.followed.items():
                if self._is_known(entity_type, entity_id):
                    data = self._wire(entity_type, entity_id)
                    connection.send(_message(entity_type, "full", data, entity_id))
                else:
                    connection.send(_message(entity_type, "delete", {"id": entity_id}, entity_id))

    def _is_known(self, entity_type: str, entity_id: str) -> bool:
        directory = self._service.directory
        return entity_id in (directory.companies if entity_type == COMPANY else directory.users)

    def push_delete(self, entity_type: str, entity_id: str) -> None:
        """Tell all who follow an entity that it is gone."""
        self._push(entity_type, "delete", {"id": entity_id}, entity_id)

    def _push(self, entity_type: str, message_type: str, data: object, entity_id: str) -> None:
        followers = [
            c
            for c in self.connections
            if (c.flags if entity_type == FLAG else entity_id in c.followed)
        ]
        if followers:
            text = _message(entity_type, message_type, data, entity_id)
            for connection in followers:
                connection.send(text)

    def _schedule_push(self) -> None:
        if self._push_due is None:
            self._push_due = asyncio.get_running_loop().call_later(PUSH_INTERVAL, self.push_changes)

    def push_changes(self) -> None:
        """Send one partial update for each company or user that has changed since the last push."""
        if self._push_due is not None:
            self._push_due.cancel()
            self._push_due = None
        directory = self._service.directory
        for entity_id, change in self._service.changes.take().items():
            if entity_id in directory.companies:
                data = self._company_partial(entity_id, change)
                self._push(COMPANY, "partial", data, entity_id)
            elif entity_id in directory.users:
                self._push(USER, "partial", change.fields, entity_id)

    def _company_partial(self, company_id: str, change: Change) -> Entity:
        data = dict(change.fields)
        if change.credits:
            lines = {
                credit: self._service.state.line(company_id, credit)
                for credit in sorted(change.credits)
            }
            data["credit_balances"] = {credit: line.remaining for credit, line in lines.items()}
            leased = {
                credit: {"remaining": line.remaining, "reserved": line.reserved}
                for credit, line in lines.items()
                if self._service.ledger.active_lease((company_id, credit)) is not None
            }
            if leased:
                data["credit_lease_balance"] = leased
        if change.rows:
            data["metrics"] = list(change.rows.values())
        return data

    def send_raw(self, text: str) -> int:
        """Send any text to every connection; return to how many."""
        for connection in self.connections:
            connection.send(text)
        return len(self.connections)


def _read_request(text: str) -> tuple[str, str, dict[str, str]]:
    try:
        request = json_text.read(text)
    except json_text.NotJSONError as error:
        raise InvalidRequestError(f"the message is not valid JSON: {error}") from error
    data = request.get("data") if isinstance(request, dict) else None
    if not isinstance(data, dict):
        raise InvalidRequestError("the message must be an object with data")
    # The Node SDK sends no action; it means start.
    action = data.get("action") or "start"
    entity_type, keys = data.get("entity_type"), data.get("keys") or {}
    if action not in {"start", "stop"}:
        raise InvalidRequestError(f"action must be start or stop, got {action!r}")
    if entity_type not in {FLAGS, FLAG, COMPANY, USER}:
        raise InvalidRequestError(f"unknown entity_type {entity_type!r}")
    if not isinstance(keys, dict) or not all(isinstance(value, str) for value in keys.values()):
        raise InvalidRequestError("keys must be an object of strings")
    return action, entity_type, keys


def _message(
    entity_type: str | None, message_type: str, data: object, entity_id: str | None = None
) -> str:
    message = {"message_type": message_type, "data": data}
    if entity_type is not None:
        message["entity_type"] = entity_type
    if entity_id is not None:
        message["entity_id"] = entity_id
    return json_text.write(message).decode()


def _error(entity_type: str, keys: dict[str, str], error: str) -> str:
    data = {"error": error, "keys": keys, "entity_type": entity_type}
    return _message(entity_type, "error", data)
