"""Debits and replies of Redis that come late: busy threads, hanging resolvers, shutdowns."""

from __future__ import annotations

import asyncio
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
import redis
import redis.asyncio

from schematic_native import (
    AsyncSchematic,
    AsyncSchematicConfig,
    CreditLeaseConfig,
    Schematic,
    SchematicConfig,
)
from schematic_native.ground.store_errors import StoreError
from schematic_native.redis import Operations, ThreadedStore, open_store
from schematic_native.redis.keys import Keys
from tests.conftest import ACME, API_KEY, eventually, eventually_async, streaming
from tests.leases.gates import left_of_lease
from tests.limits import give_stores

if TYPE_CHECKING:
    from schematic_native.redis import Operation


async def test_an_event_loop_whose_threads_are_busy_reaches_a_synchronous_redis(
    emulator, redis_server
):
    loop, free = asyncio.get_running_loop(), threading.Event()
    loop.set_default_executor(ThreadPoolExecutor(1))
    with redis.Redis.from_url(redis_server.url) as connection:
        settings = CreditLeaseConfig(mode="client", redis_client=connection)
        fields = streaming(emulator, credit_leases=settings)
        async with AsyncSchematic(API_KEY, AsyncSchematicConfig(**fields)) as client:
            assert (await client.check("inference", ACME, usage=1)).allowed
            busy = loop.run_in_executor(None, free.wait)
            assert (await client.check("inference", ACME, usage=1)).allowed
            free.set()
            await busy


@pytest.mark.parametrize("module", [redis, redis.asyncio], ids=["threads", "loop"])
async def test_a_check_with_less_time_than_redis_takes_gives_back_what_it_was_debited(
    module, emulator, redis_server
):
    connection = module.Redis.from_url(redis_server.url)
    settings = CreditLeaseConfig(mode="client", redis_client=connection, sweep_interval=0.02)
    fields = streaming(emulator, credit_leases=settings)
    async with AsyncSchematic(API_KEY, AsyncSchematicConfig(**fields)) as client:
        result = await client.check("inference", ACME, usage=1)
        await client.track_with_reservation(result.reservation, 1)
        with redis_server.frozen():
            # Time enough to ask for the debits: what Redis is not asked for is given back by nobody.
            results = await asyncio.gather(
                *(client.check("inference", ACME, usage=10, timeout=0.5) for _ in range(5))
            )
        assert [result.error for result in results] == ["lease_store_error"] * 5
        assert [result.reservation for result in results] == [None] * 5
        await eventually_async(lambda: left_of_lease(redis_server) == 10_000 - 2)
    if module is redis:
        connection.close()
    else:
        await connection.aclose()


class BusyStore:
    """A synchronous store that answers when it is told to."""

    operations = Operations(Keys("schematic:"))

    def __init__(self) -> None:
        self.answer = threading.Event()

    def run(self, operation: Operation[Any], timeout: float | None = None) -> Any:
        self.answer.wait(timeout)
        operation.close()
        return "answered"

    def close(self) -> None:
        """Nothing is open."""


async def test_an_operation_for_which_no_thread_is_free_fails_in_time(monkeypatch):
    monkeypatch.setattr("schematic_native.redis.threaded_store.MOST_WORKERS", 1)
    busy: Any = BusyStore()
    store = ThreadedStore(busy)
    first = asyncio.ensure_future(store.run(store.operations.lapsed()))
    await asyncio.sleep(0)
    with pytest.raises(StoreError, match="no thread") as failure:
        await store.run(store.operations.lapsed(), 0.02)
    assert not failure.value.lost
    busy.answer.set()
    assert await first == "answered"
    await store.close()


# Seconds that Redis is given: a busy machine may take long for five replies.
LONG = 60.0


class HeldReplies:
    """Carries out what Redis is asked, and keeps its replies until they are let go."""

    def __init__(self, links: Any) -> None:
        self._links, self._ask = links, links.ask
        self._held: list[Any] = []
        links.ask = self.ask

    def ask(self, batch: Any, deadline: float | None, answered: Any, *, in_full: bool) -> None:
        self._ask(
            batch,
            deadline,
            lambda replies: self._held.append((answered, replies)),
            in_full=in_full,
        )

    def __len__(self) -> int:
        return len(self._held)

    def let_go(self) -> None:
        self._links.ask = self._ask
        for answered, replies in self._held:
            answered(replies)


@pytest.mark.parametrize("is_cancelled", [False, True])
@pytest.mark.parametrize("timeout", [LONG - 1, LONG + 1])
async def test_a_shutdown_waits_for_the_debits_that_it_has_sent(
    emulator, redis_server, timeout, is_cancelled, monkeypatch
):
    give_stores(monkeypatch, LONG)
    settings = CreditLeaseConfig(
        mode="client", redis_client=redis.asyncio.Redis.from_url(redis_server.url)
    )
    client = AsyncSchematic(
        API_KEY, AsyncSchematicConfig(**streaming(emulator, credit_leases=settings))
    )
    await client.initialize()
    await client.track_with_reservation(
        (await client.check("inference", ACME, usage=1)).reservation, 1
    )
    replies = HeldReplies(client._store._connections)
    checks = [
        asyncio.ensure_future(client.check("inference", ACME, usage=10, timeout=timeout))
        for _ in range(5)
    ]
    await eventually_async(lambda: len(replies) == len(checks))
    if is_cancelled:
        for check in checks:
            check.cancel()
        await asyncio.wait(checks)
    shutdown = asyncio.ensure_future(client._runtime.close(LONG))
    await eventually_async(lambda: client._runtime._shared._closing)
    assert not shutdown.done()
    replies.let_go()
    await shutdown
    await client.shutdown()
    answers = [] if is_cancelled else [(await check).reservation for check in checks]
    assert None not in answers
    async with redis.asyncio.Redis.from_url(redis_server.url) as reader:
        store: Any = open_store(reader, "schematic:")
        lease = await store.run(store.operations.lease(("comp_acme", "credit_inference")))
        held = await store.run(store.operations.reserved_credits(("comp_acme", "credit_inference")))
        await store.close()
    assert held == 20 * len(answers)
    assert lease.remaining + held == lease.granted - 2


def test_no_call_outlasts_its_timeout_while_the_resolver_hangs(emulator, redis_server, monkeypatch):
    """The connection that was asked for then is opened all the same, and serves what comes next."""
    resolve, is_slow, may_answer = socket.getaddrinfo, threading.Event(), threading.Event()

    def hang(host: Any, *arguments: Any, **keywords: Any) -> Any:
        if host == "localhost" and is_slow.is_set():
            assert may_answer.wait(30)
        return resolve(host, *arguments, **keywords)

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    settings = CreditLeaseConfig(
        mode="client", redis_client=redis.Redis(host="localhost", port=redis_server.port)
    )
    with Schematic(
        API_KEY, SchematicConfig(**streaming(emulator, credit_leases=settings))
    ) as client:
        held = client.check("inference", ACME, usage=1).reservation
        client._store.close()
        is_slow.set()
        refused = client.check("inference", ACME, usage=1, timeout=0.4)
        assert (refused.allowed, refused.error) == (False, "lease_store_error")
        client.track_with_reservation(held, 1)
        may_answer.set()
        eventually(lambda: client.check("inference", ACME, usage=1).allowed)
    assert emulator.state()["billed"] == {"comp_acme": {"inference_tokens": 1}}
