"""A replicator that writes entities into Redis, and programs in replicator mode that read them."""

from __future__ import annotations

import asyncio
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import redis
import redis.asyncio
from typing_extensions import Self

from schematic_native import (
    AsyncSchematic,
    AsyncSchematicConfig,
    DataStreamConfig,
    Schematic,
    SchematicConfig,
)
from schematic_native.cache import RedisCache
from tests.conftest import ACME, API_KEY, PATIENCE, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from schematic_native.cache.replicator import Replica
    from tests.stores.servers import RedisServer


CACHES = ("company_cache", "company_lookup_cache", "user_cache", "user_lookup_cache", "flag_cache")
SEED = json.loads((Path(__file__).parents[2] / "examples/inference.json").read_text())
both_kinds = pytest.mark.parametrize("kind", ["sync", "async"])


LIMIT = "schematic_native.cache.replicator.READ_TIMEOUT"


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine, half a second is too short for a Redis that is there."""
    monkeypatch.setattr(LIMIT, PATIENCE)


class Replicator:
    """A replicator from the outside: its health check, and what it has written into a Redis."""

    def __init__(self, client: Any, version: str = "v1") -> None:
        self.redis = client
        self.version = version
        self.health: dict[str, Any] | None = {"ready": True, "cache_version": version}
        self.asked = 0
        replicator = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                replicator.asked += 1
                health = replicator.health
                body = json.dumps(health).encode()
                self.send_response(200 if health is not None else 503)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/ready"
        self._thread = threading.Thread(target=self._server.serve_forever, args=[0.01], daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def write(self, name: str, value: Any) -> None:
        self.redis.set(f"schematic:{name}", json.dumps(value))

    def delete(self, name: str) -> None:
        self.redis.delete(f"schematic:{name}")

    def flag(self, flag: dict[str, Any]) -> None:
        self.write(f"flags:{self.version}:{flag['key'].lower()}", flag)

    def entity(self, kind: str, entity: dict[str, Any]) -> None:
        for name, value in entity["keys"].items():
            self.write(f"{kind}:{self.version}:{name.lower()}:{value.lower()}", entity["id"])
        self.write(f"{kind}:{self.version}:{entity['id']}", entity)

    def fill(self) -> None:
        for flag in SEED["flags"]:
            self.flag(flag)
        for company in SEED["companies"]:
            self.entity("company", company)
        for user in SEED["users"]:
            self.entity("user", user)


def seeded(entity_id: str, **changes: Any) -> dict[str, Any]:
    every = [*SEED["companies"], *SEED["users"], *SEED["flags"]]
    found = next(each for each in every if each["id"] == entity_id)
    return {**json.loads(json.dumps(found)), **changes}


UNPAID = {"plan_ids": [], "base_plan_id": None, "entitlements": []}


@pytest.fixture
def replicator(redis_server: RedisServer) -> Iterator[Replicator]:
    with redis_server.connect(redis) as client:
        running = Replicator(client)
        try:
            running.fill()
            yield running
        finally:
            running.stop()


def only_events(request: httpx.Request) -> httpx.Response:
    """Stand in for an API that takes events and answers nothing else."""
    return httpx.Response(200 if request.url.path == "/batch" else 400, json={"error": "no API"})


class Program:
    """A program in replicator mode, with a client of either kind, which counts its commands to Redis."""

    def __init__(
        self,
        kind: str,
        replicator: Replicator,
        server: Any,
        base_url: str | None = None,
        **fields: Any,
    ) -> None:
        self._loop = asyncio.new_event_loop()
        self._is_async = kind == "async"
        self.reads = 0
        self._redis = server.connect(redis.asyncio if self._is_async else redis)
        program = self

        class Counting(RedisCache[Any]):
            async def get(self, key: str) -> Any:
                program.reads += 1
                return await super().get(key)

        self.cache = Counting(self._redis)
        health_check = fields.pop("health_check", 50)
        datastream = DataStreamConfig(
            **dict.fromkeys(CACHES, self.cache),
            replicator_mode=True,
            replicator_health_url=replicator.url,
            replicator_health_check=health_check,
        )
        self._http: Any = None
        if base_url is None:
            client = httpx.AsyncClient if self._is_async else httpx.Client
            self._http = client(transport=httpx.MockTransport(only_events))
        made = {
            "base_url": base_url,
            "event_capture_url": base_url,
            "httpx_client": self._http,
            "use_datastream": True,
            "datastream": datastream,
            "timeout": 2,
            **fields,
        }
        self.client: Any
        if self._is_async:
            self.client = AsyncSchematic(API_KEY, AsyncSchematicConfig(**made))
        else:
            self.client = Schematic(API_KEY, SchematicConfig(**made))
        self.do("initialize")

    def do(self, method: str, *arguments: object, **keywords: object) -> Any:
        answer = getattr(self.client, method)(*arguments, **keywords)
        return self._loop.run_until_complete(answer) if self._is_async else answer

    def allows(self, flag: str = "inference", company: Any = ACME, user: Any = None) -> bool:
        return bool(self.do("check_flag", flag, company, user))

    def rest(self) -> None:
        """Let an event loop go on for a moment."""
        if self._is_async:
            self._loop.run_until_complete(asyncio.sleep(0.005))

    @property
    def replica(self) -> Replica:
        replica = self.client._runtime.replica
        assert replica is not None
        return replica

    def await_tracking(self) -> None:
        def is_tracked() -> bool:
            self.rest()
            return self.replica.is_tracked

        eventually(is_tracked)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.do("shutdown")
        if self._is_async:
            self._loop.run_until_complete(self._redis.aclose())
        else:
            self._redis.close()
        self._loop.close()


@pytest.fixture(params=["sync", "async"])
def program(
    request: pytest.FixtureRequest, replicator: Replicator, redis_server: RedisServer
) -> Iterator[Program]:
    with Program(request.param, replicator, redis_server) as made:
        made.await_tracking()
        yield made
