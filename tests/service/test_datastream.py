"""The DataStream: one connection, its requests, and reconnects."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosedError

from schematic_native import AsyncSchematic, AsyncSchematicConfig
from schematic_native._native import Core
from schematic_native.ground.machine import Machine
from schematic_native.service.datastream import (
    COMPANY,
    USER,
    DataStream,
    StreamAddress,
    StreamHandlers,
    Timing,
    datastream_url,
)
from schematic_native.service.reconnects import Backoff
from tests.conftest import PATIENCE, eventually_async

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from websockets.http11 import Response

    from schematic_native.ground.fault_log import FaultLog

# Seconds that no test takes: what ends sooner was not waited for.
LONG = 3600.0
FLAG = {
    "id": "f1",
    "account_id": "a",
    "environment_id": "e",
    "key": "f",
    "default_value": True,
    "rules": [],
}


def entity(entity_id: str, **keys: str) -> dict:
    return {"id": entity_id, "account_id": "a", "environment_id": "e", "keys": keys}


class Service:
    """A DataStream server: sends its flags, answers requests from `companies`, notes everything."""

    def __init__(self) -> None:
        self.requests: list[dict] = []
        self.headers: list[dict[str, str]] = []
        self.sockets: list[ServerConnection] = []
        self.companies: dict[str, dict] = {}
        self.refuse: int | None = None
        self.silent = False
        self.flags: object = [FLAG]
        self.close_at_once = False
        self.server: Server

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.sockets[0].getsockname()[1]}"

    @property
    def asked(self) -> list[tuple[str, tuple[tuple[str, str], ...]]]:
        return [(r["entity_type"], tuple((r.get("keys") or {}).items())) for r in self.requests]

    def handshake(self, socket: ServerConnection, request: object) -> Response | None:
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        if self.refuse is not None:
            return socket.respond(self.refuse, "no\n")
        return None

    async def handle(self, socket: ServerConnection) -> None:
        self.sockets.append(socket)
        if self.close_at_once:
            return
        async for message in socket:
            assert isinstance(message, str)
            request = json.loads(message)["data"]
            self.requests.append(request)
            await self.answer(socket, request)

    async def answer(self, socket: ServerConnection, request: dict) -> None:
        entity_type, keys = request["entity_type"], request.get("keys") or {}
        if self.silent and entity_type != "rulesengine.Flags":
            return
        reply = {"entity_type": entity_type, "message_type": "full"}
        if entity_type == "rulesengine.Flags":
            reply["data"] = self.flags
        else:
            found = self.companies.get(next(iter(keys.values())))
            if found is None:
                reply |= {"message_type": "error", "data": {"error": "not found", "keys": keys}}
            else:
                reply["data"] = found
        await socket.send(json.dumps(reply))


@asynccontextmanager
async def serving() -> AsyncIterator[Service]:
    service = Service()
    async with serve(service.handle, "127.0.0.1", 0, process_request=service.handshake) as server:
        service.server = server
        yield service


class Pauses:
    """Stands in for sleeping: remembers for how long, and only lets others run."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)
        await asyncio.sleep(0.001)


@asynccontextmanager
async def streaming(
    url: str,
    core: Core,
    faults: FaultLog,
    *,
    timing: Timing | None = None,
    sleep: Callable[[float], Awaitable[None]] | None = None,
    max_message_size: int = 1_000_000,
) -> AsyncIterator[DataStream]:
    timing = replace(timing or Timing(), sleep=sleep or Pauses())
    stream = DataStream(
        StreamAddress(url, "k", max_message_size),
        core,
        faults,
        StreamHandlers(on_ready=lambda: None),
        timing,
        Machine(jitter=lambda: 1.0),
    )
    task = asyncio.create_task(stream.run())
    try:
        yield stream
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.name == "schematic_native"]


def soon(seconds: float = PATIENCE) -> float:
    return asyncio.get_running_loop().time() + seconds


@pytest.fixture
def core() -> Core:
    return Core(api_key="k")


@pytest.mark.parametrize(
    ("base", "url"),
    [
        ("https://api.schematichq.com", "wss://datastream.schematichq.com/datastream"),
        ("https://API.example.org:8443/x", "wss://datastream.example.org:8443/datastream"),
        ("http://127.0.0.1:99", "ws://127.0.0.1:99/datastream"),
        ("http://apiary.example.org", "ws://apiary.example.org/datastream"),
        ("http://[::1]:99", "ws://[::1]:99/datastream"),
    ],
)
def test_the_url_is_derived_from_the_apis(base, url):
    assert datastream_url(base) == url


def test_the_backoff_grows_from_one_second_to_thirty_and_can_be_cleared():
    longest, shortest = Backoff(lambda: 1.0), Backoff(lambda: 0.0)
    assert [longest.next() for _ in range(7)] == [2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]
    assert [shortest.next() for _ in range(3)] == [1.0, 1.0, 1.0]
    longest.clear()
    assert longest.next() == 2.0


async def test_a_connection_is_ready_once_its_flags_have_arrived(core, faults):
    async with serving() as service, streaming(service.url, core, faults) as stream:
        await asyncio.wait_for(stream.first_outcome.wait(), PATIENCE)
        assert (stream.connected, stream.ready, core.flag_keys()) == (True, True, ["f"])
    assert service.asked == [("rulesengine.Flags", ())]
    assert service.requests[0]["action"] == "start"
    (headers,) = service.headers
    assert headers["x-schematic-api-key"] == "k"
    assert headers["x-schematic-datastream-mode"] == "direct"
    assert headers["x-schematic-client"] == "schematic-native"
    assert headers["x-schematic-client-version"]


async def test_waiters_for_the_same_keys_share_one_request(core, faults):
    async with serving() as service, streaming(service.url, core, faults) as stream:
        service.companies["acme"] = entity("c1", id="ACME", other="x")
        await stream.first_outcome.wait()
        wanted = [{"id": "acme"}, {"ID": "Acme"}, {"id": "acme"}]
        found = await asyncio.gather(*(stream.request(COMPANY, keys, soon()) for keys in wanted))
        assert found == [True, True, True]
        assert core.company_id({"id": "acme"}) == "c1"
    assert service.asked.count((COMPANY, (("id", "acme"),))) == 1
    assert len(service.asked) == 2


async def test_an_entity_that_is_wanted_before_the_connection_is_requested_with_the_flags(
    core, faults
):
    async with serving() as service:
        service.companies["acme"] = entity("c1", id="acme")
        async with streaming(service.url, core, faults) as stream:
            for keys in ({"id": "acme"}, {"ID": "Acme"}, {}, None):
                stream.request_early(COMPANY, keys)
            stream.request_early(USER, {"id": "nobody"})
            await eventually_async(lambda: core.company_id({"id": "acme"}) == "c1")
            await eventually_async(lambda: len(service.asked) == 3)
            assert [kind for kind, _ in service.asked] == ["rulesengine.Flags", COMPANY, USER]
            stream.request_early(USER, {"id": "late"})  # too late
            await service.sockets[0].close()
            await eventually_async(lambda: len(service.asked) == 5)
    # The next connection subscribes to what is in memory, and to nothing else.
    assert [kind for kind, _ in service.asked[3:]] == ["rulesengine.Flags", COMPANY]


async def test_a_caller_joins_the_early_request_of_an_entity(core, faults):
    async with serving() as service:
        service.silent = True
        async with streaming(service.url, core, faults) as stream:
            stream.request_early(COMPANY, {"id": "acme"})
            await stream.first_outcome.wait()
            joined = asyncio.create_task(stream.request(COMPANY, {"id": "acme"}, soon(20)))
            await eventually_async(lambda: len(service.asked) == 2)
            reply = {"entity_type": COMPANY, "message_type": "full"}
            await service.sockets[0].send(json.dumps({**reply, "data": entity("c1", id="acme")}))
            assert await joined
    assert [kind for kind, _ in service.asked] == ["rulesengine.Flags", COMPANY]


async def test_what_a_first_check_needs_is_requested_before_the_flags_are_here(dead_url):
    requested = asyncio.Event()

    class Withholding(Service):
        async def answer(self, socket: ServerConnection, request: dict) -> None:
            if request["entity_type"] == COMPANY:
                assert request["keys"] == {"id": "acme"}
                requested.set()

    service = Withholding()
    async with serve(service.handle, "127.0.0.1", 0) as service.server:
        config = AsyncSchematicConfig(
            base_url=service.url, event_capture_url=dead_url, use_datastream=True
        )
        client = AsyncSchematic("k", config)
        check = asyncio.create_task(client.check_flag("f", {"id": "acme"}))
        await asyncio.wait_for(requested.wait(), PATIENCE)
        check.cancel()
        await asyncio.gather(check, return_exceptions=True)
        await client.shutdown()


async def test_an_entity_completes_requests_for_any_of_its_keys(core, faults):
    async with serving() as service, streaming(service.url, core, faults) as stream:
        service.companies["acme"] = entity("c1", id="acme")
        await stream.first_outcome.wait()
        assert await stream.request(COMPANY, {"slug": "acme", "id": "acme"}, soon())


async def test_an_error_ends_the_requests_for_its_keys_at_once(core, faults, caplog):
    timing = Timing(request=LONG)
    async with serving() as service, streaming(service.url, core, faults, timing=timing) as stream:
        await stream.first_outcome.wait()
        asked = stream.request(USER, {"id": "nobody"}, soon(LONG))
        assert not await asyncio.wait_for(asked, PATIENCE)
    assert said(caplog) == []


async def test_a_request_without_a_response_ends_at_its_timeout(core, faults):
    timing = Timing(request=0.05)
    async with serving() as service, streaming(service.url, core, faults, timing=timing) as stream:
        service.silent = True
        await stream.first_outcome.wait()
        assert not await asyncio.wait_for(
            stream.request(COMPANY, {"id": "x"}, soon(LONG)), PATIENCE
        )


async def test_a_second_caller_gives_up_at_its_own_deadline_and_the_request_goes_on(core, faults):
    async with serving() as service, streaming(service.url, core, faults) as stream:
        service.silent = True
        await stream.first_outcome.wait()
        first = asyncio.create_task(stream.request(COMPANY, {"id": "acme"}, soon()))
        await eventually_async(lambda: len(service.requests) == 2)
        assert not await stream.request(COMPANY, {"id": "acme"}, soon(0.02))
        message = {"entity_type": COMPANY, "message_type": "full", "data": entity("c1", id="acme")}
        await service.sockets[0].send(json.dumps(message))
        assert await asyncio.wait_for(first, PATIENCE)


@pytest.mark.parametrize("leaves", ["cancelled", "in a hurry"])
async def test_a_caller_that_leaves_while_the_socket_is_full_leaves_its_request_to_the_others(
    core, faults, leaves
):
    timing = Timing(request=LONG)
    async with serving() as service, streaming(service.url, core, faults, timing=timing) as stream:
        service.companies["acme"] = entity("c1", id="acme")
        await stream.first_outcome.wait()
        socket = stream._socket
        assert socket is not None
        send, has_room = socket.send, asyncio.Event()

        async def send_later(*arguments: object, **keywords: object) -> None:
            await has_room.wait()
            await send(*arguments, **keywords)

        socket.send = send_later
        patience = LONG if leaves == "cancelled" else 0.02
        first = asyncio.create_task(stream.request(COMPANY, {"id": "acme"}, soon(patience)))
        second = asyncio.create_task(stream.request(COMPANY, {"id": "acme"}, soon(LONG)))
        await asyncio.sleep(0)
        if leaves == "cancelled":
            first.cancel()
        assert await asyncio.gather(first, return_exceptions=True) != [True]
        has_room.set()
        assert await asyncio.wait_for(second, PATIENCE)
    assert service.asked.count((COMPANY, (("id", "acme"),))) == 1


async def test_a_request_that_cannot_be_sent_ends_at_once(core, faults):
    timing = Timing(request=LONG)
    async with serving() as service, streaming(service.url, core, faults, timing=timing) as stream:
        await stream.first_outcome.wait()
        socket = stream._socket
        assert socket is not None

        async def fail(*_: object, **__: object) -> None:
            raise ConnectionClosedError(None, None)

        socket.send = fail
        asked = stream.request(COMPANY, {"id": "acme"}, soon(LONG))
        assert not await asyncio.wait_for(asked, PATIENCE)


async def test_a_request_without_a_connection_fails_at_once(core, faults, dead_url):
    async with streaming(dead_url, core, faults) as stream:
        await stream.first_outcome.wait()
        asked = stream.request(COMPANY, {"id": "x"}, soon(LONG))
        assert not await asyncio.wait_for(asked, PATIENCE)


async def test_a_dropped_connection_is_reopened_and_requests_everything_again(core, faults, caplog):
    caplog.set_level("INFO")
    pauses = Pauses()
    async with serving() as service, streaming(service.url, core, faults, sleep=pauses) as stream:
        service.companies = {"acme": entity("c1", id="acme"), "ada": entity("u1", id="ada")}
        await stream.first_outcome.wait()
        assert await stream.request(COMPANY, {"id": "acme"}, soon())
        assert await stream.request(USER, {"id": "ada"}, soon())
        before = len(service.requests)
        await service.sockets[0].close()
        await eventually_async(lambda: len(service.requests) == before + 3)
        await eventually_async(lambda: stream.ready)
    again = service.asked[before:]
    assert again == [
        ("rulesengine.Flags", ()),
        (COMPANY, (("id", "acme"),)),
        (USER, (("id", "ada"),)),
    ]
    assert pauses.seconds == [2.0]
    assert said(caplog) == [
        "DataStream: the connection was closed; trying again",
        "DataStream: works again",
    ]


async def test_every_reconnect_backs_off_when_connections_drop_at_once(core, faults):
    pauses = Pauses()
    async with serving() as service:
        service.close_at_once = True
        async with streaming(service.url, core, faults, sleep=pauses):
            await eventually_async(lambda: len(pauses.seconds) >= 7)
    assert pauses.seconds[:7] == [2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]


async def test_an_unreachable_server_is_retried_and_reported_once(core, faults, dead_url, caplog):
    pauses = Pauses()
    async with streaming(dead_url, core, faults, sleep=pauses) as stream:
        await eventually_async(lambda: len(pauses.seconds) >= 4)
        assert not stream.connected
        assert "no connection" in (faults.last_error or "")
    assert len(said(caplog)) == 1


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_api_key_is_reported_as_such(core, faults, status):
    async with serving() as service:
        service.refuse = status
        async with streaming(service.url, core, faults) as stream:
            await stream.first_outcome.wait()
            await eventually_async(lambda: faults.last_error)
            assert f"the API key was refused (HTTP {status})" in (faults.last_error or "")
            service.refuse = None
            await eventually_async(lambda: stream.ready)
            assert faults.last_error is None


@pytest.mark.parametrize(
    "junk",
    [
        "{",
        "[]",
        "null",
        '{"entity_type": 5}',
        '{"entity_type": "rulesengine.Company", "message_type": "full", "data": {"id": "half"}}',
        '{"entity_type": "rulesengine.Flags", "message_type": "full", "data": {"no": "list"}}',
        '{"entity_type": "rulesengine.News", "message_type": "full", "data": {}}',
    ],
)
async def test_a_malformed_message_is_logged_and_skipped(core, faults, junk, caplog):
    async with serving() as service, streaming(service.url, core, faults) as stream:
        service.companies["acme"] = entity("c1", id="acme")
        await stream.first_outcome.wait()
        await service.sockets[0].send(junk)
        await service.sockets[0].send(junk)
        assert await stream.request(COMPANY, {"id": "acme"}, soon())
        assert stream.ready
        assert core.flag_keys() == ["f"]
    assert len(service.sockets) == 1
    assert len(said(caplog)) == 1


async def test_a_message_above_the_size_limit_causes_a_reconnect(core, faults):
    async with (
        serving() as service,
        streaming(service.url, core, faults, max_message_size=10_000) as stream,
    ):
        await stream.first_outcome.wait()
        await service.sockets[0].send(" " * 20_000)
        await eventually_async(lambda: len(service.sockets) == 2)
        await eventually_async(lambda: stream.ready)


async def test_a_large_message_is_ingested(core, faults):
    async with serving() as service:
        service.flags = [FLAG | {"id": f"f{n}", "key": f"key-{n}"} for n in range(2000)]
        async with streaming(service.url, core, faults) as stream:
            await asyncio.wait_for(stream.first_outcome.wait(), PATIENCE)
            assert len(core.flag_keys()) == 2000


async def test_a_connection_without_flags_is_closed(core, faults):
    timing = Timing(flags=0.02)
    async with serving() as service:
        service.flags = {"no": "list"}
        async with streaming(service.url, core, faults, timing=timing):
            await eventually_async(lambda: "the flags did not arrive" in (faults.last_error or ""))
            service.flags = [FLAG]
            await eventually_async(core.has_flags)


async def test_two_missed_pongs_end_the_connection(core, faults):
    """The server shakes hands and is never heard of again."""
    connections = 0

    async def freeze(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        head = await reader.readuntil(b"\r\n\r\n")
        lines = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:] if line)
        key = {name.lower(): value for name, value in lines.items()}["sec-websocket-key"]
        digest = hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()  # noqa: S324
        accept = base64.b64encode(digest).decode()
        writer.write(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Accept: {accept}\r\n\r\n".encode()
        )
        await reader.read()
        writer.close()

    server = await asyncio.start_server(freeze, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    timing = Timing(ping=0.01, pong=0.01, close=0.01)
    async with server, streaming(url, core, faults, timing=timing):
        await eventually_async(lambda: "no answer to two pings" in (faults.last_error or ""))
        await eventually_async(lambda: connections >= 2)


async def test_pongs_keep_the_connection(core, faults):
    timing = Timing(ping=0.005, pong=5)
    async with serving() as service, streaming(service.url, core, faults, timing=timing) as stream:
        await stream.first_outcome.wait()
        for _ in range(20):
            await asyncio.sleep(0.005)
        assert stream.ready
        assert len(service.sockets) == 1


async def test_a_flood_of_messages_does_not_block_the_loop(core, faults):
    async with serving() as service, streaming(service.url, core, faults) as stream:
        await stream.first_outcome.wait()
        companies = (entity(f"c{n}", id=f"x{n}") for n in range(5000))
        turns = 0

        async def count() -> None:
            nonlocal turns
            while core.counts()["companies"] < 5000:
                await asyncio.sleep(0)
                turns += 1

        counting = asyncio.create_task(count())
        for company in companies:
            message = {"entity_type": COMPANY, "message_type": "full", "data": company}
            await service.sockets[0].send(json.dumps(message))
        await asyncio.wait_for(counting, PATIENCE)
        assert turns > 5000 / 64
