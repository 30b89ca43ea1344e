"""Programs that use a client: one the synchronous, one the asynchronous, both spoken to from here.

The clients are the public ones. What is scripted of them is their core's engine and clock, and the
core's request for a background extend, which waits until the vector has it done.
"""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Protocol

import httpx

from schematic_native import AsyncSchematic, AsyncSchematicConfig, Schematic, SchematicConfig
from schematic_native._testing import scripted_core
from tests.limits import give_stores

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    import pytest

    from schematic_native._native import Core
    from schematic_native.client.runtime import Runtime
    from tests.conformance.clock import Clock
    from tests.conformance.engine import Engine

API_KEY = "sch_dev_vectors"
# Seconds after which something that must happen has not happened.
LIMIT = 60.0
PAUSE = 0.0005


class Call(Protocol):
    """A call of the client that is under way."""

    def done(self) -> bool: ...

    def result(self) -> Any: ...


class Bell:
    """Rings as the core does, but for background extends, which it keeps until they are asked for."""

    def __init__(self, ring: Callable[[str], None]) -> None:
        self._ring = ring
        self._kept = False

    def __call__(self, topic: str) -> None:
        if topic == "extend":
            self._kept = True
        else:
            self._ring(topic)

    def let_go(self) -> None:
        if self._kept:
            self._kept = False
            self._ring("extend")


class Stage:
    """What a client finds in place of a core of its own: a scripted engine and a clock."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, clock: Clock, engine: Engine) -> None:
        self._clock = clock
        self._engine = engine
        self.bell: Bell
        self.joined = 0
        monkeypatch.setattr("schematic_native.client.base.Core", self._make_core)
        # On a busy machine nothing is to time out but what the vector gives no time.
        monkeypatch.setattr("schematic_native.client.blocking.GRACE", LIMIT)
        give_stores(monkeypatch, LIMIT)
        for name in ("MAP_TIMEOUT", "FIRST_MAP_TIMEOUT"):
            monkeypatch.setattr(f"schematic_native.redis.cluster_routing.{name}", LIMIT)
        # So that an end that is asked for is the one that was planned.
        monkeypatch.setattr("schematic_native.leases.lease_ends.EXPIRY_JITTER", 0.0)
        from schematic_native.leases.flights import Flight  # noqa: PLC0415 - what is wrapped

        join = Flight.join

        async def count_join(flight: Flight, deadline: float | None) -> bool:
            """Count who waits for a wire call, so that a vector can have callers come one by one."""
            self.joined += 1
            return await join(flight, deadline)

        monkeypatch.setattr(Flight, "join", count_join)

    def _make_core(self, *, wake: Callable[[str], None], **settings: Any) -> Core:
        self.bell = Bell(wake)
        return scripted_core(self._engine, wake=self.bell, clock=self._clock, **settings)


class SyncProgram:
    """Uses `Schematic`."""

    kind = "sync"

    def __init__(self, _loop: asyncio.AbstractEventLoop, **config: Any) -> None:
        self._http = httpx.Client(verify=False)  # noqa: S501 - it speaks to this machine, without TLS
        self._callers = ThreadPoolExecutor(thread_name_prefix="caller")
        self.client = Schematic(API_KEY, SchematicConfig(httpx_client=self._http, **config))

    def do(self, method: str, *arguments: Any, **keywords: Any) -> Any:
        return getattr(self.client, method)(*arguments, **keywords)

    def start(self, method: str, *arguments: Any, **keywords: Any) -> Call:
        return self._callers.submit(self.do, method, *arguments, **keywords)

    def runtime(self) -> Runtime:
        runtime = self.client._ensure_running()
        assert runtime is not None, "the client is shut down"
        return runtime

    def work(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine where the client's I/O runs."""
        self.runtime()
        thread = self.client._session.thread
        assert thread is not None
        return thread.call(lambda: work, LIMIT)

    def start_work(self, work: Coroutine[Any, Any, Any]) -> Call:
        return self._callers.submit(self.work, work)

    def wait(self, condition: Callable[[], object]) -> None:
        deadline, pause = time.monotonic() + LIMIT, threading.Event()
        while not condition():
            assert time.monotonic() < deadline, "did not come to pass in time"
            pause.wait(PAUSE)

    def close(self) -> None:
        self.client.shutdown()
        self._callers.shutdown()
        self._http.close()


class AsyncProgram:
    """Uses `AsyncSchematic`, on a loop that runs while this program is waited for."""

    kind = "async"

    def __init__(self, loop: asyncio.AbstractEventLoop, **config: Any) -> None:
        self._loop = loop
        self._http = httpx.AsyncClient(verify=False)  # noqa: S501 - as above
        self.client = AsyncSchematic(
            API_KEY, AsyncSchematicConfig(httpx_client=self._http, **config)
        )

    def do(self, method: str, *arguments: Any, **keywords: Any) -> Any:
        return self.work(getattr(self.client, method)(*arguments, **keywords))

    def start(self, method: str, *arguments: Any, **keywords: Any) -> Call:
        return self.start_work(getattr(self.client, method)(*arguments, **keywords))

    def runtime(self) -> Runtime:
        async def running() -> Runtime:
            return self.client._running()

        runtime: Runtime = self.work(running())
        return runtime

    def work(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine where the client's I/O runs."""
        return self._loop.run_until_complete(asyncio.wait_for(work, LIMIT))

    def start_work(self, work: Coroutine[Any, Any, Any]) -> Call:
        return self._loop.create_task(work)

    def wait(self, condition: Callable[[], object]) -> None:
        async def come_to_pass() -> None:
            deadline = time.monotonic() + LIMIT
            while not condition():
                assert time.monotonic() < deadline, "did not come to pass in time"
                await asyncio.sleep(PAUSE)

        self._loop.run_until_complete(come_to_pass())

    def close(self) -> None:
        self.do("shutdown")
        self.work(self._http.aclose())


Program = SyncProgram | AsyncProgram
PROGRAMS: dict[str, type[Program]] = {
    program.kind: program for program in (SyncProgram, AsyncProgram)
}


def rest(program: Program) -> None:
    """Wait until nothing that the client does in the background is under way; closing waits itself."""
    runtime = program.client._runtime
    if runtime is None or program.client._closed:
        return

    async def rested() -> None:
        leases = runtime._leases
        while under_way := [
            *runtime._background,
            *(() if leases is None else leases._calls.tasks),
        ]:
            await asyncio.wait(under_way)

    program.work(rested())
