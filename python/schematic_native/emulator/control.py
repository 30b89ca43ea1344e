"""The connection over which an `Emulator` commands its server: the admin API on the control port.

Plain HTTP on loopback over a socket of its own, so that what an emulator says to itself is in nobody's
log of HTTP requests and passes no proxy. It may be used from several threads, each request with a
connection of its own for as long as it takes.
"""

from __future__ import annotations

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
        self._idle: list[_Connection] = []
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
        except OSError as error:
            raise EmulatorError(f"{method} {path}: no answer: {error!r}") from error
        value = json_text.read(answer)
        if status >= _FIRST_ERROR:
            raise EmulatorError(f"{method} {path}: {value.get('error', answer.decode())}")
        return value

    def _send(self, method: str, path: str, payload: bytes | None) -> tuple[int, bytes]:
        connection = self._connection()
        try:
            answer = connection.ask(method, path, payload or b"")
        except BaseException:
            connection.close()
            raise
        self._idle.append(connection)
        return answer

    def _connection(self) -> _Connection:
        if self._pid != os.getpid():
            # A forked child shares the sockets of its parent, and must not talk into them.
            self._idle, self._pid = [], os.getpid()
        while self._idle:
            connection = self._idle.pop()
            if connection.is_open():
                return connection
            connection.close()
        return _Connection(self._port)

    def close(self) -> None:
        """Close what is open; closing twice is harmless."""
        while self._idle:
            self._idle.pop().close()


class _Connection:
    """One connection to the server, for one request at a time.

    The standard library's `http.client` takes longer to read an answer than the emulator to give it.
    """

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), _TIMEOUT)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._received = self._socket.makefile("rb")
        self._headers = f"host: 127.0.0.1:{port}\r\ncontent-type: application/json\r\n"

    def close(self) -> None:
        self._received.close()
        self._socket.close()

    def is_open(self) -> bool:
        """Tell whether it can be used again: the server closes an idle connection after a while."""
        self._socket.settimeout(0)
        try:
            self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        finally:
            self._socket.settimeout(_TIMEOUT)
        return False  # its end, or something that nobody asked for

    def ask(self, method: str, path: str, payload: bytes) -> tuple[int, bytes]:
        """Send a request; return the status and the body of its answer, which has a length."""
        head = f"{method} {path} HTTP/1.1\r\n{self._headers}content-length: {len(payload)}\r\n\r\n"
        self._socket.sendall(head.encode("ascii") + payload)
        status = self._line().split()[1]
        length = 0
        while line := self._line():
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        body = self._received.read(length)
        if len(body) < length:
            raise ConnectionResetError("the answer is cut short")
        return int(status), body

    def _line(self) -> bytes:
        line = self._received.readline()
        if not line:
            raise ConnectionResetError("the connection was closed without an answer")
        return line.rstrip(b"\r\n")
