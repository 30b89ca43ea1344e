"""Servers of raw bytes, each of which answers in its own way, and a transport that posts to them."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from typing import TYPE_CHECKING

from schematic_native._native import Core
from schematic_native.service.transport import SocketTransport

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Callable

    from typing_extensions import Self

HOST = "service.invalid"
HEADERS = {"X-Key": "k", "Content-Type": "application/json"}
TAKEN = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
_CORE = Core(api_key="k")
_CORE.track("tokens")
BATCH = _CORE.take_batch()


class Peer:
    """A server of raw bytes: `serve` is called with each connection, on its own thread."""

    def __init__(
        self,
        serve: Callable[[socket.socket], None],
        *,
        host: str = "127.0.0.1",
        context: ssl.SSLContext | None = None,
    ) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, 0), family=family)
        self._serve = serve
        self._context = context
        self._open: list[socket.socket] = []
        self.connections = 0
        self.port = self._listener.getsockname()[1]
        shown = f"[{host}]" if ":" in host else host
        self.url = f"{'http' if context is None else 'https'}://{shown}:{self.port}/batch"

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for sock in [self._listener, *self._open]:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                self.connections += 1
                self._open.append(sock)
                threading.Thread(target=self._work, args=(sock,), daemon=True).start()

    def _work(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError):
            if self._context is None:
                self._serve(sock)
                return
            with self._context.wrap_socket(sock, server_side=True) as secure:
                self._open.append(secure)
                self._serve(secure)


def read_request(sock: socket.socket) -> bytes:
    """Read one whole request; return nothing if the other side has closed."""
    received = b""
    while b"\r\n\r\n" not in received:
        got = sock.recv(65536)
        if not got:
            return b""
        received += got
    head, _, body = received.partition(b"\r\n\r\n")
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            while len(body) < int(value):
                body += sock.recv(65536)
    return head + b"\r\n\r\n" + body


def taking(sock: socket.socket) -> None:
    """Accept every request."""
    while read_request(sock):
        sock.sendall(TAKEN)


def taking_one(sock: socket.socket) -> None:
    """Accept one request, promise to keep the connection, and close it."""
    read_request(sock)
    sock.sendall(TAKEN)
    sock.close()


def dripping(sock: socket.socket) -> None:
    read_request(sock)
    while True:
        sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        time.sleep(0.02)


def frozen(sock: socket.socket) -> None:
    read_request(sock)
    sock.recv(1)


def deaf(sock: socket.socket) -> None:
    """Read nothing, so that a long request cannot be sent."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    threading.Event().wait(30)


@contextlib.asynccontextmanager
async def sending(**arguments: object) -> AsyncIterator[SocketTransport]:
    sender = SocketTransport(HEADERS, **arguments)
    try:
        yield sender
    finally:
        await sender.close()


async def status(sender: SocketTransport, url: str, timeout: float = 10.0) -> int:
    answered = await sender.post(url, BATCH, timeout)
    return answered.response.status
