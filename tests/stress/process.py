"""One process of the run: a client, sync or async, its workers, and how it ends."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from typing import TYPE_CHECKING, Any

from schematic_native import (
    AsyncSchematic,
    AsyncSchematicConfig,
    CreditLeaseConfig,
    Schematic,
    SchematicConfig,
)
from tests.stress.companies import FLAG
from tests.stress.counts import Count
from tests.stress.limits import (
    DUST,
    LEASE_DURATION,
    LEASE_SIZE,
    MOST_QUEUED,
    RESERVATION_TTL,
    TIMEOUT,
)
from tests.stress.traffic import Check, Traffic

if TYPE_CHECKING:
    from multiprocessing.connection import Connection


def _fields(url: str) -> dict[str, Any]:
    return {
        "base_url": url,
        "event_capture_url": url,
        "use_datastream": True,
        "timeout": TIMEOUT,
        "event_buffer_period": 0.2,
        "credit_leases": CreditLeaseConfig(
            mode="client",
            default_lease_size=LEASE_SIZE,
            default_lease_duration=LEASE_DURATION,
            default_reservation_ttl=RESERVATION_TTL,
            sweep_interval=0.1,
        ),
    }


def _work(client: Schematic, traffic: Traffic, over: threading.Event) -> None:
    clock = time.monotonic
    while not over.is_set():
        todo = traffic.next()
        begun = clock()
        try:
            if isinstance(todo, Check):
                result = client.check(
                    FLAG,
                    todo.company,
                    usage=todo.usage,
                    timeout=todo.timeout,
                    on_acquire_failure=todo.on_acquire_failure,  # type: ignore[arg-type]
                )
                traffic.checked(todo, result, clock() - begun)
            else:
                client.track_with_reservation(todo.hold.reservation, todo.quantity)
                traffic.settled(todo, clock() - begun)
        except Exception as error:  # noqa: BLE001 - nothing may be raised, whatever it is
            traffic.count.raised.append(repr(error))
        over.wait(0.001)
        while client.status().queued_events > MOST_QUEUED and not over.wait(0.01):
            continue


async def _work_async(client: AsyncSchematic, traffic: Traffic, over: threading.Event) -> None:
    clock = time.monotonic
    while not over.is_set():
        todo = traffic.next()
        begun = clock()
        try:
            if isinstance(todo, Check):
                result = await client.check(
                    FLAG,
                    todo.company,
                    usage=todo.usage,
                    timeout=todo.timeout,
                    on_acquire_failure=todo.on_acquire_failure,  # type: ignore[arg-type]
                )
                traffic.checked(todo, result, clock() - begun)
            else:
                await client.track_with_reservation(todo.hold.reservation, todo.quantity)
                traffic.settled(todo, clock() - begun)
        except Exception as error:  # noqa: BLE001 - nothing may be raised, whatever it is
            traffic.count.raised.append(repr(error))
        await asyncio.sleep(0.001)
        while client.status().queued_events > MOST_QUEUED and not over.is_set():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def _sample(client: Schematic | AsyncSchematic, over: threading.Event, count: Count) -> None:
    """Look at every lease again and again: nothing below zero, nothing above the grant."""
    while not over.wait(0.005):
        for lease in client._core.live_leases():
            if not 0 <= lease.remaining <= lease.granted + DUST:
                count.impossible.append(f"{lease.lease_id}: {lease.remaining} of {lease.granted}")


def _run_sync(url: str, api_key: str, traffics: list[Traffic], end: _End, count: Count) -> None:
    client = Schematic(api_key, SchematicConfig(**_fields(url)))
    client.initialize()
    workers = [threading.Thread(target=_work, args=(client, t, end.over)) for t in traffics]
    workers.append(threading.Thread(target=_sample, args=(client, end.over, count)))
    for worker in workers:
        worker.start()
    end.wait()
    for worker in workers:
        worker.join()
    end.drain(client)
    begun = time.monotonic()
    client.shutdown()
    count.shutdown = time.monotonic() - begun
    count.undelivered = client.status().queued_events


def _run_async(url: str, api_key: str, traffics: list[Traffic], end: _End, count: Count) -> None:
    async def program() -> None:
        client = AsyncSchematic(api_key, AsyncSchematicConfig(**_fields(url)))
        await client.initialize()
        sampler = threading.Thread(target=_sample, args=(client, end.over, count))
        sampler.start()
        waiting = asyncio.to_thread(end.wait)
        await asyncio.gather(waiting, *(_work_async(client, t, end.over) for t in traffics))
        sampler.join()
        await asyncio.to_thread(end.drain, client)
        begun = time.monotonic()
        await client.shutdown()
        count.shutdown = time.monotonic() - begun
        count.undelivered = client.status().queued_events

    asyncio.run(program())


class _End:
    """Ends one process: the parent says when, and that the emulator works again."""

    def __init__(self, pipe: Connection) -> None:
        self.over = threading.Event()
        self._pipe = pipe

    def wait(self) -> None:
        """Wait until the parent calls the end, then stop the workers."""
        self._pipe.send("ready")
        self._pipe.recv()
        self.over.set()

    def drain(self, client: Schematic | AsyncSchematic, timeout: float = 60.0) -> None:
        """Wait until every event is delivered, as a shutdown has but 5 s for that."""
        deadline = time.monotonic() + timeout
        pause = threading.Event()
        while client.status().queued_events and time.monotonic() < deadline:
            pause.wait(0.02)


class _LogCounter(logging.Handler):
    """Counts what the client logs, which would fill the screen."""

    def __init__(self, count: Count) -> None:
        super().__init__()
        self._count = count

    def emit(self, record: logging.LogRecord) -> None:
        self._count.logged += 1


def work_in_process(pipe: Connection, job: dict[str, Any]) -> None:
    """Run one process of workers and send back what it counted."""
    traffics = [
        Traffic(f"{job['seed']}/{job['process']}/{worker}", job["companies"])
        for worker in range(job["threads"])
    ]
    count = Count()
    log = logging.getLogger("schematic_native")
    log.propagate = False
    log.addHandler(_LogCounter(count))
    run = _run_async if job["asynchronous"] else _run_sync
    run(job["url"], job["api_key"], traffics, _End(pipe), count)
    for traffic in traffics:
        count.add(traffic.count)
    pipe.send(count)
