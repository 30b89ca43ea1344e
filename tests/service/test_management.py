"""The REST resources of the published package on our clients."""

from __future__ import annotations

import asyncio
import os
import pickle
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from schematic_native import AsyncSchematic, AsyncSchematicConfig, Schematic, SchematicConfig
from schematic_native.service.errors import ApiError, NotFoundError
from schematic_native.service.resources import NAMES
from tests.callers import both_clients
from tests.conftest import API_KEY
from tests.forks import in_fork

if TYPE_CHECKING:
    from collections.abc import Iterator

published = pytest.importorskip("schematic.base_client")
import schematic.core  # noqa: E402 - only where it is installed
import schematic.errors  # noqa: E402

PAGE = b'{"data": [], "params": {}}'


class Service:
    """A server that keeps what it is asked; paths may be told what they answer."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.answers: dict[str, tuple[int, bytes, dict[str, str]]] = {}
        self.connections: set[Any] = set()
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                service.connections.add(self.client_address)
                path = self.path.partition("?")[0]
                service.requests.append((self.command, path, dict(self.headers)))
                status, body, headers = service.answers.get(path, (200, PAGE, {}))
                self.send_response(status)
                for name, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_GET  # noqa: N815 - the same

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=[0.01])
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def service() -> Iterator[Service]:
    running = Service()
    yield running
    running.stop()


def sync_client(service: Service, **fields: Any) -> Schematic:
    return Schematic(API_KEY, SchematicConfig(base_url=service.url, **fields))


def async_client(service: Service, **fields: Any) -> AsyncSchematic:
    return AsyncSchematic(API_KEY, AsyncSchematicConfig(base_url=service.url, **fields))


def kinds(kind: str) -> tuple[type, type]:
    if kind == "sync":
        return Schematic, published.BaseSchematic
    return AsyncSchematic, published.AsyncBaseSchematic


@both_clients
def test_our_clients_have_every_attribute_of_the_published_client(kind: str) -> None:
    ours, theirs = kinds(kind)
    public = {name for name in dir(theirs) if not name.startswith("_")}
    assert public == set(NAMES)
    assert public <= set(dir(ours))
    config = SchematicConfig if kind == "sync" else AsyncSchematicConfig
    client, peer = ours(API_KEY, config(offline=True)), theirs(api_key=API_KEY)
    for name in public:
        assert type(getattr(client, name)) is type(getattr(peer, name)), name
    assert client.companies is client.companies


def test_an_unknown_attribute_is_an_attribute_error(service: Service) -> None:
    with pytest.raises(AttributeError, match="'Schematic' object has no attribute 'nonsense'"):
        _ = sync_client(service).nonsense  # type: ignore[attr-defined]


def test_a_name_that_a_later_release_adds_is_found(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(published.BaseSchematic, "invoices", "later", raising=False)
    assert sync_client(service).invoices == "later"  # type: ignore[attr-defined]


@both_clients
def test_a_call_carries_the_configuration_of_the_client(service: Service, kind: str) -> None:
    if kind == "sync":
        with sync_client(service) as client:
            assert client.companies.list_companies().data == []
    else:

        async def ask() -> None:
            async with async_client(service) as client:
                assert (await client.companies.list_companies()).data == []

        asyncio.run(ask())
    ((method, path, headers),) = service.requests
    assert (method, path) == ("GET", "/companies")
    assert headers["X-Schematic-Api-Key"] == API_KEY
    assert headers["User-Agent"].startswith("schematic-native/")


def test_the_raw_response_has_status_and_headers(service: Service) -> None:
    service.answers["/companies"] = (200, PAGE, {"X-Request-Id": "r1"})
    with sync_client(service) as client:
        raw = client.companies.with_raw_response.list_companies()
        assert raw.headers["x-request-id"] == "r1"
        client.with_raw_response.get_credit_ledger()
    assert [path for _, path, _ in service.requests] == ["/companies", "/billing/credits/ledger"]


@pytest.mark.parametrize("follows", [True, False])
def test_redirects_are_followed_as_configured(service: Service, follows: bool) -> None:
    service.answers["/companies"] = (307, b"", {"Location": f"{service.url}/elsewhere"})
    with sync_client(service, follow_redirects=follows) as client:
        if follows:
            assert client.companies.list_companies().data == []
        else:
            with pytest.raises(schematic.core.ApiError):
                client.companies.list_companies()
    assert len(service.requests) == 1 + follows


@both_clients
def test_an_httpx_client_of_the_users_is_used_and_left_open(service: Service, kind: str) -> None:
    agents = []

    def note(request: httpx.Request) -> httpx.Response:
        agents.append(request.headers["x-mine"])
        return httpx.Response(200, content=PAGE)

    transport, headers = httpx.MockTransport(note), {"X-Mine": "yes"}
    given: Any
    if kind == "sync":
        given = httpx.Client(transport=transport, headers=headers)
        with sync_client(service, httpx_client=given) as client:
            client.plans.list_plans()
    else:
        given = httpx.AsyncClient(transport=transport, headers=headers)

        async def ask() -> None:
            async with async_client(service, httpx_client=given) as client:
                await client.plans.list_plans()

        asyncio.run(ask())
    assert agents == ["yes"]
    assert not given.is_closed


def test_an_asynchronous_client_takes_a_synchronous_httpx_client(service: Service) -> None:
    async def ask() -> None:
        with httpx.Client() as given:
            async with async_client(service, httpx_client=given) as client:
                assert (await client.plans.list_plans()).data == []

    asyncio.run(ask())


def test_a_synchronous_client_says_that_it_needs_a_synchronous_httpx_client() -> None:
    config = SchematicConfig(httpx_client=httpx.AsyncClient())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"need an httpx\.Client as httpx_client"):
        _ = Schematic(API_KEY, config).companies


@both_clients
def test_a_malformed_proxy_is_an_error_that_names_the_environment(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", "http://user:pass/word@proxy.invalid")
    url = "http://service.invalid"

    def ask() -> None:
        if kind == "sync":
            Schematic(API_KEY, SchematicConfig(base_url=url)).companies.list_companies()
        else:
            client = AsyncSchematic(API_KEY, AsyncSchematicConfig(base_url=url))
            asyncio.run(client.companies.list_companies())

    with pytest.raises(httpx.InvalidURL, match="the proxy in HTTPS_PROXY") as caught:
        ask()
    assert "pass" not in str(caught.value)


def test_the_timeout_is_that_of_the_client(service: Service) -> None:
    times = []

    def note(request: httpx.Request) -> httpx.Response:
        times.append(request.extensions["timeout"]["read"])
        return httpx.Response(200, content=PAGE)

    with httpx.Client(transport=httpx.MockTransport(note)) as given:
        client = sync_client(service, httpx_client=given, timeout=7)
        client.plans.list_plans()
    assert times == [7]


@both_clients
def test_no_request_is_sent_after_a_shutdown(service: Service, kind: str) -> None:
    if kind == "sync":
        for used in (True, False):
            client = sync_client(service)
            if used:
                client.plans.list_plans()
            client.shutdown()
            with pytest.raises(RuntimeError, match="closed"):
                client.plans.list_plans()
    else:

        async def ask() -> None:
            for used in (True, False):
                client = async_client(service)
                if used:
                    await client.plans.list_plans()
                await client.shutdown()
                with pytest.raises(RuntimeError, match="shut down"):
                    await client.plans.list_plans()

        asyncio.run(ask())
    assert len(service.requests) == 1


def test_an_asynchronous_client_serves_one_event_loop_after_the_other(service: Service) -> None:
    service.answers["/plans"] = (
        200,
        PAGE,
        {"Connection": "close"},
    )  # no connection belongs to a closed loop
    client = async_client(service)
    plans = client.plans

    async def ask() -> None:
        assert (await plans.list_plans()).data == []

    for _ in range(2):
        asyncio.run(ask())
    asyncio.run(client.shutdown())


@both_clients
def test_no_request_is_sent_offline(service: Service, kind: str) -> None:
    if kind == "sync":
        sync_client(service, offline=True).get_credit_ledger()
    else:

        async def ask() -> None:
            await async_client(service, offline=True).get_credit_ledger()

        asyncio.run(ask())
    assert service.requests == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_has_its_own_connections(service: Service) -> None:
    with sync_client(service) as client:
        client.plans.list_plans()
        assert in_fork(lambda: client.plans.list_plans() is not None)
        client.plans.list_plans()
    assert len(service.requests) == 3
    assert len(service.connections) == 2


def test_errors_of_a_resource_are_the_published_ones(service: Service) -> None:
    service.answers["/companies/none"] = (404, b'{"error": "no company"}', {})
    with sync_client(service) as client, pytest.raises(schematic.errors.NotFoundError) as caught:
        client.companies.get_company("none")
    assert not isinstance(caught.value, ApiError)


def test_our_own_errors_are_caught_as_published_ones(service: Service) -> None:
    service.answers["/flags/check"] = (404, b'{"error": "no company"}', {})
    with sync_client(service) as client, pytest.raises(schematic.core.ApiError) as caught:
        client.get_credit_balance({"id": "none"}, "credit")
    error = caught.value
    assert isinstance(error, NotFoundError)
    assert (error.status_code, error.headers, error.body) == (404, None, {"error": "no company"})
    assert str(error) == "HTTP 404: no company"
    copied = pickle.loads(pickle.dumps(error))
    assert (type(copied), str(copied)) == (type(error), str(error))


def test_the_published_package_is_not_loaded_before_its_use() -> None:
    code = """
import sys
import schematic_native
from schematic_native.service.rest import ApiError
client = schematic_native.Schematic("k", schematic_native.SchematicConfig(offline=True))
client.check_flag("f"); client.track("e"); dir(client); client.shutdown()
assert "schematic" not in sys.modules
assert type(ApiError("x")) is ApiError
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_the_package_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "schematic.base_client", None)
    client = Schematic("k", SchematicConfig(offline=True))
    said = r"Schematic\.companies needs .*'schematic-native\[management\]'"
    with pytest.raises(AttributeError, match=said):
        _ = client.companies
    assert not hasattr(client, "plans")
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = client.nonsense  # type: ignore[attr-defined]
