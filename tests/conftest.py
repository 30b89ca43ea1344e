"""Fixtures that several test files share."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from schematic_native import CreditLeaseConfig
from schematic_native.emulator import Emulator
from schematic_native.ground.fault_log import FaultLog
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.stores.servers import RedisServer

# A busy machine may take its time to make up an example, too.
settings.register_profile(
    "busy machine", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("busy machine")

API_KEY = "sch_dev_emulator"
ACME = {"id": "acme"}


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator(process=False) as running:
        yield running


@pytest.fixture(scope="session")
def _one_process() -> Iterator[Emulator]:
    with Emulator() as running:
        yield running


@pytest.fixture
def emulator_process(_one_process: Emulator) -> Emulator:
    """An emulator in a process of its own, as at its start. Its clients must have ended with their test."""
    _one_process.reset()
    return _one_process


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    from tests.stores.servers import RedisServer  # noqa: PLC0415 - it uses this module

    server = RedisServer().start()
    yield server
    server.remove()


@pytest.fixture
def faults() -> FaultLog:
    return FaultLog(logging.getLogger("schematic_native"), API_KEY)


@pytest.fixture
def dead_url() -> str:
    """An URL where nothing listens."""
    return f"http://127.0.0.1:{free_port()}"


@pytest.fixture(autouse=True)
def _no_thread_is_left_behind() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    left = [t for t in set(threading.enumerate()) - before if t.name == "schematic-native"]
    for thread in left:
        thread.join(PATIENCE)
    assert not any(thread.is_alive() for thread in left)


def streaming(emulator: Emulator, **fields: object) -> dict[str, object]:
    """Configuration fields of a client in client mode."""
    return {
        "base_url": emulator.base_url,
        "event_capture_url": emulator.base_url,
        "use_datastream": True,
        "credit_leases": CreditLeaseConfig(mode="client"),
        **fields,
    }


def plain(emulator: Emulator, **fields: object) -> dict[str, object]:
    """Configuration fields of a client without DataStream."""
    return {
        "base_url": emulator.base_url,
        "event_capture_url": emulator.base_url,
        **fields,
    }


# Seconds that a busy machine may take for what must come to pass.
PATIENCE = 60.0


def eventually(condition: Callable[[], object], timeout: float = PATIENCE) -> None:
    """Wait on another process or thread: until a condition holds, with a limit."""
    deadline = time.monotonic() + timeout
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, "did not come to pass in time"
        pause.wait(0.01)


async def eventually_async(condition: Callable[[], object], timeout: float = PATIENCE) -> None:
    """Wait on other tasks until a condition holds, with a limit."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "did not come to pass in time"
        await asyncio.sleep(0.005)
