"""Asks the replicator, over HTTP, whether it is ready and which version of entities it writes.

Nothing here reads a cache or decides what follows from the response.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

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
        open_http: opens a client like httpx's; None for one of httpx.

    """

    def __init__(
        self,
        settings: ReplicaSettings,
        faults: FaultLog,
        open_http: Callable[[], Any] | None = None,
    ) -> None:
        self._settings = settings
        self._faults = faults
        self._open_http = open_http
        # Set once the first request has succeeded or failed.
        self.first_outcome = asyncio.Event()

    async def run(self, on_health: Callable[[Health], None]) -> None:
        """Ask until cancelled; what is given is called after each request, and when the checks end."""
        url = self._settings.health_url
        open_http = self._open_http or partial(_open_http, trust_env=not is_loopback(url))
        try:
            async with await asyncio.to_thread(open_http) as client:
                while True:
                    await self._ask(client, url, on_health)
                    await asyncio.sleep(self._settings.health_check)
        finally:
            on_health(NOT_READY)

    async def _ask(self, client: Any, url: str, on_health: Callable[[Health], None]) -> None:
        try:
            health = await within(_request(client, url), TIMEOUT)
            if health.is_ready:
                self._faults.cleared(TOPIC)
            else:
                self._faults.raised(TOPIC, "it is not ready; checks ask the API")
            on_health(health)
        except Exception as error:  # noqa: BLE001 - the URL may be of anything
            self._faults.raised(TOPIC, f"{describe(error)}; checks ask the API")
            on_health(NOT_READY)
        self.first_outcome.set()


def _open_http(*, trust_env: bool) -> httpx.AsyncClient:
    with using_openssl:
        return httpx.AsyncClient(timeout=TIMEOUT, trust_env=trust_env)


async def _request(client: Any, url: str) -> Health:
    response = await client.get(url)
    response.raise_for_status()
    health = json_text.read(response.content)
    if not isinstance(health, dict):
        raise TypeError("its health is no JSON object")
    version = health.get("cache_version") or health.get("cacheVersion")
    return Health(health.get("ready") is True, version if isinstance(version, str) else None)
