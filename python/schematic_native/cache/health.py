"""Asks the replicator, over HTTP, whether it is ready and which version of entities it writes.

Nothing here reads a cache or decides what follows from the response.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

import httpx

from schematic_native.cache.provider_calls import describe
from schematic_native.ground import json_text
from schematic_native.ground.time_limit import within
from schematic_native.ground.urls import is_loopback
from schematic_native.service.tls import using_openssl

if TYPE_CHECKING:
    from collections.abc import Callable

    from schematic_native.config.datastream_settings import ReplicaSettings
    from schematic_native.ground.fault_log import FaultLog

TOPIC = "the replicator"
# Seconds.
TIMEOUT = 5.0


class Health(NamedTuple):
    """The state of the replicator."""

    is_ready: bool
    version: str | None = None  # None if the replicator does not say


NOT_READY = Health(is_ready=False)


class HealthCheck:
    """Asks the replicator periodically.

    Args:
        settings: its URL, and how often to ask.
        faults: where failures are reported.
        on_health: called after each request, and when the checks end.

    """

    def __init__(
        self, settings: ReplicaSettings, faults: FaultLog, on_health: Callable[[Health], None]
    ) -> None:
        self._settings = settings
        self._faults = faults
        self._on_health = on_health
        # Set once the first request has succeeded or failed.
        self.first_outcome = asyncio.Event()

    async def run(self) -> None:
        """Ask until cancelled."""
        url = self._settings.health_url
        trust_env = not is_loopback(url)

        def make() -> httpx.AsyncClient:
            with using_openssl:
                return httpx.AsyncClient(timeout=TIMEOUT, trust_env=trust_env)

        try:
            async with await asyncio.to_thread(make) as client:
                while True:
                    await self._ask(client, url)
                    await asyncio.sleep(self._settings.health_check)
        finally:
            self._on_health(NOT_READY)

    async def _ask(self, client: httpx.AsyncClient, url: str) -> None:
        try:
            health = await within(_request(client, url), TIMEOUT)
            if health.is_ready:
                self._faults.cleared(TOPIC)
            else:
                self._faults.raised(TOPIC, "it is not ready; checks ask the API")
            self._on_health(health)
        except Exception as error:  # noqa: BLE001 - the URL may be of anything
            self._faults.raised(TOPIC, f"{describe(error)}; checks ask the API")
            self._on_health(NOT_READY)
        self.first_outcome.set()


async def _request(client: httpx.AsyncClient, url: str) -> Health:
    response = await client.get(url)
    response.raise_for_status()
    health = json_text.read(response.content)
    if not isinstance(health, dict):
        raise TypeError("its health is no JSON object")
    version = health.get("cache_version") or health.get("cacheVersion")
    return Health(health.get("ready") is True, version if isinstance(version, str) else None)
