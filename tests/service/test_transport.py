"""How batches of events are posted: kept and lost connections, timeouts, threads and addresses."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import ClassVar

import pytest

from schematic_native._native import Core, HttpAnswer, Pace, read_answer
from schematic_native.config.settings import Settings
from schematic_native.ground.threads import ThreadPool
from schematic_native.service import connections, sender_threads
from schematic_native.service.rest import Api
from schematic_native.service.transport import SocketTransport
from tests.conftest import eventually_async
from tests.limits import within
from tests.servers import Answer, HttpServer
from tests.service.peers import (
    BATCH,
    HEADERS,
    TAKEN,
    Peer,
    deaf,
    dripping,
    frozen,
    read_request,
    sending,
    status,
    taking,
    taking_one,
)

pytestmark = pytest.mark.usefixtures("no_proxy")
# Seconds that a busy machine may add to a timeout.
SLACK = 2.0


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
            await eventually_async(lambda: not sender._threads.unfinished)
            assert await status(sender, peer.url) == 200
            assert len(sender._threads._threads) == 1


async def test_a_request_that_cannot_be_sent_ends_at_its_timeout():
    batch = large_batch()
    with Peer(deaf) as peer:
        async with sending() as sender:
            with pytest.raises(TimeoutError):
                await sender.post(peer.url, batch, 0.2)
            await eventually_async(lambda: not sender._threads.unfinished)


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
            await eventually_async(lambda: not sender._threads.unfinished)


async def test_closing_right_after_a_call_was_cancelled_works():
    with Peer(frozen) as peer:
        sender = SocketTransport(HEADERS)
        waiting = asyncio.create_task(status(sender, peer.url, 60.0))
        await eventually_async(lambda: peer.connections == 1)
        waiting.cancel()
        await asyncio.sleep(0)
        # The thread has not noticed yet.
        await sender.close()
        assert waiting.cancelled()
        assert sender._threads.unfinished == []


async def test_closing_ends_all_requests_and_threads():
    with Peer(frozen) as peer:
        before = set(threading.enumerate())
        sender = SocketTransport(HEADERS)
        waiting = [asyncio.create_task(status(sender, peer.url, 60.0)) for _ in range(5)]
        await eventually_async(lambda: peer.connections == 5)
        assert len(sender._threads._threads) == 5
        await sender.close()
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {ConnectionError}
        names = [each.name for each in set(threading.enumerate()) - before]
        assert "schematic-native sender" not in names
        with pytest.raises(ConnectionError, match="shut down"):
            await status(sender, peer.url)


async def test_idle_threads_end_except_one(monkeypatch):
    monkeypatch.setattr(sender_threads, "LONGEST_IDLE", 0.02)
    with Peer(taking) as peer:
        async with sending() as sender:
            assert await asyncio.gather(*[status(sender, peer.url) for _ in range(8)]) == [200] * 8
            await eventually_async(lambda: len(sender._threads._threads) == 1)
            assert await status(sender, peer.url) == 200


async def test_one_thread_handles_all_requests_if_no_other_can_be_started(monkeypatch):
    start_thread = threading.Thread.start

    def start(thread: threading.Thread) -> None:
        if thread.name == "schematic-native sender":
            raise RuntimeError("can't start new thread")
        start_thread(thread)

    with Peer(taking) as peer:
        async with sending() as sender:
            monkeypatch.setattr(threading.Thread, "start", start)
            waiting = [status(sender, peer.url, 5.0) for _ in range(4)]
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


async def test_no_thread_outlives_an_event_loop_that_ended_without_closing(monkeypatch):
    monkeypatch.setattr(sender_threads, "LONGEST_IDLE", 0.02)

    async def make_sender() -> SocketTransport:
        return SocketTransport(HEADERS)

    sender = await asyncio.to_thread(asyncio.run, make_sender())
    await eventually_async(lambda: not sender._threads._threads)


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


def exchanged(answer: bytes, batch: object = BATCH) -> HttpAnswer:
    """Post a batch over a socket whose other end sends this and no more."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(answer)
        theirs.shutdown(socket.SHUT_WR)
        return batch.exchange(ours.fileno(), b"POST / HTTP/1.1\r\n")


def test_a_batch_is_sent_and_answered_in_one_call():
    ours, theirs = socket.socketpair()
    received = []

    def serve() -> None:
        received.append(read_request(theirs))
        for at in range(len(TAKEN)):
            theirs.sendall(TAKEN[at : at + 1])

    peer = threading.Thread(target=serve)
    peer.start()
    with ours, theirs:
        answer = BATCH.exchange(ours.fileno(), b"POST /batch HTTP/1.1\r\nX: y\r\n")
        peer.join()
    assert (answer.status, answer.body, answer.reusable) == (200, b"{}", True)
    assert received == [BATCH.request(b"POST /batch HTTP/1.1\r\nX: y\r\n")]


def test_a_connection_that_is_lost_before_the_response_is_told_from_half_a_response():
    with pytest.raises(OSError):  # noqa: PT011 - of the kind that the system has
        exchanged(b"")
    closed = socket.socket()
    closed.close()
    with pytest.raises(OSError):  # noqa: PT011 - the same
        BATCH.exchange(closed.fileno(), b"")
    with pytest.raises(ValueError, match="ended before the response did"):
        exchanged(TAKEN[:-1])
    with pytest.raises(ValueError, match="not HTTP"):
        exchanged(b"SSH-2.0-OpenSSH_9.9\r\n")


class Patched(socket.socket):
    """A socket as a library makes them that sends and receives in its own way."""

    sent: ClassVar[list[bytes]] = []

    def sendall(self, content: bytes) -> None:
        self.sent.append(content)
        super().sendall(content)


async def test_a_socket_of_another_library_is_used_as_it_wants(monkeypatch):
    with Peer(taking) as peer:
        async with sending() as sender:
            monkeypatch.setattr(socket, "socket", Patched)
            assert await status(sender, peer.url) == 200
    # The peer is of this process, too.
    assert [sent for sent in Patched.sent if sent.startswith(b"POST")] != []


def test_the_pace_stays_between_one_and_its_maximum():
    pace = Pace(8, 10)
    for _ in range(5):
        pace.taken(0.1, True)
    assert pace.limit == 10
    for _ in range(100):
        pace.refused()
    assert pace.limit == 1
