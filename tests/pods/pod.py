"""One pod: `python -m tests.pods.pod '<job as JSON>'`. It works until SIGTERM, then ends in order."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import random
import signal
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import redis
import redis.asyncio

from schematic_native import (
    AsyncSchematic,
    AsyncSchematicConfig,
    CheckResult,
    CreditLeaseConfig,
    LocalSlab,
    Reservation,
    Schematic,
    SchematicConfig,
)
from tests.pods.journal import Journal

if TYPE_CHECKING:
    from collections.abc import Iterator

FLAG, COMPANY = "inference", {"id": "acme"}
LARGEST_USAGE = 20
LARGEST_SLAB = 400.0
# A hold that lapses within this many seconds is not settled any more: on a busy machine the settle
# might come too late.
LEFT = 0.3
# Seconds between two looks at what is queued, and that its delivery may take.
PAUSE, DELIVERY = 0.02, 40.0


@dataclass(frozen=True)
class Job:
    """What a pod is to do."""

    url: str
    api_key: str
    redis_url: str
    journal: str
    asynchronous: bool
    slabs: bool
    workers: int
    seed: int
    lease_size: float = 5000.0
    reservation_ttl: float = 1.5
    slab_lifetime: float = 0.5
    pause: float = 0.02  # seconds, at most, between two steps of a worker

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    def fields(self, redis_client: object) -> dict[str, Any]:
        """Return the fields of the client's configuration."""
        slab = LocalSlab(50.0, LARGEST_SLAB, self.slab_lifetime) if self.slabs else None
        return {
            "base_url": self.url,
            "event_capture_url": self.url,
            "use_datastream": True,
            "timeout": 2.0,
            "event_buffer_period": 0.1,
            "credit_leases": CreditLeaseConfig(
                mode="client",
                redis_client=redis_client,
                default_lease_size=self.lease_size,
                default_lease_duration=3600.0,
                default_reservation_ttl=self.reservation_ttl,
                sweep_interval=0.2,
                local_slab=slab,
            ),
        }


class Worker:
    """Decides what one worker does, and writes down what came of it."""

    def __init__(self, job: Job, number: int, journal: Journal) -> None:
        self._random = random.Random(f"{job.seed}/{number}")
        self._journal = journal
        self._pause = job.pause

    @property
    def usage(self) -> int:
        return self._random.randint(1, LARGEST_USAGE)

    @property
    def pause(self) -> float:
        return self._random.uniform(0, self._pause)

    def checked(self, result: CheckResult) -> float | None:
        """Write a check down; the units to settle it with, None if it is to lapse."""
        hold = result.reservation
        if hold is None:
            self._journal.write("denied", result.error or result.reason)
            return None
        self._journal.held(hold)
        if self._random.random() < 0.05:
            return None
        return self._random.choice([hold.quantity_reserved, self._random.randint(0, 20), 0.5])

    def settling(self, hold: Reservation, quantity: float) -> float | None:
        """Write down that a settle begins; its quantity, None if it would come too late."""
        if time.time() > hold.expires_at.timestamp() - LEFT:
            return None
        quantity = min(quantity, hold.quantity_reserved)
        units = math.ceil(quantity)
        self._journal.write("settling", hold.id, units, units * hold.consumption_rate)
        return quantity

    def settled(self, hold: Reservation) -> None:
        """Write down that a settle came back."""
        self._journal.write("settled", hold.id, time.time() > hold.expires_at.timestamp())

    def raised(self, error: Exception) -> None:
        """Write down what must not happen."""
        self._journal.write("raised", repr(error))


def _work(client: Schematic, worker: Worker, over: threading.Event) -> None:
    while not over.is_set():
        try:
            result = client.check(FLAG, COMPANY, usage=worker.usage)
            quantity = worker.checked(result)
            over.wait(worker.pause)
            hold = result.reservation
            if hold is not None and quantity is not None:
                quantity = worker.settling(hold, quantity)
                if quantity is not None:
                    client.track_with_reservation(hold, quantity)
                    worker.settled(hold)
        except Exception as error:  # noqa: BLE001 - nothing may be raised, whatever it is
            worker.raised(error)


def _while_queued(client: Schematic | AsyncSchematic) -> Iterator[None]:
    """Go on until every event is delivered: a shutdown has but 5 s for that, and the machine may be busy."""
    until = time.monotonic() + DELIVERY
    while client.status().queued_events and time.monotonic() < until:
        yield


def _run(job: Job, journal: Journal) -> None:
    over = threading.Event()
    # Waited for, not handled: a handler runs in the main thread alone, and would never run if the
    # signal came just before that thread waits for a lock, or were given to another thread.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    journal.write("ready")
    with redis.Redis.from_url(job.redis_url) as redis_client:
        client = Schematic(job.api_key, SchematicConfig(**job.fields(redis_client)))
        workers = [Worker(job, number, journal) for number in range(job.workers)]
        threads = [threading.Thread(target=_work, args=(client, w, over)) for w in workers]
        for thread in threads:
            thread.start()
        signal.sigwait({signal.SIGTERM})
        over.set()
        for thread in threads:
            thread.join()
        pause = threading.Event()
        for _ in _while_queued(client):
            pause.wait(PAUSE)
        client.shutdown()
        journal.write("ended", client.status().queued_events)


async def _work_async(client: AsyncSchematic, worker: Worker, over: asyncio.Event) -> None:
    while not over.is_set():
        try:
            result = await client.check(FLAG, COMPANY, usage=worker.usage)
            quantity = worker.checked(result)
            await asyncio.sleep(worker.pause)
            hold = result.reservation
            if hold is not None and quantity is not None:
                quantity = worker.settling(hold, quantity)
                if quantity is not None:
                    await client.track_with_reservation(hold, quantity)
                    worker.settled(hold)
        except Exception as error:  # noqa: BLE001 - nothing may be raised, whatever it is
            worker.raised(error)


async def _run_async(job: Job, journal: Journal) -> None:
    over = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
    journal.write("ready")
    async with redis.asyncio.Redis.from_url(job.redis_url) as redis_client:
        client = AsyncSchematic(job.api_key, AsyncSchematicConfig(**job.fields(redis_client)))
        workers = [Worker(job, number, journal) for number in range(job.workers)]
        await asyncio.gather(*(_work_async(client, worker, over) for worker in workers))
        for _ in _while_queued(client):
            await asyncio.sleep(PAUSE)
        await client.shutdown()
        journal.write("ended", client.status().queued_events)


def main() -> None:
    """Work until SIGTERM."""
    logging.disable(logging.CRITICAL)
    job = Job(**json.loads(sys.argv[1]))
    journal = Journal(Path(job.journal))
    if job.asynchronous:
        asyncio.run(_run_async(job, journal))
    else:
        _run(job, journal)


if __name__ == "__main__":
    main()
