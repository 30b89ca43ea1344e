"""Connections for batches of events: opened, used for one request at a time, and kept for the next.

Every step is bounded by the deadline of the `Exchange` that it serves, and ends at once when that is
aborted. Nothing here is ever called on an event loop: all of it blocks.
"""

from __future__ import annotations

import _socket
import contextlib
import selectors
import socket
import ssl
import sys
import threading
import time
from collections import defaultdict, deque
from typing import TYPE_CHECKING

from schematic_native._native import read_answer
from schematic_native.service.proxies import find_target
from schematic_native.service.tls import make_context, using_openssl

if TYPE_CHECKING:
    from schematic_native._native import EventBatch, HttpAnswer
    from schematic_native.service.proxies import Proxy, Target

# Seconds that an idle connection is kept. Many load balancers close one after 60.
LONGEST_KEPT = 50.0
# Seconds to wait for each address of a host but the last, so that one that does not respond leaves time for the
# others.
FIRST_ADDRESSES_TIMEOUT = 3.0
_CHUNK = 65536
# On Windows, shutting a socket down does not wake a thread that is waiting for it, so there the socket needs a
# timeout of its own.
_SOCKETS_NEED_TIMEOUT = sys.platform == "win32"


class LostConnectionError(Exception):
    """A kept connection turned out to be closed before any of the response came."""


class Exchange:
    """One request and its response: how much time is left, and a way to abort it from another thread."""

    def __init__(self, timeout: float) -> None:
        self._deadline = time.monotonic() + timeout
        self._aborted = False
        self._lock = threading.Lock()
        self._sock: socket.socket | None = None

    def left(self) -> float:
        """Return how many seconds are left.

        Raises:
            TimeoutError: none are, or it was aborted.

        """
        left = self._deadline - time.monotonic()
        if left <= 0 or self._aborted:
            raise TimeoutError
        return left

    def uses(self, sock: socket.socket | None) -> None:
        """Note which socket the thread is about to wait for."""
        with self._lock:
            if self._aborted and sock is not None:
                raise TimeoutError
            self._sock = sock

    def abort(self) -> None:
        """Make the thread stop waiting."""
        with self._lock:
            self._aborted = True
            if self._sock is not None:
                with contextlib.suppress(OSError):
                    # Not a TLS socket's own method: after that, it would send in the clear.
                    socket.socket.shutdown(self._sock, socket.SHUT_RDWR)


class Connection:
    """An open connection, for the requests to one URL."""

    def __init__(self, sock: socket.socket, head: bytes) -> None:
        self.sock = sock
        self.head = head
        self.used = 0.0  # when its last response came; 0 before the first
        self._is_plain = _is_plain(sock)

    def close(self) -> None:
        """Close the socket."""
        with contextlib.suppress(OSError):
            self.sock.close()

    def post(self, exchange: Exchange, batch: EventBatch) -> HttpAnswer:
        """Send a batch and read the response.

        Raises:
            LostConnectionError: the connection was kept, and is closed.
            OSError, ValueError: there was no response, or it is not HTTP.

        """
        if not self._is_plain:
            return self._read_response(exchange, batch.request(self.head))
        try:
            return batch.exchange(self.sock.fileno(), self.head)
        except OSError as error:
            self._fail(exchange, error)
            raise

    def _fail(self, exchange: Exchange, error: OSError) -> None:
        """Raise what it means that the connection failed before any of a response came."""
        exchange.left()  # an aborted request has not lost its connection
        if self.used:
            raise LostConnectionError from error

    def _read_response(self, exchange: Exchange, request: bytes) -> HttpAnswer:
        received = b""
        try:
            if _SOCKETS_NEED_TIMEOUT:
                self.sock.settimeout(exchange.left())
            self.sock.sendall(request)
            while True:
                got = self.sock.recv(_CHUNK)
                received = received + got if received else got
                if got or received:
                    response = read_answer(received, not got, False)
                    if response is not None:
                        return response
                else:
                    raise ConnectionResetError("the connection was closed without an answer")
                if _SOCKETS_NEED_TIMEOUT:
                    self.sock.settimeout(exchange.left())
        except OSError as error:
            if received:
                exchange.left()
            else:
                self._fail(exchange, error)
            raise


class ConnectionPool:
    """Connections by URL: those that are kept, and new ones. Safe to use from any thread.

    Args:
        headers: the header lines of every request.
        context: of TLS; None makes one when it is needed.

    """

    def __init__(self, headers: str, context: ssl.SSLContext | None) -> None:
        self._headers = headers
        self._context = context
        self._kept: defaultdict[str, deque[Connection]] = defaultdict(deque)

    def take_kept(self, url: str) -> Connection | None:
        """Return the connection that was used last, if there is one that is still fit for use."""
        connections = self._kept[url]
        while True:
            try:
                kept = connections.pop()
            except IndexError:
                return None
            if time.monotonic() - kept.used < LONGEST_KEPT:
                return kept
            kept.close()

    def keep(self, url: str, connection: Connection) -> None:
        """Keep a connection for the next request."""
        connection.used = time.monotonic()
        self._kept[url].append(connection)

    def close(self) -> None:
        """Close all connections that are kept."""
        for connections in list(self._kept.values()):
            while connections:
                connections.pop().close()

    def open(self, exchange: Exchange, url: str) -> Connection:
        """Open a connection, through a proxy if the environment names one.

        Raises:
            UnknownProxyError: it names one of a kind that is not supported.
            OSError, ValueError: there is no way to the host, or the URL has none.

        """
        target = find_target(url)
        via = target if target.proxy is None else target.proxy
        sock = _open_socket(exchange, via.host, via.port)
        try:
            if target.scheme == "https":
                if target.proxy is not None:
                    _open_tunnel(exchange, sock, target, target.proxy)
                sock = self._start_tls(exchange, sock, target.host)
            sock.settimeout(None)
        except BaseException:
            exchange.uses(None)
            sock.close()
            raise
        return Connection(sock, f"{target.lines}{self._headers}".encode("ascii"))

    def _start_tls(self, exchange: Exchange, sock: socket.socket, host: str) -> ssl.SSLSocket:
        with using_openssl:
            if self._context is None:
                self._context = make_context()
            secure = self._context.wrap_socket(
                sock, server_hostname=host, do_handshake_on_connect=False
            )
        try:
            exchange.uses(secure)
            secure.settimeout(0)
            while True:
                try:
                    with using_openssl:
                        secure.do_handshake()
                except ssl.SSLWantReadError:
                    _wait(secure, exchange.left(), writing=False)
                except ssl.SSLWantWriteError:
                    _wait(secure, exchange.left(), writing=True)
                else:
                    return secure
        except BaseException:
            exchange.uses(None)
            secure.close()
            raise


def _open_socket(exchange: Exchange, host: str, port: int) -> socket.socket:
    """Connect to the first address of a host that can be reached."""
    addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    failure: OSError | None = None
    for number, (family, kind, protocol, _, address) in enumerate(addresses, 1):
        left = exchange.left()
        sock: socket.socket | None = None
        try:
            sock = socket.socket(family, kind, protocol)
            exchange.uses(sock)
            is_last = number == len(addresses)
            sock.settimeout(left if is_last else min(left, FIRST_ADDRESSES_TIMEOUT))
            sock.connect(address)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        except OSError as error:
            exchange.uses(None)
            if sock is not None:
                sock.close()
            failure = error
        else:
            return sock
    raise failure or OSError(f"{host} has no address")


def _open_tunnel(exchange: Exchange, sock: socket.socket, target: Target, proxy: Proxy) -> None:
    """Ask a proxy for a tunnel to the target."""
    authority = target.authority
    lines = f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n"
    if proxy.authorization is not None:
        lines += f"Proxy-Authorization: {proxy.authorization}\r\n"
    sock.settimeout(exchange.left())
    sock.sendall(f"{lines}\r\n".encode("ascii"))
    received = b""
    while (response := read_answer(received, False, True)) is None:
        sock.settimeout(exchange.left())
        # One byte at a time: what follows the response belongs to the tunnel.
        got = sock.recv(1)
        if not got:
            raise ConnectionError("the proxy closed the connection")
        received += got
    if not 200 <= response.status < 300:  # noqa: PLR2004
        raise ConnectionError(f"the proxy refused the way to {authority}: HTTP {response.status}")


def _is_plain(sock: socket.socket) -> bool:
    """Tell whether Rust may use a socket: the bytes go out as they are, and waiting stops this thread alone.

    With TLS, or with gevent, another class sends and receives.
    """
    own, kind = _socket.socket, type(sock)
    return (kind.sendall, kind.recv) == (own.sendall, own.recv) and not _SOCKETS_NEED_TIMEOUT


def _wait(sock: socket.socket, timeout: float, *, writing: bool) -> None:
    with selectors.DefaultSelector() as selector:
        selector.register(sock, selectors.EVENT_WRITE if writing else selectors.EVENT_READ)
        if not selector.select(timeout):
            raise TimeoutError
