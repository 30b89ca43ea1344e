"""How batches of events are posted: kept and lost connections, TLS, proxies and timeouts."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
import time
from typing import TYPE_CHECKING

import pytest
import trustme

from schematic_native._native import Core, Pace, read_answer
from schematic_native.config.settings import Settings
from schematic_native.ground.threads import ThreadPool
from schematic_native.service import connections, transport
from schematic_native.service.proxies import UnknownProxyError, find_target
from schematic_native.service.rest import Api
from schematic_native.service.tls import using_openssl
from schematic_native.service.transport import SocketTransport
from tests.conftest import eventually_async
from tests.limits import within
from tests.servers import Answer, HttpServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from typing_extensions import Self

# Seconds that a busy machine may add to a timeout.
SLACK = 2.0
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


async def test_a_request_has_the_expected_lines_and_body(monkeypatch):
    requests = []

    def serve(sock: socket.socket) -> None:
        requests.append(read_request(sock))
        sock.sendall(TAKEN)

    with Peer(serve) as peer:
        async with sending() as sender:
            answered = await sender.post(peer.url, BATCH, 10.0)
    assert (answered.response.status, answered.response.body) == (200, b"{}")
    assert answered.seconds > 0
    head, _, body = requests[0].partition(b"\r\n\r\n")
    assert head.split(b"\r\n") == [
        b"POST /batch HTTP/1.1",
        f"Host: 127.0.0.1:{peer.port}".encode(),
        b"X-Key: k",
        b"Content-Type: application/json",
        f"Content-Length: {len(body)}".encode(),
    ]
    assert body == BATCH.body


async def test_a_connection_is_kept():
    with Peer(taking) as peer:
        async with sending() as sender:
            assert [await status(sender, peer.url) for _ in range(5)] == [200] * 5
        assert peer.connections == 1


async def test_a_connection_that_the_service_closed_while_it_was_kept_is_replaced():
    with Peer(taking_one) as peer:
        async with sending() as sender:
            assert [await status(sender, peer.url) for _ in range(5)] == [200] * 5
        assert peer.connections == 5


async def test_a_connection_that_has_been_idle_for_long_is_not_used_again(monkeypatch):
    monkeypatch.setattr(connections, "LONGEST_KEPT", 0.0)
    with Peer(taking) as peer:
        async with sending() as sender:
            assert [await status(sender, peer.url) for _ in range(2)] == [200] * 2
        assert peer.connections == 2


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\nuntil the end",
    ],
)
async def test_a_connection_that_the_service_closes_is_not_kept(answer):
    def serve(sock: socket.socket) -> None:
        read_request(sock)
        sock.sendall(answer)
        sock.close()

    with Peer(serve) as peer:
        async with sending() as sender:
            assert [await status(sender, peer.url) for _ in range(2)] == [200] * 2
        assert peer.connections == 2


async def test_no_response_over_a_new_connection_is_a_failure_without_a_retry():
    with Peer(read_request) as closing:

        def serve(sock: socket.socket) -> None:
            read_request(sock)
            sock.close()

        closing._serve = serve
        async with sending() as sender:
            with pytest.raises(ConnectionError):
                await status(sender, closing.url)
        assert closing.connections == 1


async def test_half_a_response_is_a_failure_even_on_a_kept_connection():
    answers = [TAKEN, TAKEN[:20]]

    def serve(sock: socket.socket) -> None:
        while answers:
            read_request(sock)
            sock.sendall(answers.pop(0))
        sock.close()

    with Peer(serve) as peer:
        async with sending() as sender:
            assert await status(sender, peer.url) == 200
            with pytest.raises(ValueError, match="ended before the response did"):
                await status(sender, peer.url)
        assert peer.connections == 1


async def test_a_server_that_does_not_speak_http_is_a_failure():
    with Peer(lambda sock: sock.sendall(b"SSH-2.0-OpenSSH_9.9\r\n")) as peer:
        async with sending() as sender:
            with pytest.raises(ValueError, match="not HTTP"):
                await status(sender, peer.url)


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


def large_batch() -> object:
    core = Core(api_key="k")
    for _ in range(100):
        core.track("tokens", traits=b'{"text": "%s"}' % (b"x" * 200_000))
    return core.take_batch()


@pytest.mark.parametrize("serve", [dripping, frozen])
async def test_a_request_ends_at_its_timeout_and_frees_its_thread(serve):
    with Peer(serve) as slow, Peer(taking) as peer:
        async with sending() as sender:
            for _ in within(SLACK):
                with pytest.raises(TimeoutError):
                    await status(sender, slow.url, 0.1)
            await eventually_async(lambda: not sender._unfinished)
            assert await status(sender, peer.url) == 200
            assert len(sender._threads) == 1


async def test_a_request_that_cannot_be_sent_ends_at_its_timeout():
    batch = large_batch()
    with Peer(deaf) as peer:
        async with sending() as sender:
            with pytest.raises(TimeoutError):
                await sender.post(peer.url, batch, 0.2)
            await eventually_async(lambda: not sender._unfinished)


async def test_a_host_that_does_not_respond_is_given_up_at_the_timeout():
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        # Connections that are not accepted fill the queue, so that the next one gets no response.
        port = full.getsockname()[1]
        waiting = []
        for _ in range(4):
            sock = socket.socket()
            sock.setblocking(False)
            sock.connect_ex(("127.0.0.1", port))
            waiting.append(sock)
        async with sending() as sender:
            for _ in within(SLACK):
                with pytest.raises(TimeoutError):
                    await status(sender, f"http://127.0.0.1:{port}/batch", 0.2)
        for sock in waiting:
            sock.close()


async def test_a_cancelled_call_frees_its_thread():
    with Peer(frozen) as peer:
        async with sending() as sender:
            waiting = asyncio.create_task(status(sender, peer.url, 60.0))
            await eventually_async(lambda: peer.connections == 1)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            await eventually_async(lambda: not sender._unfinished)


async def test_closing_ends_all_requests_and_threads():
    with Peer(frozen) as peer:
        before = set(threading.enumerate())
        sender = SocketTransport(HEADERS)
        waiting = [asyncio.create_task(status(sender, peer.url, 60.0)) for _ in range(5)]
        await eventually_async(lambda: peer.connections == 5)
        assert len(sender._threads) == 5
        await sender.close()
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {ConnectionError}
        names = [each.name for each in set(threading.enumerate()) - before]
        assert "schematic-native sender" not in names
        with pytest.raises(ConnectionError, match="shut down"):
            await status(sender, peer.url)


async def test_idle_threads_end_except_one(monkeypatch):
    monkeypatch.setattr(transport, "LONGEST_IDLE", 0.02)
    with Peer(taking) as peer:
        async with sending() as sender:
            assert await asyncio.gather(*[status(sender, peer.url) for _ in range(8)]) == [200] * 8
            await eventually_async(lambda: len(sender._threads) == 1)
            assert await status(sender, peer.url) == 200


async def test_one_thread_handles_all_requests_if_no_other_can_be_started(monkeypatch):
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with Peer(taking) as peer:
        async with sending() as sender:
            with monkeypatch.context() as patched:
                patched.setattr(threading.Thread, "start", refuse)
                # The peer cannot start one either: the requests share a connection.
                waiting = [asyncio.create_task(status(sender, peer.url, 5.0)) for _ in range(4)]
                await asyncio.sleep(0)
            assert await asyncio.gather(*waiting) == [200] * 4
        assert peer.connections == 1


async def test_httpx_sends_if_no_thread_can_be_started(monkeypatch):
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    asyncio.get_running_loop().set_default_executor(ThreadPool())
    with HttpServer() as server, monkeypatch.context() as patched:
        settings = Settings(api_key="k", event_capture_url=server.url)
        make_server_threads = threading.Thread.start

        def start(thread: threading.Thread) -> None:
            # The server's own handlers still get their threads.
            (make_server_threads if "process_request" in thread.name else refuse)(thread)

        patched.setattr(threading.Thread, "start", start)
        api = Api(settings)
        assert [(await api.post_events(BATCH)).status for _ in range(2)] == [200, 200]
        await api.close()
    assert len(server.requests) == 2


async def test_a_service_is_reached_over_ipv6():
    try:
        peer = Peer(taking, host="::1")
    except OSError:
        pytest.skip("no IPv6 here")
    with peer:
        async with sending() as sender:
            assert await status(sender, peer.url) == 200


async def test_an_unreachable_address_is_followed_by_the_next(monkeypatch, dead_url):
    dead = int(dead_url.rpartition(":")[2])
    with Peer(taking) as peer:
        kind = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "")
        addresses = [(*kind, ("127.0.0.1", dead)), (*kind, ("127.0.0.1", peer.port))]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: addresses)
        async with sending() as sender:
            assert await status(sender, f"http://localhost:{peer.port}/batch") == 200


@pytest.mark.parametrize("code", [307, 308])
async def test_a_redirect_that_keeps_the_request_is_followed(code):
    script = [Answer(code, headers={"Location": "/elsewhere?a=b"}), Answer(202)]
    with HttpServer(*script) as server:
        async with sending() as sender:
            assert await status(sender, f"{server.url}/batch") == 202
    assert [request.path for request in server.requests] == ["/batch", "/elsewhere?a=b"]
    assert server.requests[1].body == server.requests[0].body


# TLS


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def certified(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", HOST).configure_cert(context)
    return context


@pytest.fixture
def trusted(authority: trustme.CA, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with authority.cert_pem.tempfile() as path:
        monkeypatch.setenv("SSL_CERT_FILE", path)
        yield


@pytest.mark.usefixtures("trusted")
async def test_an_authority_that_the_environment_names_is_trusted(certified):
    with Peer(taking, context=certified) as peer:
        async with sending() as sender:
            assert [await status(sender, peer.url) for _ in range(3)] == [200] * 3
        assert peer.connections == 1


async def test_an_unknown_authority_is_not_trusted(certified):
    with Peer(taking, context=certified) as peer:
        async with sending() as sender:
            with pytest.raises(ssl.SSLCertVerificationError):
                await status(sender, peer.url)


@pytest.mark.usefixtures("trusted")
async def test_a_certificate_of_another_host_is_refused(authority):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("another.invalid").configure_cert(context)
    with Peer(taking, context=context) as peer:
        async with sending() as sender:
            with pytest.raises(ssl.SSLCertVerificationError):
                await status(sender, peer.url)


async def test_a_given_tls_context_is_used(certified, authority):
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with Peer(taking, context=certified) as peer:
        async with sending(context=context) as sender:
            assert await status(sender, peer.url) == 200


@pytest.mark.usefixtures("trusted")
async def test_a_secure_connection_that_was_closed_while_it_was_kept_is_replaced(certified):
    with Peer(taking_one, context=certified) as peer:
        async with sending() as sender:
            assert [await status(sender, peer.url) for _ in range(3)] == [200] * 3
        assert peer.connections == 3


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize("serve", [frozen, dripping])
async def test_a_secure_request_ends_at_its_timeout(certified, serve):
    with Peer(serve, context=certified) as peer:
        async with sending() as sender:
            with pytest.raises(TimeoutError):
                await status(sender, peer.url, 0.3)
            await eventually_async(lambda: not sender._unfinished)


async def test_a_handshake_without_a_response_ends_at_the_timeout():
    with Peer(frozen) as peer:
        async with sending() as sender:
            with pytest.raises(TimeoutError):
                await status(sender, peer.url.replace("http:", "https:"), 0.2)
            await eventually_async(lambda: not sender._unfinished)
            assert not using_openssl.locked()


def test_aborting_a_secure_request_leaves_the_socket_secure(certified, authority):
    context = ssl.create_default_context()
    authority.configure_trust(context)

    with (
        Peer(taking, context=certified) as peer,
        socket.create_connection(("127.0.0.1", peer.port)) as plain,
        context.wrap_socket(plain, server_hostname=HOST) as secure,
    ):
        exchange = connections.Exchange(10.0)
        exchange.uses(secure)
        exchange.abort()
        assert secure.version() is not None, "what is sent from now on would be in the clear"
        with pytest.raises(OSError, match=r".*"):
            secure.sendall(b"secret")


async def test_no_thread_outlives_an_event_loop_that_ended_without_closing(monkeypatch):
    monkeypatch.setattr(transport, "LONGEST_IDLE", 0.02)

    async def make_sender() -> SocketTransport:
        return SocketTransport(HEADERS)

    sender = await asyncio.to_thread(asyncio.run, make_sender())
    await eventually_async(lambda: not sender._threads)


# Proxies


@pytest.fixture
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http", "https", "all", "no"):
        for spelling in (name, name.upper()):
            monkeypatch.delenv(f"{spelling}_proxy", raising=False)
            monkeypatch.delenv(f"{spelling}_PROXY", raising=False)


pytestmark = pytest.mark.usefixtures("no_proxy")


async def test_a_proxy_gets_the_absolute_url(monkeypatch):
    requests = []

    def serve(sock: socket.socket) -> None:
        while request := read_request(sock):
            requests.append(request)
            sock.sendall(TAKEN)

    with Peer(serve) as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"http://user:p%40ss@127.0.0.1:{proxy.port}")
        async with sending() as sender:
            assert [await status(sender, f"http://{HOST}/batch") for _ in range(2)] == [200] * 2
        assert proxy.connections == 1
    lines = requests[0].split(b"\r\n")
    assert lines[0] == f"POST http://{HOST}/batch HTTP/1.1".encode()
    assert b"Proxy-Authorization: Basic dXNlcjpwQHNz" in lines


def piping(port: int, requests: list[bytes]) -> Callable[[socket.socket], None]:
    """Put whoever asks with CONNECT through to a port of this machine."""

    def serve(sock: socket.socket) -> None:
        requests.append(read_request(sock))
        with socket.create_connection(("127.0.0.1", port)) as there:
            sock.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")

            def back() -> None:
                with contextlib.suppress(OSError):
                    while got := there.recv(65536):
                        sock.sendall(got)

            threading.Thread(target=back, daemon=True).start()
            while got := sock.recv(65536):
                there.sendall(got)

    return serve


@pytest.mark.usefixtures("trusted")
async def test_a_secure_service_is_reached_through_a_tunnel(certified, monkeypatch):
    requests: list[bytes] = []
    with (
        Peer(taking, context=certified) as peer,
        Peer(piping(peer.port, requests)) as proxy,
    ):
        monkeypatch.setenv("HTTPS_PROXY", f"user:pass@127.0.0.1:{proxy.port}")
        async with sending() as sender:
            assert [await status(sender, f"https://{HOST}/batch") for _ in range(3)] == [200] * 3
        assert (proxy.connections, peer.connections) == (1, 1)
    lines = requests[0].split(b"\r\n")
    assert lines[0] == f"CONNECT {HOST}:443 HTTP/1.1".encode()
    assert b"Proxy-Authorization: Basic dXNlcjpwYXNz" in lines
    assert b"X-Key: k" not in lines, "the key is not for the proxy"


async def test_a_proxy_that_refuses_the_tunnel_is_a_failure(monkeypatch):
    def serve(sock: socket.socket) -> None:
        read_request(sock)
        sock.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")

    with Peer(serve) as proxy:
        monkeypatch.setenv("ALL_PROXY", f"http://127.0.0.1:{proxy.port}")
        async with sending() as sender:
            with pytest.raises(ConnectionError, match="HTTP 407"):
                await status(sender, f"https://{HOST}/batch")


async def test_a_proxy_that_never_responds_is_given_up_at_the_timeout(monkeypatch):
    with Peer(frozen) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
        async with sending() as sender:
            with pytest.raises(TimeoutError):
                await status(sender, f"https://{HOST}/batch", 0.2)
            await eventually_async(lambda: not sender._unfinished)


@pytest.mark.parametrize(
    ("url", "excepted", "proxied"),
    [
        ("http://service.invalid/batch", "", True),
        ("http://service.invalid/batch", "service.invalid", False),
        ("http://c.service.invalid/batch", ".service.invalid", False),
        ("http://service.invalid/batch", "other.invalid,*", True),
        ("http://service.invalid:8080/batch", "service.invalid:8080", False),
        ("http://service.invalid/batch", "*", False),
        ("http://localhost/batch", "", False),
        ("http://127.0.0.1:1/batch", "", False),
        ("http://[::1]:1/batch", "", False),
    ],
)
def test_no_proxy_names_the_hosts_that_are_reached_directly(monkeypatch, url, excepted, proxied):
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.invalid:3128")
    monkeypatch.setenv("NO_PROXY", excepted)
    assert (find_target(url).proxy is not None) is proxied


@pytest.mark.parametrize("proxy", ["socks5://proxy.invalid", "https://proxy.invalid", "http://"])
def test_an_unsupported_kind_of_proxy_is_refused(monkeypatch, proxy):
    monkeypatch.setenv("ALL_PROXY", proxy)
    with pytest.raises(UnknownProxyError):
        find_target("https://service.invalid/batch")


@pytest.mark.parametrize(
    ("url", "lines"),
    [
        ("https://c.invalid", "POST / HTTP/1.1\r\nHost: c.invalid\r\n"),
        ("https://c.invalid:443/b?c", "POST /b?c HTTP/1.1\r\nHost: c.invalid\r\n"),
        ("http://c.invalid:443/b", "POST /b HTTP/1.1\r\nHost: c.invalid:443\r\n"),
        ("http://[::1]/b", "POST /b HTTP/1.1\r\nHost: [::1]\r\n"),
        ("http://bücher.invalid/b", "POST /b HTTP/1.1\r\nHost: xn--bcher-kva.invalid\r\n"),
        (
            "http://u:p@c.invalid/b",
            "POST /b HTTP/1.1\r\nHost: c.invalid\r\nAuthorization: Basic dTpw\r\n",
        ),
    ],
)
def test_the_lines_of_a_request(url, lines):
    assert find_target(url).lines == lines


@pytest.mark.parametrize("url", ["ftp://c.invalid/b", "/b", "http://", "https:///b"])
def test_a_malformed_url_is_refused(url):
    with pytest.raises(ValueError, match="no http"):
        find_target(url)


# The native parts


def test_a_response_is_parsed_as_it_arrives():
    assert read_answer(b"HTTP/1.1 200 OK\r\nContent-Le", False, False) is None
    answer = read_answer(
        b"HTTP/1.1 429 No\r\nRetry-After: 7\r\nContent-Length: 1\r\n\r\nx", False, False
    )
    assert (answer.status, answer.body, answer.reusable) == (429, b"x", True)
    assert (answer.header("retry-after"), answer.header("Location")) == ("7", None)
    with pytest.raises(ValueError, match="ended before"):
        read_answer(b"HTTP/1.1 200", True, False)


def test_the_pace_stays_between_one_and_its_maximum():
    pace = Pace(8, 10)
    for _ in range(5):
        pace.taken(0.1, True)
    assert pace.limit == 10
    for _ in range(100):
        pace.refused()
    assert pace.limit == 1
