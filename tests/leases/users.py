"""Programs that use either client on leases in a real Redis, and what Redis keeps of them."""

from __future__ import annotations

import asyncio
import contextlib
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import redis
import redis.asyncio

from schematic_native import CheckResult, CreditLeaseConfig
from schematic_native._native import Core
from tests.callers import Caller
from tests.conftest import ACME, PATIENCE, streaming
from tests.limits import give_stores
from tests.stores.clocks import ServerClock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from schematic_native.emulator import Emulator
    from tests.stores.servers import RedisServer


INFERENCE, CREDIT, COMPANY = "inference", "credit_inference", "comp_acme"
LEASE = f"schematic:credit-lease:{COMPANY}:{CREDIT}"


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine, a second is too short for a server that is there; none is frozen here."""
    give_stores(monkeypatch, PATIENCE)


class User(Caller):
    """A program that uses one of the clients with a client of Redis of either kind."""

    def __init__(self, kind: str, redis_kind: str, emulator: Emulator, url: str, **leases: Any):
        module = redis if redis_kind == "sync" else redis.asyncio
        self.redis = module.Redis.from_url(url)
        lease_config = CreditLeaseConfig(mode="client", redis_client=self.redis, **leases)
        fields = streaming(emulator, credit_leases=lease_config, event_buffer_period=0.05)
        super().__init__(kind, fields)

    def check(self, usage: float, **keywords: object) -> CheckResult:
        result = self.do("check", INFERENCE, ACME, usage=usage, **keywords)
        assert isinstance(result, CheckResult)
        return result

    def settle(self, result: CheckResult, quantity: float) -> None:
        self.do("track_with_reservation", result.reservation, quantity)

    def turn(self, seconds: float = 0.01) -> None:
        """Let the asynchronous client's own work go on."""
        if self._is_async:
            self._loop.run_until_complete(asyncio.sleep(seconds))

    def close(self) -> None:
        if self._loop.is_closed():
            return
        self.do("shutdown")
        with contextlib.suppress(redis.RedisError):
            if isinstance(self.redis, redis.Redis):
                self.redis.close()
            elif self._is_async:
                self._loop.run_until_complete(self.redis.aclose())
        self._loop.close()


COMBINATIONS = [("sync", "sync"), ("async", "async"), ("async", "sync"), ("sync", "async")]


@pytest.fixture(params=COMBINATIONS, ids=lambda p: f"{p[0]}-client-{p[1]}-redis")
def make_user(request, emulator, redis_server) -> Iterator[Any]:
    users: list[User] = []

    def make(**leases: object) -> User:
        user = User(*request.param, emulator, redis_server.url, **leases)
        users.append(user)
        user.do("initialize")
        return user

    yield make
    for user in users:
        user.close()


def lease_row(server: RedisServer) -> dict[str, str]:
    with redis.Redis.from_url(server.url, decode_responses=True) as reader:
        return reader.hgetall(LEASE)


def holds(server: RedisServer) -> list[dict[str, str]]:
    with redis.Redis.from_url(server.url, decode_responses=True) as reader:
        keys = [
            key
            for key in reader.scan_iter("schematic:credit-reservation:*")
            if reader.type(key) == "hash"
        ]
        # One that ends meanwhile is none.
        return [row for row in map(reader.hgetall, keys) if row]


def held(server: RedisServer) -> float:
    return sum(float(hold["creditsReserved"]) for hold in holds(server))


def remaining(server: RedisServer) -> float:
    return float(lease_row(server)["localRemainingCredits"])


class SteadyClock:
    """The clock that holds in memory lapse by: the system's, and as much later as a test says."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead


@pytest.fixture
def steady(monkeypatch: pytest.MonkeyPatch) -> SteadyClock:
    """The steady clock of the clients that are made from now on."""
    clock = SteadyClock()
    monkeypatch.setattr("schematic_native.client.base.Core", partial(Core, steady=clock))
    return clock


@pytest.fixture
def redis_clock() -> Iterator[ServerClock]:
    clock = ServerClock()
    yield clock
    clock.remove()
