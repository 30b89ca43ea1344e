"""A TCP proxy before a server, which breaks connections at a chosen batch."""

from __future__ import annotations

import selectors
import socket
import threading
from enum import Enum
from typing import TYPE_CHECKING, Any

import redis

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Self


class Cut(Enum):
    """Where a batch is cut off from its replies."""

    REQUEST = "request"  # the server never sees the batch
    REPLY = "reply"  # the server has carried it out
    MIDDLE = "middle"  # of the replies, only the first bytes come, and then nothing more
    SILENCE = "silence"  # nothing comes, and the connection stays


class Proxy:
    """Passes bytes on between programs and a server.

    A program sends each batch at once and waits for its replies, so what arrives at once is one batch.

    Args:
        port: of the server.
        drips: send replies byte by byte.

    """

    def __init__(self, port: int, *, drips: bool = False) -> None:
        self._target = "127.0.0.1", port
        self._drips = drips
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._cut: Cut | None = None
        self._left = 0
        self.batches: list[bytes] = []
        self.connections = 0
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self.refuse()

    def connect(self, module: Any = redis, **options: Any) -> Any:
        """Make a client, of `redis` or of `redis.asyncio`."""
        return module.Redis(host="127.0.0.1", port=self.port, **options)

    def cut_at(self, number: int, cut: Cut) -> None:
        """Cut the batch of this number, the next being the first, and no other."""
        self.batches = []
        self._left, self._cut = number, cut

    def refuse(self) -> None:
        """Break every connection, and take no more."""
        # Shutting a listener down wakes whoever waits for a connection.
        _shut(self._listener)
        self._listener.close()
        self.break_all()
        for thread in self._threads:
            thread.join()

    def break_all(self) -> None:
        """Break every connection that is open."""
        for end in list(self._open):
            _shut(end)

    def _start(self, target: Any, *arguments: Any) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                program, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            server = socket.create_connection(self._target)
            self._open |= {program, server}
            self._start(self._serve, program, server)

    def _serve(self, program: socket.socket, server: socket.socket) -> None:
        with program, server:
            try:
                _Line(program, server, self._judge, drips=self._drips).serve()
            except OSError:
                return
            finally:
                self._open -= {program, server}
                for end in (program, server):
                    _shut(end)

    def _judge(self, batch: bytes) -> Cut | None:
        self.batches.append(batch)
        self._left -= 1
        return self._cut if self._left == 0 else None


class _Line:
    """One connection of a program, passed on to the server."""

    def __init__(
        self,
        program: socket.socket,
        server: socket.socket,
        judge: Callable[[bytes], Cut | None],
        *,
        drips: bool,
    ) -> None:
        self._drips = drips
        if drips:
            program.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._program = program
        self._server = server
        self._judge = judge
        self._cut: Cut | None = None

    def serve(self) -> None:
        """Pass bytes on until an end is closed, or the connection is cut."""
        with selectors.DefaultSelector() as waiting:
            waiting.register(self._program, selectors.EVENT_READ, self._ask)
            waiting.register(self._server, selectors.EVENT_READ, self._answer)
            while all(key.data(key.fileobj.recv(1 << 20)) for key, _ in waiting.select()):
                pass

    def _ask(self, chunk: bytes) -> bool:
        self._cut = self._judge(chunk) if chunk else Cut.REQUEST
        if self._cut is Cut.REQUEST:
            return False
        self._server.sendall(chunk)
        return True

    def _answer(self, chunk: bytes) -> bool:
        if self._cut is Cut.MIDDLE:
            self._program.sendall(chunk[:2])
            self._cut = Cut.SILENCE
        elif self._cut is None:
            for piece in map(bytes, zip(chunk, strict=True)) if self._drips else [chunk]:
                self._program.sendall(piece)
        return bool(chunk) and self._cut is not Cut.REPLY


def _shut(end: socket.socket) -> None:
    try:
        end.shutdown(socket.SHUT_RDWR)
    except OSError:
        return
