"""A service that accepts every batch of events and discards it: `python -m schematic_native.tools.bench.sink`.

It prints its port and then, for each line of its input, how many events it has received. Its argument is how many
seconds a response takes.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
END_OF_HEAD = b"\r\n\r\n"
# Every event has this field once, and no text that is sent here contains it.
EVENT_FIELD = b'"api_key":'
CHUNK = 1 << 18
# Requests that may wait for a connection to be accepted.
BACKLOG = 256


class Sink:
    """A running sink, from the outside."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.url = f"http://127.0.0.1:{self._read()}"

    def taken(self) -> int:
        """Return how many events it has received so far."""
        if self._process.stdin is None:
            raise RuntimeError("the sink has no input")
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> int:
        if self._process.stdout is None:
            raise RuntimeError("the sink has no output")
        return int(self._process.stdout.readline())


@contextmanager
def running(delay: float = 0.0) -> Iterator[Sink]:
    """Run a sink in a process of its own."""
    command = [sys.executable, "-m", "schematic_native.tools.bench.sink", str(delay)]
    process = subprocess.Popen(  # noqa: S603 - a module of our own
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        try:
            yield Sink(process)
        finally:
            process.kill()


class _Service:
    def __init__(self, delay: float) -> None:
        self._delay = delay
        self._lock = threading.Lock()
        self.taken = 0

    def accept(self, listener: socket.socket) -> None:
        while True:
            peer, _ = listener.accept()
            threading.Thread(target=self._serve, args=(peer,), daemon=True).start()

    def _serve(self, peer: socket.socket) -> None:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # A client may end in the middle of a request.
        with peer, suppress(OSError):
            while (body := _read_body(peer)) is not None:
                with self._lock:
                    self.taken += body.count(EVENT_FIELD)
                if self._delay:
                    time.sleep(self._delay)
                peer.sendall(ANSWER)


def _read_body(peer: socket.socket) -> bytes | None:
    """Read a request; return its body, None if the other side has closed."""
    received = bytearray()
    while (end := received.find(END_OF_HEAD)) < 0:
        got = peer.recv(CHUNK)
        if not got:
            return None
        received += got
    head = bytes(received[:end]).lower()
    size = end + len(END_OF_HEAD) + int(head.split(b"content-length:")[1].split(b"\r\n")[0])
    while len(received) < size:
        got = peer.recv(CHUNK)
        if not got:
            return None
        received += got
    return bytes(received[end:])


def main() -> None:
    """Serve until the input ends."""
    service = _Service(float(sys.argv[1]))
    with socket.create_server(("127.0.0.1", 0), backlog=BACKLOG) as listener:
        threading.Thread(target=service.accept, args=(listener,), daemon=True).start()
        sys.stdout.write(f"{listener.getsockname()[1]}\n")
        sys.stdout.flush()
        for _ in sys.stdin:
            sys.stdout.write(f"{service.taken}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
