"""Worlds that keep holds in memory, in Redis or on the server, and what the service was billed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import redis

from schematic_native import (
    AsyncSchematic,
    AsyncSchematicConfig,
    CreditLeaseConfig,
    Schematic,
    SchematicConfig,
)
from tests.conftest import API_KEY, PATIENCE, plain, streaming
from tests.limits import give_shutdowns, give_stores

if TYPE_CHECKING:
    from schematic_native.emulator import Emulator


INFERENCE = "inference"
EVENT = "inference_tokens"
CREDIT = "credit_inference"
SHORT = 0.3  # seconds that a hold lives between renewals
STORES = ["memory", "redis", "slabs", "server"]


class World:
    """A way to keep holds, in memory, in Redis or on the server, and how to count the open ones."""

    def __init__(self, store, emulator, redis_server):
        self._store, self._emulator, self._redis = store, emulator, redis_server
        self._clients = []
        if store == "server":
            leases = CreditLeaseConfig(mode="server")
            self.fields = plain(emulator, credit_leases=leases, event_buffer_period=0.05)
        elif store == "memory":
            self.fields = streaming(emulator, event_buffer_period=0.05)
        else:
            client = redis.Redis.from_url(redis_server.url)
            self._clients.append(client)
            leases = CreditLeaseConfig(
                mode="client", redis_client=client, local_slab=store == "slabs" or None
            )
            self.fields = streaming(emulator, credit_leases=leases, event_buffer_period=0.05)

    def open_holds(self, client):
        if self._store == "server":
            states = self._emulator.state()["reservations"].values()
            return len([each for each in states if each["status"] == "held"])
        if self._store != "redis":
            return client.status().open_holds
        with redis.Redis.from_url(self._redis.url) as reader:
            return reader.hlen(f"schematic:credit-reservations:byCredit:comp_acme:{CREDIT}")

    def close(self):
        for client in self._clients:
            client.close()


@pytest.fixture(params=STORES)
def world(request, emulator, monkeypatch):
    give_stores(monkeypatch, PATIENCE)
    give_shutdowns(monkeypatch, PATIENCE)
    shares = request.param in {"redis", "slabs"}
    server = request.getfixturevalue("redis_server") if shares else None
    world = World(request.param, emulator, server)
    yield world
    world.close()


@pytest.fixture
def fields(world):
    return world.fields


def sync(fields):
    return Schematic(API_KEY, SchematicConfig(**fields))


def asynchronous(fields):
    return AsyncSchematic(API_KEY, AsyncSchematicConfig(**fields))


def bills(emulator: Emulator) -> list[dict]:
    return [event for event in emulator.events() if event["type"] == "track"]


def billed(emulator: Emulator) -> int:
    """The units billed, counting each idempotency key once."""
    seen = {event["idempotency_key"]: event["body"]["quantity"] for event in bills(emulator)}
    return sum(seen.values())
