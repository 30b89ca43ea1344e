"""HTTP clients that a program gives us: told apart by their attributes, used for all requests, never closed."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any
from unittest.mock import MagicMock

import aiohttp
import httpx
import pytest

from schematic_native import AsyncSchematic, AsyncSchematicConfig, Schematic, SchematicConfig
from schematic_native._native import Core
from schematic_native.config.http_clients import adapt
from schematic_native.config.settings import Settings
from schematic_native.service.errors import ApiConnectionError, ApiError, ApiTimeoutError
from schematic_native.service.rest import Api
from tests.servers import Answer, HttpServer, data

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

KEY = "sch_secret"
VERDICT = {"flag": "f", "value": True, "reason": "ok"}


def httpx2() -> Any:
    return pytest.importorskip("httpx2", reason="it is not there for Python 3.10")


CLIENTS: dict[str, Callable[[], Any]] = {
    "httpx.AsyncClient": lambda: httpx.AsyncClient(trust_env=False),
    "httpx.Client": lambda: httpx.Client(trust_env=False),
    "httpx2.AsyncClient": lambda: httpx2().AsyncClient(trust_env=False),
    "httpx2.Client": lambda: httpx2().Client(trust_env=False),
    "aiohttp.ClientSession": aiohttp.ClientSession,
}


@contextlib.asynccontextmanager
async def made(name: str) -> AsyncIterator[Any]:
    client = CLIENTS[name]()
    try:
        yield client
    finally:
        if hasattr(client, "aclose"):
            await client.aclose()
        elif name.startswith("aiohttp"):
            await client.close()
        else:
            client.close()


def batch() -> Any:
    core = Core(api_key=KEY)
    core.track("tokens")
    return core.take_batch()


async def no_sleep(_seconds: float) -> None: ...


def make_api(server: HttpServer, client: object) -> Api:
    settings = Settings(
        api_key=KEY, base_url=server.url, event_capture_url=server.url, httpx_client=client
    )
    return Api(settings, sleep=no_sleep, jitter=lambda: 1.0)


@pytest.mark.parametrize("name", CLIENTS)
async def test_a_given_client_sends_events_and_calls_and_stays_open(name):
    script = [Answer(202), Answer(429, {"error": "slow"}, {"Retry-After": "7"}), Answer(503)]
    async with made(name) as client:
        with HttpServer(*script, otherwise=Answer(body=data(**VERDICT))) as server:
            api = make_api(server, client)
            taken = await api.post_events(batch())
            assert (taken.status, taken.seconds > 0) == (202, True)
            refused = await api.post_events(batch())
            assert (refused.status, refused.is_explained, refused.asked_delay) == (429, True, 7.0)
            assert (await api.check_flag("a/b", None, {"id": "u"})).value is True
            await api.close()
            assert not getattr(client, "closed", getattr(client, "is_closed", None))
    paths = [request.path for request in server.requests]
    assert paths == ["/batch", "/batch", "/flags/a%2Fb/check", "/flags/a%2Fb/check"]
    assert {request.headers["x-schematic-api-key"] for request in server.requests} == {KEY}
    assert server.requests[0].body["events"][0]["body"] == {"event": "tokens"}


@pytest.mark.parametrize("name", CLIENTS)
async def test_errors_of_a_given_client_become_ours(name):
    async with made(name) as client:
        with HttpServer(Answer(400, {"error": "no such flag"}), Answer(close=True)) as server:
            api = make_api(server, client)
            with pytest.raises(ApiError, match="HTTP 400: no such flag"):
                await api.check_flag("f", None, None)
            with pytest.raises(ApiConnectionError):
                await api.post_events(batch())
            await api.close()


@pytest.mark.parametrize("name", CLIENTS)
async def test_a_given_client_without_a_response_is_a_timeout(name):
    async with made(name) as client:
        with HttpServer(otherwise=Answer(freeze=True)) as server:
            settings = Settings(
                api_key=KEY, event_capture_url=server.url, httpx_client=client, timeout=0.1
            )
            api = Api(settings)
            with pytest.raises(ApiTimeoutError, match="no answer in time"):
                await api.post_events(batch())
            await api.close()


async def test_a_session_of_aiohttp_follows_redirects_as_configured():
    async with made("aiohttp.ClientSession") as client:
        script = [Answer(307, headers={"Location": "/elsewhere"}), Answer(202)]
        with HttpServer(*script) as server:
            api = make_api(server, client)
            assert (await api.post_events(batch())).status == 202
            await api.close()
    assert [request.path for request in server.requests] == ["/batch", "/elsewhere"]


@pytest.mark.parametrize("name", ["httpx2.AsyncClient", "aiohttp.ClientSession"])
async def test_an_asynchronous_client_sends_over_it(name):
    with HttpServer(otherwise=Answer(body=data(**VERDICT))) as server:
        async with made(name) as given:
            config = AsyncSchematicConfig(
                base_url=server.url, event_capture_url=server.url, httpx_client=given
            )
            async with AsyncSchematic(KEY, config) as client:
                assert await client.check_flag("f") is True
                await client.track("tokens")
    assert {request.path for request in server.requests} == {"/flags/f/check", "/batch"}


def test_a_synchronous_client_sends_over_it():
    with (
        HttpServer(otherwise=Answer(body=data(**VERDICT))) as server,
        httpx2().Client(trust_env=False) as given,
    ):
        config = SchematicConfig(
            base_url=server.url, event_capture_url=server.url, httpx_client=given
        )
        with Schematic(KEY, config) as client:
            assert client.check_flag("f") is True
            client.track("tokens")
    assert {request.path for request in server.requests} == {"/flags/f/check", "/batch"}


@pytest.mark.parametrize("name", ["Client", "AsyncClient"])
@pytest.mark.parametrize("library", [lambda: httpx, httpx2], ids=["httpx", "httpx2"])
def test_a_mock_of_a_client_is_taken(library: Callable[[], Any], name: str) -> None:
    given = MagicMock(spec=getattr(library(), name))
    answer = given.request.return_value
    answer.status_code, answer.content, answer.headers = 200, b'{"data": {"value": true}}', {}
    response = asyncio.run(adapt(given)("GET", "http://localhost", None, {}, None))
    assert (response.status, response.content) == (200, answer.content)
    given.request.assert_called_once()


class Session:
    """What a client of another kind looks like."""

    def request(self, method: str, url: str) -> None: ...


@pytest.mark.parametrize("client", [Session(), object(), httpx, httpx.AsyncClient, "client"])
def test_an_object_of_another_kind_is_refused(client):
    with pytest.raises(TypeError, match="httpx_client must be a client of httpx"):
        adapt(client)
