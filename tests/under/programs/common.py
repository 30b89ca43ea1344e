"""What every program of a probe does: hold credits, settle what it used, and tell how many units that were.

It runs on any interpreter with the package and what that needs, so it imports nothing else of the tests.
"""

from __future__ import annotations

import os
import ssl
from typing import Any

import httpx
import redis

from schematic_native import CreditLeaseConfig, LocalSlab, Schematic, SchematicConfig
from schematic_native.client import base, runtime

# Seconds that a first check waits for the DataStream: a busy machine may take longer to connect than the usual five,
# and after that the service is asked for a verdict, without credits.
base.INITIAL_WAIT = runtime.INITIAL_WAIT = 20.0

API_KEY = "sch_dev_emulator"
COMPANY = {"id": "acme"}


def fields() -> dict[str, Any]:
    """Configuration fields from the environment, as a probe set it."""
    url = os.environ["SCHEMATIC_URL"]
    certificate = os.environ.get("SCHEMATIC_CLIENT_CERTIFICATE")
    chosen: dict[str, Any] = {
        "base_url": url,
        "event_capture_url": url,
        "event_buffer_period": 1.0,
        "timeout": 20.0,
    }
    if certificate is None:
        return {**chosen, "use_datastream": True, "credit_leases": leases()}
    context = ssl.create_default_context()
    context.load_cert_chain(certificate)
    return {
        **chosen,
        "httpx_client": httpx.Client(verify=context),
        "credit_leases": CreditLeaseConfig(mode="server"),
    }


def leases() -> CreditLeaseConfig:
    """Small leases, in Redis if a probe names one."""
    url = os.environ.get("SCHEMATIC_REDIS")
    slabs = os.environ.get("SCHEMATIC_SLABS")
    return CreditLeaseConfig(
        mode="client",
        default_lease_size=200,
        redis_client=None if url is None else redis.Redis.from_url(url),
        local_slab=LocalSlab(min_credits=40, max_credits=80) if slabs else None,
    )


def make() -> Schematic:
    return Schematic(API_KEY, SchematicConfig(**fields()))


def work(client: Schematic, pairs: int = 20) -> int:
    """Check and settle; returns the units that are to be billed."""
    return sum(hold(client, used) for used in (number % 5 + 1 for number in range(pairs)))


def hold(client: Schematic, used: int) -> int:
    result = client.check("inference", COMPANY, usage=6)
    if result.reservation is None:
        # No SystemExit, which would end a pool's process without a word to the pool.
        raise RuntimeError(f"a check held nothing: {result.error}: {result.reason}")
    client.track_with_reservation(result.reservation, used)
    return used
