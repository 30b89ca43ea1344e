"""The connection over which an `Emulator` commands its server: the admin API on the control port.

Plain HTTP on loopback by the standard library, so that what an emulator says to itself is in nobody's
log of HTTP requests and passes no proxy. It may be used from several threads, each request with a
connection of its own for as long as it takes.
"""

from __future__ import annotations

import http.client
import os
import socket
from typing import Any

from schematic_native.emulator.errors import EmulatorError
from schematic_native.ground import json_text

Entity = dict[str, Any]

_TIMEOUT = 60.0  # seconds
_FIRST_ERROR = 400
_PREFIX = "/_emulator"


class Control:
    """Requests to the admin API of one server."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._idle: list[http.client.HTTPConnection] = []
        self._pid = os.getpid()

    def ask(
        self, method: str, path: str, body: Entity | None = None, content: str | None = None
    ) -> Any:
        """Send a request, with a JSON object or a text as its body; return the value answered.

        Raises:
            EmulatorError: The emulator refused, or cannot be reached.

        """
        payload = content.encode() if content is not None else None
        if body is not None:
            try:
                payload = json_text.write(body)
            except TypeError as error:
                raise EmulatorError(f"not JSON: {error}") from error
        try:
            status, answer = self._send(method, _PREFIX + path, payload)
        except (OSError, http.client.HTTPException) as error:
            raise EmulatorError(f"{method} {path}: no answer: {error!r}") from error
        value = json_text.read(answer)
        if status >= _FIRST_ERROR:
            raise EmulatorError(f"{method} {path}: {value.get('error', answer.decode())}")
        return value

    def _send(self, method: str, path: str, payload: bytes | None) -> tuple[int, bytes]:
        connection = self._connection()
        try:
            connection.request(method, path, payload, {"content-type": "application/json"})
            response = connection.getresponse()
            answer = response.read()
        except BaseException:
            connection.close()
            raise
        self._idle.append(connection)
        return response.status, answer

    def _connection(self) -> http.client.HTTPConnection:
        if self._pid != os.getpid():
            # A forked child shares the sockets of its parent, and must not talk into them.
            self._idle, self._pid = [], os.getpid()
        while self._idle:
            connection = self._idle.pop()
            if _is_open(connection):
                return connection
            connection.close()
        return http.client.HTTPConnection("127.0.0.1", self._port, timeout=_TIMEOUT)

    def close(self) -> None:
        """Close what is open; closing twice is harmless."""
        while self._idle:
            self._idle.pop().close()


def _is_open(connection: http.client.HTTPConnection) -> bool:
    """Tell whether an idle connection can be used again: the server closes one after a while."""
    sock = connection.sock
    if sock is None:
        return False
    sock.settimeout(0)
    try:
        sock.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        sock.settimeout(_TIMEOUT)
    return False  # its end, or something that nobody asked for
