"""How a service is reached through a proxy, and which URLs are reached at all."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING

import pytest

from schematic_native.service.proxies import UnknownProxyError, find_target
from tests.conftest import eventually_async
from tests.service.peers import HOST, TAKEN, Peer, frozen, read_request, sending, status, taking

if TYPE_CHECKING:
    from collections.abc import Callable

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
            await eventually_async(lambda: not sender._threads.unfinished)


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


@pytest.mark.parametrize("proxy", ["http://[proxy", "http://proxy.invalid:99999", "proxy:a"])
def test_a_malformed_proxy_is_refused_and_the_environment_is_named(monkeypatch, proxy):
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    with pytest.raises(ValueError, match="the proxy in HTTPS_PROXY"):
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
