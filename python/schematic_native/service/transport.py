"""The way of event batches to the service: HTTP/1.1 over blocking sockets, on threads of our own.

A thread waits for the network, so a request keeps neither the event loop nor the interpreter's lock: it
is written in Rust, given to the socket in one piece, and its answer is read in Rust. Each thread serves
one request at a time.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import queue
import selectors
import socket
import ssl
import sys
import threading
import time
from collections import defaultdict, deque
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import SplitResult, unquote, urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

from schematic_native._native import read_answer
from schematic_native.config.settings import is_loopback

# All of this is imported here and not where it is used: a fork beside a thread that imports leaves the
# child with a locked module.
try:
    import certifi
except ImportError:  # it comes with httpx
    certifi = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from schematic_native._native import EventBatch, HttpAnswer

MOST_REDIRECTS = 5
# Redirects after which the same is asked of another address.
KEEPING_REDIRECTS = frozenset({307, 308})
# Seconds that a connection is kept without a request: what many a balancer keeps one is 60.
LONGEST_KEPT = 50.0
# Seconds that a thread waits for another request before it ends.
LONGEST_IDLE = 30.0
# Seconds for each address of a host but the last one, so that one that answers nothing leaves time for the others.
FIRST_ADDRESSES_TIMEOUT = 3.0
# Seconds that closing waits for threads: only a host name that is looked up cannot be interrupted.
CLOSING_TIMEOUT = 1.0
_CHUNK = 65536
_PORTS = {"http": 80, "https": 443}
# Where shutting a socket down wakes no thread that waits for it, the socket must know the time itself.
_SOCKETS_KEEP_TIME = sys.platform == "win32"

# TLS contexts are made, and handshakes done, with OpenSSL's locks held. A child that is forked meanwhile
# would find them held for ever, so a fork waits until they are not.
using_openssl = threading.Lock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=using_openssl.acquire,
        after_in_parent=using_openssl.release,
        after_in_child=using_openssl.release,
    )


class UnusableTransportError(Exception):
    """The transport cannot be used here and now; another may."""


class UnknownProxyError(UnusableTransportError):
    """The environment names a proxy of a kind that this transport does not speak to."""


class Proxy(NamedTuple):
    """An HTTP proxy, and what it is told to let us through."""

    host: str
    port: int
    authorization: str | None


class Target(NamedTuple):
    """Where requests for one URL go, and the lines that they begin with."""

    scheme: str
    host: str
    port: int
    proxy: Proxy | None
    lines: str

    @property
    def authority(self) -> str:
        """Host and port, for a tunnel."""
        return f"{_bracketed(self.host)}:{self.port}"


class _Answered(NamedTuple):
    """An answer, and how many seconds after the request it was there."""

    answer: HttpAnswer
    seconds: float


class _Connection:
    """An open connection, for the requests of one URL."""

    def __init__(self, sock: socket.socket, head: bytes) -> None:
        self.sock = sock
        self.head = head
        self.used = 0.0  # when an answer came over it last; 0 if none has

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.sock.close()


class _LostConnectionError(Exception):
    """A kept connection turned out to be closed before any of the answer came."""


class _Call:
    """One batch on its way, from when it is asked for until a thread is done with it."""

    def __init__(self, url: str, batch: EventBatch, timeout: float) -> None:
        self.url = url
        self.batch = batch
        self.until = time.monotonic() + timeout
        self.answered: asyncio.Future[_Answered] = asyncio.get_running_loop().create_future()
        self._aborted = False
        self._lock = threading.Lock()
        self._sock: socket.socket | None = None

    def left(self) -> float:
        """Seconds that are left."""
        left = self.until - time.monotonic()
        if left <= 0 or self._aborted:
            raise TimeoutError
        return left

    def uses(self, sock: socket.socket | None) -> None:
        """Say which socket the thread is waiting for."""
        with self._lock:
            if self._aborted and sock is not None:
                raise TimeoutError
            self._sock = sock

    def abort(self) -> None:
        """Have the thread wait no longer."""
        with self._lock:
            self._aborted = True
            if self._sock is not None:
                with contextlib.suppress(OSError):
                    # Not a TLS socket's own method: from there on it would send in the clear.
                    socket.socket.shutdown(self._sock, socket.SHUT_RDWR)


class SocketTransport:
    """Posts batches of events.

    Made on the loop that it is used from; everything but `_work` and what it calls runs there.

    Args:
        headers: of each request.
        follows: whether redirects are followed that keep the request.
        context: how TLS is spoken; None makes one, from SSL_CERT_FILE and SSL_CERT_DIR if they are set.

    """

    def __init__(
        self,
        headers: Mapping[str, str],
        *,
        follows: bool = True,
        context: ssl.SSLContext | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._headers = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self._follows = follows
        self._context = context
        self._kept: defaultdict[str, deque[_Connection]] = defaultdict(deque)
        self._calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._lock = threading.Lock()  # of the next two
        self._threads: set[threading.Thread] = set()
        self._unfinished: set[_Call] = set()
        self._told: deque[Callable[[], None]] = deque()
        self._is_rung = False
        self._closed = False
        self._ended = asyncio.Event()
        # At the interpreter's end no thread can be started any more, and events are still to be sent.
        with contextlib.suppress(UnusableTransportError):
            self._start_thread()

    async def post(self, url: str, batch: EventBatch, timeout: float) -> _Answered:
        """Post a batch.

        A connection that the service closed while it was kept is replaced, and the batch is sent again
        over the new one.

        Raises:
            TimeoutError: `timeout` seconds were not enough.
            UnusableTransportError: no thread can be had, or the proxy is of a kind that is not spoken to.
            OSError, ValueError: there was no answer, or none that is HTTP.

        """
        if self._closed:
            raise ConnectionError("the client is shut down")
        call = _Call(url, batch, timeout)
        with self._lock:
            self._unfinished.add(call)
            is_thread_wanted = len(self._unfinished) > len(self._threads)
        if is_thread_wanted:
            try:
                self._start_thread()
            except UnusableTransportError:
                self._unfinished.discard(call)
                raise
        self._calls.put(call)
        timer = self._loop.call_later(timeout, self._time_out, call)
        try:
            return await call.answered
        except asyncio.CancelledError:
            call.abort()
            raise
        finally:
            timer.cancel()

    async def close(self) -> None:
        """Abort what is under way and end the threads."""
        self._closed = True
        with self._lock:
            unfinished, threads = list(self._unfinished), list(self._threads)
        for call in unfinished:
            call.abort()
            if not call.answered.done():
                call.answered.set_exception(ConnectionError("the client is shut down"))
                call.answered.exception()  # nobody may be waiting for it any more
        for _ in threads:
            self._calls.put(None)
        timer = self._loop.call_later(CLOSING_TIMEOUT, self._ended.set)
        try:
            if threads:
                await self._ended.wait()
        finally:
            timer.cancel()
        for thread in threads:
            if thread not in self._threads:
                thread.join()  # it has said its last word
        for connections in list(self._kept.values()):
            while connections:
                connections.pop().close()

    def _time_out(self, call: _Call) -> None:
        call.abort()
        if not call.answered.done():
            call.answered.set_exception(TimeoutError())

    def _start_thread(self) -> None:
        thread = threading.Thread(target=self._work, name="schematic-native sender", daemon=True)
        with self._lock:
            self._threads.add(thread)
        try:
            thread.start()
        except RuntimeError as error:
            with self._lock:
                self._threads.discard(thread)
                is_served = bool(self._threads)
            # Other threads serve the call when they are done with theirs.
            if not is_served:
                raise UnusableTransportError(str(error)) from None

    def _tell(self, what: Callable[[], None]) -> None:
        """Have something done on the loop; what many threads tell at once is one wake-up."""
        self._told.append(what)
        if not self._is_rung:
            self._is_rung = True
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._listen)

    def _listen(self) -> None:
        # First, so that what is told after the last look rings again.
        self._is_rung = False
        while self._told:
            self._told.popleft()()

    # On the threads

    def _work(self) -> None:
        me = threading.current_thread()
        while (call := self._next_call(me)) is not None:
            told = self._answer(call)
            with self._lock:
                self._unfinished.discard(call)
            self._tell(told)
        with self._lock:
            self._threads.discard(me)
            is_last = not self._threads
        if is_last and self._closed:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._ended.set)

    def _next_call(self, me: threading.Thread) -> _Call | None:
        while True:
            try:
                return self._calls.get(timeout=LONGEST_IDLE)
            except queue.Empty:
                with self._lock:
                    # The last one stays: at the interpreter's end there would be no other.
                    least = 0 if self._loop.is_closed() else 1
                    if len(self._threads) > max(least, len(self._unfinished)):
                        self._threads.discard(me)
                        return None

    def _answer(self, call: _Call) -> Callable[[], None]:
        """Serve a call; returns what is to be done on the loop then."""
        answered = call.answered
        try:
            answer = self._post(call)
        except Exception as error:  # noqa: BLE001 - it is the caller's
            failure = error
            return lambda: None if answered.done() else answered.set_exception(failure)
        return lambda: None if answered.done() else answered.set_result(answer)

    def _post(self, call: _Call) -> _Answered:
        url = call.url
        for _ in range(MOST_REDIRECTS):
            answered = self._exchange(call, url)
            answer = answered.answer
            # Any other redirect would make a GET of it, whose answer tells nothing.
            if answer.status not in KEEPING_REDIRECTS or not self._follows:
                return answered
            location = answer.header("location")
            if location is None:
                return answered
            url = urljoin(url, location)
        raise ConnectionError(f"it was redirected more than {MOST_REDIRECTS} times")

    def _exchange(self, call: _Call, url: str) -> _Answered:
        kept = self._find_kept(url)
        if kept is not None:
            with contextlib.suppress(_LostConnectionError):
                return self._exchange_over(kept, call, url)
        return self._exchange_over(self._connect(call, url), call, url)

    def _find_kept(self, url: str) -> _Connection | None:
        """Return the connection that was used last, if there is one that may be used again."""
        connections = self._kept[url]
        while True:
            try:
                kept = connections.pop()
            except IndexError:
                return None
            if time.monotonic() - kept.used < LONGEST_KEPT:
                return kept
            kept.close()

    def _exchange_over(self, connection: _Connection, call: _Call, url: str) -> _Answered:
        is_reusable = False
        try:
            call.uses(connection.sock)
            request = call.batch.request(connection.head)
            begun = time.monotonic()
            answer = _read(connection, call, request)
            seconds = time.monotonic() - begun
            is_reusable = answer.reusable and not self._closed
        finally:
            call.uses(None)
            if is_reusable:
                connection.used = time.monotonic()
                self._kept[url].append(connection)
            else:
                connection.close()
        return _Answered(answer, seconds)

    def _connect(self, call: _Call, url: str) -> _Connection:
        target = find_target(url)
        at = target if target.proxy is None else target.proxy
        sock = _open(call, at.host, at.port)
        try:
            if target.scheme == "https":
                if target.proxy is not None:
                    _tunnel(call, sock, target, target.proxy)
                sock = self._speak_tls(call, sock, target.host)
            sock.settimeout(None)
        except BaseException:
            call.uses(None)
            sock.close()
            raise
        return _Connection(sock, f"{target.lines}{self._headers}".encode("ascii"))

    def _speak_tls(self, call: _Call, sock: socket.socket, host: str) -> ssl.SSLSocket:
        with using_openssl:
            if self._context is None:
                self._context = make_context()
            secure = self._context.wrap_socket(
                sock, server_hostname=host, do_handshake_on_connect=False
            )
        try:
            call.uses(secure)
            secure.settimeout(0)
            while True:
                try:
                    with using_openssl:
                        secure.do_handshake()
                except ssl.SSLWantReadError:
                    _wait(secure, call.left(), writing=False)
                except ssl.SSLWantWriteError:
                    _wait(secure, call.left(), writing=True)
                else:
                    return secure
        except BaseException:
            call.uses(None)
            secure.close()
            raise


def make_context() -> ssl.SSLContext:
    """Return how TLS is spoken.

    Trusted are the authorities that the environment names, or else certifi's, or else the system's.
    """
    is_told = os.environ.get("SSL_CERT_FILE") or os.environ.get("SSL_CERT_DIR")
    authorities = None if is_told or certifi is None else certifi.where()
    context = ssl.create_default_context(cafile=authorities)
    context.set_alpn_protocols(["http/1.1"])
    return context


def find_target(url: str) -> Target:
    """Tell where requests for a URL go, by way of the proxy that the environment names now.

    Raises:
        UnknownProxyError: it is none that speaks plain HTTP.
        ValueError: the URL has no host, or is neither http nor https.

    """
    parts = urlsplit(url)
    if parts.scheme not in _PORTS or not parts.hostname:
        raise ValueError(f"it is no http:// or https:// URL with a host: {url!r}")
    host = parts.hostname
    if not host.isascii():
        host = host.encode("idna").decode("ascii")
    port = parts.port or _PORTS[parts.scheme]
    proxy = None if is_loopback(url) else _find_proxy(parts.scheme, host, port)
    authority = _bracketed(host) + ("" if port == _PORTS[parts.scheme] else f":{port}")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    lines = f"Host: {authority}\r\n"
    if parts.username is not None:
        lines += f"Authorization: {_basic(parts)}\r\n"
    if proxy is not None and parts.scheme == "http":
        path = f"http://{authority}{path}"
        if proxy.authorization is not None:
            lines += f"Proxy-Authorization: {proxy.authorization}\r\n"
    return Target(parts.scheme, host, port, proxy, f"POST {path} HTTP/1.1\r\n{lines}")


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _basic(parts: SplitResult) -> str:
    login = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
    return f"Basic {base64.b64encode(login.encode()).decode('ascii')}"


def _find_proxy(scheme: str, host: str, port: int) -> Proxy | None:
    proxies = getproxies()
    named = proxies.get(scheme) or proxies.get("all")
    if not named or proxy_bypass(f"{host}:{port}"):
        return None
    parts = urlsplit(named if "://" in named else f"http://{named}")
    if parts.scheme != "http" or not parts.hostname:
        raise UnknownProxyError(named)
    authorization = None if parts.username is None else _basic(parts)
    return Proxy(parts.hostname, parts.port or _PORTS["http"], authorization)


def _open(call: _Call, host: str, port: int) -> socket.socket:
    """Connect to the first address of a host that can be reached."""
    addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    failure: OSError | None = None
    for number, (family, kind, protocol, _, address) in enumerate(addresses, 1):
        left = call.left()
        sock: socket.socket | None = None
        try:
            sock = socket.socket(family, kind, protocol)
            call.uses(sock)
            is_last = number == len(addresses)
            sock.settimeout(left if is_last else min(left, FIRST_ADDRESSES_TIMEOUT))
            sock.connect(address)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        except OSError as error:
            call.uses(None)
            if sock is not None:
                sock.close()
            failure = error
        else:
            return sock
    raise failure or OSError(f"{host} has no address")


def _tunnel(call: _Call, sock: socket.socket, target: Target, proxy: Proxy) -> None:
    """Have a proxy put us through."""
    authority = target.authority
    lines = f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n"
    if proxy.authorization is not None:
        lines += f"Proxy-Authorization: {proxy.authorization}\r\n"
    sock.settimeout(call.left())
    sock.sendall(f"{lines}\r\n".encode("ascii"))
    received = b""
    while (answer := read_answer(received, False, True)) is None:
        sock.settimeout(call.left())
        # One byte after the other: what follows the answer belongs to the tunnel.
        got = sock.recv(1)
        if not got:
            raise ConnectionError("the proxy closed the connection")
        received += got
    if not 200 <= answer.status < 300:  # noqa: PLR2004
        raise ConnectionError(f"the proxy refused the way to {authority}: HTTP {answer.status}")


def _read(connection: _Connection, call: _Call, request: bytes) -> HttpAnswer:
    """Send a request and read its answer."""
    sock = connection.sock
    received = b""
    try:
        if _SOCKETS_KEEP_TIME:
            sock.settimeout(call.left())
        sock.sendall(request)
        while True:
            got = sock.recv(_CHUNK)
            received = received + got if received else got
            if got or received:
                answer = read_answer(received, not got, False)
                if answer is not None:
                    return answer
            else:
                raise ConnectionResetError("the connection was closed without an answer")
            if _SOCKETS_KEEP_TIME:
                sock.settimeout(call.left())
    except OSError as error:
        call.left()  # what was aborted is no loss
        if connection.used and not received:
            raise _LostConnectionError from error
        raise


def _wait(sock: socket.socket, timeout: float, *, writing: bool) -> None:
    with selectors.DefaultSelector() as selector:
        selector.register(sock, selectors.EVENT_WRITE if writing else selectors.EVENT_READ)
        if not selector.select(timeout):
            raise TimeoutError
