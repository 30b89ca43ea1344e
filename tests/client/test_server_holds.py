"""Holds that could not be requested of the server, and how the failure mode decides."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from schematic_native import AsyncSchematic, AsyncSchematicConfig, CreditLeaseConfig, Schematic
from schematic_native.client import runtime
from tests.client.sync_clients import INFERENCE, make
from tests.conftest import ACME, API_KEY, PATIENCE, plain
from tests.limits import give_shutdowns

if TYPE_CHECKING:
    from schematic_native.emulator import Emulator


def fields_of(emulator: Emulator, mode: str) -> dict[str, object]:
    return plain(emulator, credit_leases=CreditLeaseConfig(mode=mode))


def assert_failed_on_the_server(client: Schematic) -> None:
    closed = client.check(INFERENCE, ACME, usage=1, default_value=True, timeout=0.05)
    asked = {"usage": 1, "on_acquire_failure": "fail-open", "timeout": 0.05}
    opened = client.check(INFERENCE, ACME, **asked, default_value=True)
    denied = client.check(INFERENCE, ACME, **asked, default_value=False)
    assert (closed.allowed, closed.reason) == (False, "server_reservation_failed")
    assert [opened.allowed, denied.allowed] == [True, False]
    for result in (opened, denied):
        assert result.reason == "server_reservation_failed_fail_open"
        assert (result.error, result.reservation) == ("server_reservation_failed", None)


@pytest.mark.parametrize("mode", ["server", "auto"])
def test_after_a_shutdown_a_server_hold_fails_and_fail_open_returns_the_default(emulator, mode):
    client = make(fields_of(emulator, mode))
    client.check_flag(INFERENCE, ACME)
    client.shutdown()
    assert_failed_on_the_server(client)


@pytest.mark.parametrize("mode", ["server", "auto"])
def test_when_the_io_thread_is_late_a_server_hold_fails(emulator, mode):
    over = threading.Event()
    with make(fields_of(emulator, mode)) as client:
        client.check_flag(INFERENCE, ACME)
        client._session.thread._loop.call_soon_threadsafe(over.wait)
        assert_failed_on_the_server(client)
        over.set()


async def test_the_end_of_a_block_does_not_wait_long_for_the_release_of_its_hold(
    emulator, monkeypatch
):
    monkeypatch.setattr(runtime, "RELEASE_PATIENCE", 0.0)
    give_shutdowns(monkeypatch, PATIENCE)

    def statuses() -> list[str]:
        return [each["status"] for each in emulator.state()["reservations"].values()]

    fields = fields_of(emulator, "server")
    async with AsyncSchematic(API_KEY, AsyncSchematicConfig(**fields)) as client:
        async with client.hold(INFERENCE, ACME, usage=3) as hold:
            assert hold.allowed
            # So it is sent a second time, which takes a moment.
            emulator.fail("status", on="release", times=1)
        assert statuses() == ["held"]
    assert statuses() == ["released"], "a shutdown waits for it"


async def test_after_an_asynchronous_shutdown_a_server_hold_fails(emulator):
    fields = fields_of(emulator, "server")
    async with AsyncSchematic(API_KEY, AsyncSchematicConfig(**fields)) as client:
        pass
    asked = {"usage": 1, "on_acquire_failure": "fail-open", "default_value": False}
    result = await client.check(INFERENCE, ACME, **asked)
    assert (result.allowed, result.error) == (False, "server_reservation_failed")
