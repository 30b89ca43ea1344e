"""If no credits can be held, the failure mode decides the check; fail-open leaves it to the rules."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import pytest

from schematic_native import AsyncSchematic, AsyncSchematicConfig, Schematic, SchematicConfig
from schematic_native.emulator.seed import load_seed
from tests.conftest import ACME, API_KEY, streaming

if TYPE_CHECKING:
    from schematic_native import CheckResult
    from schematic_native.emulator import Emulator

INFERENCE = "inference"
FAILURE = "lease_acquire_failed"
OPENED = f"({FAILURE}_fail_open)"


def turn_off(emulator: Emulator) -> None:
    """Turn the flag off for everybody with an override, which precedes all other rules."""
    [flag] = [flag for flag in load_seed().flags if flag["key"] == INFERENCE]
    override = dict(flag["rules"][0], id="rule_off", rule_type="global_override", value=False)
    override |= {"conditions": [], "condition_groups": []}
    emulator.set_flag({**flag, "rules": [override, *flag["rules"]]})


def check(client: Schematic, mode: str, timeout: float | None = None) -> CheckResult:
    return client.check(INFERENCE, ACME, usage=10, on_acquire_failure=mode, timeout=timeout)


def check_while_io_is_busy(client: Schematic, mode: str) -> CheckResult:
    """Check without a lease while the I/O thread that would acquire one is busy."""
    runtime = client._ensure_running()
    assert runtime is not None
    done, busy = threading.Event(), threading.Event()

    def work() -> None:
        busy.set()
        done.wait()

    runtime.loop.call_soon_threadsafe(work)
    busy.wait()
    try:
        return check(client, mode, 0.0)
    finally:
        done.set()


@pytest.mark.parametrize("busy", [False, True], ids=["shut down", "busy"])
def test_an_override_denies_under_fail_open_whatever_prevents_the_hold(emulator, busy):
    turn_off(emulator)
    with Schematic(API_KEY, SchematicConfig(**streaming(emulator))) as client:
        assert not client.check_flag(INFERENCE, ACME)
        if busy:
            result = check_while_io_is_busy(client, "fail-open")
        else:
            client.shutdown()
            result = check(client, "fail-open")
    assert (result.allowed, result.value, result.error) == (False, False, FAILURE)
    assert result.reason.endswith(OPENED)
    assert result.reservation is None


async def test_an_override_denies_under_fail_open_after_an_asynchronous_shutdown(emulator):
    await asyncio.to_thread(turn_off, emulator)
    config = AsyncSchematicConfig(**streaming(emulator))
    async with AsyncSchematic(API_KEY, config) as client:
        assert not await client.check_flag(INFERENCE, ACME)
    result = await client.check(INFERENCE, ACME, usage=10, on_acquire_failure="fail-open")
    assert (result.allowed, result.error) == (False, FAILURE)
    assert result.reason.endswith(OPENED)


@pytest.mark.parametrize("busy", [False, True], ids=["shut down", "busy"])
def test_an_entitled_company_is_allowed_by_fail_open_and_denied_by_fail_closed(emulator, busy):
    with Schematic(API_KEY, SchematicConfig(**streaming(emulator))) as client:
        assert client.check_flag(INFERENCE, ACME)
        if busy:
            opened = check_while_io_is_busy(client, "fail-open")
            closed = check_while_io_is_busy(client, "fail-closed")
        else:
            client.shutdown()
            opened, closed = check(client, "fail-open"), check(client, "fail-closed")
    assert (opened.allowed, opened.error, opened.reservation) == (True, FAILURE, None)
    assert opened.reason.endswith(OPENED)
    assert (closed.allowed, closed.reason, closed.error) == (False, FAILURE, FAILURE)


def test_a_check_without_its_entities_is_decided_by_the_failure_mode_alone(emulator):
    client = Schematic(API_KEY, SchematicConfig(**streaming(emulator)))
    client.initialize()
    client.shutdown()
    opened, closed = check(client, "fail-open"), check(client, "fail-closed")
    assert (opened.allowed, opened.reason) == (True, f"{FAILURE}_fail_open")
    assert (closed.allowed, closed.reason) == (False, FAILURE)


def test_a_check_after_the_shutdown_queues_no_event(emulator):
    with Schematic(API_KEY, SchematicConfig(**streaming(emulator))) as client:
        client.check_flag(INFERENCE, ACME)
    check(client, "fail-open")
    check(client, "fail-closed")
    assert client.status().queued_events == 0
