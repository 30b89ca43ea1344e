"""A check in replicator mode, beside the published client on the same Redis, taking turns.

`python -m benches.replica` from the checkout; it starts a Redis of its own.
"""

from __future__ import annotations

import asyncio
import json
import logging
import statistics
import time
from typing import Any

import redis
from tests.cache.replicators import SEED, Program, Replicator
from tests.conftest import ACME
from tests.peer.test_replica import both
from tests.stores.servers import RedisServer

ROUNDS, CALLS = 200, 200
MORE = 24  # metrics, traits and entitlements of the big company


def grown(company: dict[str, Any]) -> dict[str, Any]:
    """Return a company with more of everything."""
    big = json.loads(json.dumps(company))
    for number in range(MORE):
        definition = {"id": f"t{number}", "comparable_type": "string", "entity_type": "company"}
        big["metrics"].append({**big["metrics"][0], "event_subtype": f"e{number}"})
        big["traits"].append({"value": "x", "trait_definition": definition})
        feature = {"feature_id": f"f{number}", "feature_key": f"k{number}"}
        big["entitlements"].append({**big["entitlements"][1], **feature})
    return big


def synchronous(replicator: Replicator, server: RedisServer) -> float:
    """Return the median of seconds that a check of our synchronous client takes."""
    with Program("sync", replicator, server) as program:
        program.await_tracking()
        check, samples = program.client.check_flag, []
        for _ in range(ROUNDS):
            began = time.perf_counter()
            for _ in range(CALLS):
                check("exports", ACME)
            samples.append((time.perf_counter() - began) / CALLS)
        return statistics.median(samples)


async def asynchronous(replicator: Replicator, server: RedisServer) -> tuple[float, float]:
    """Return the same of the published client and of our asynchronous one."""
    theirs_taken, ours_taken = [], []
    async with both(server, replicator) as (ours, theirs):
        await ours.check_flag("exports", ACME)
        for _ in range(ROUNDS):
            began = time.perf_counter()
            await theirs.check_flag("exports", ACME)
            theirs_taken.append(time.perf_counter() - began)
            began = time.perf_counter()
            for _ in range(CALLS):
                await ours.check_flag("exports", ACME)
            ours_taken.append((time.perf_counter() - began) / CALLS)
    return statistics.median(theirs_taken), statistics.median(ours_taken)


def main() -> None:
    """Measure a small and a big company."""
    logging.disable(logging.CRITICAL)
    server = RedisServer("--appendonly", "no").start()
    try:
        with server.connect(redis) as client:
            replicator = Replicator(client)
            replicator.fill()
            for name in ("small", "big"):
                if name == "big":
                    replicator.entity("company", grown(SEED["companies"][0]))
                theirs, ours = asyncio.run(asynchronous(replicator, server))
                sync = synchronous(replicator, server)
                print(
                    f"{name}: schematichq {theirs * 1e6:.0f} us; AsyncSchematic {ours * 1e6:.2f} us "
                    f"({theirs / ours:.0f}x); Schematic {sync * 1e6:.2f} us ({theirs / sync:.0f}x)"
                )
            replicator.stop()
    finally:
        server.remove()


if __name__ == "__main__":
    main()
