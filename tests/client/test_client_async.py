"""The asynchronous client as a whole, on the emulated service: checks, settles, failures and event loops."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import textwrap
import threading
import time
from typing import TYPE_CHECKING

import httpx
import pytest

from schematic_native import (
    AsyncSchematic,
    AsyncSchematicConfig,
    CheckFlagOptions,
    CheckOptions,
    CreditLeaseConfig,
    IdentifyOptions,
    Schematic,
)
from tests.conftest import ACME, API_KEY, PATIENCE, eventually_async, plain, streaming
from tests.limits import within
from tests.servers import Answer, HttpServer, data

if TYPE_CHECKING:
    from schematic_native.emulator import Emulator

INFERENCE = "inference"
CREDIT = "credit_inference"


def make(fields: dict[str, object]) -> AsyncSchematic:
    return AsyncSchematic(API_KEY, AsyncSchematicConfig(**fields))


async def emulator_state(emulator: Emulator) -> dict:
    return await asyncio.to_thread(emulator.state)


async def test_usage_is_billed_to_the_unit(emulator):
    async with make(streaming(emulator)) as client:
        result = await client.check(INFERENCE, ACME, {"id": "ada"}, usage=10)
        assert result.reservation is not None
        await client.track_with_reservation(result.reservation, 3.2)
        by_options = await client.check(INFERENCE, ACME, None, CheckOptions(usage=5))
        assert by_options.reservation is not None
        await client.track_with_reservation(by_options.reservation, 5)
        assert client.status().open_holds == 0
    state = await emulator_state(emulator)
    assert [lease["status"] for lease in state["leases"].values()] == ["released"]
    assert state["billed"] == {"comp_acme": {"inference_tokens": 9}}
    assert (await asyncio.to_thread(emulator.audit))["balanced"]


async def test_a_thousand_tasks_that_start_at_once_share_one_lease(emulator):
    async with make(streaming(emulator)) as client:

        async def work() -> bool:
            result = await client.check(INFERENCE, ACME, usage=1)
            await client.track_with_reservation(result.reservation, 1)
            return result.allowed

        assert all(await asyncio.gather(*(work() for _ in range(1000))))
        assert client.status().leases == 1
    state = await emulator_state(emulator)
    assert len(state["leases"]) == 1
    assert state["billed"] == {"comp_acme": {"inference_tokens": 1000}}


async def test_the_first_use_starts_the_client(emulator):
    client = make(streaming(emulator))
    assert await client.check_flag(INFERENCE, ACME) is True
    assert client.status().ready
    await client.shutdown()
    await client.shutdown()
    assert not client.status().connected


async def test_a_lease_is_extended_before_it_runs_dry(emulator):
    leases = CreditLeaseConfig(mode="client", default_lease_size=100)
    async with make(streaming(emulator, credit_leases=leases)) as client:
        for _ in range(200):
            result = await client.check(INFERENCE, ACME, usage=5)
            assert result.allowed
            await client.track_with_reservation(result.reservation, 5)
    state = await emulator_state(emulator)
    (lease,) = state["leases"].values()
    assert lease["tracked"] == 2000
    assert (await asyncio.to_thread(emulator.audit))["balanced"]


async def test_a_check_beyond_the_lease_size_extends_by_what_it_needs(emulator):
    leases = CreditLeaseConfig(mode="client", default_lease_size=100)
    async with make(streaming(emulator, credit_leases=leases)) as client:
        assert (await client.check(INFERENCE, ACME, usage=500)).allowed
        # The company "few" has 50 credits in total.
        short = await client.check(INFERENCE, {"id": "few"}, usage=26)
    assert (short.allowed, short.reservation) == (False, None)
    assert short.error in {"insufficient_lease_balance", "lease_acquire_failed"}


async def test_an_unsettled_hold_is_refunded_to_its_lease(emulator):
    leases = CreditLeaseConfig(mode="client", default_reservation_ttl=0.05, sweep_interval=0.01)
    async with make(streaming(emulator, credit_leases=leases)) as client:
        await client.check(INFERENCE, ACME, usage=10)
        await eventually_async(lambda: client.status().open_holds == 0)
        balance = await client.get_credit_balance(ACME, CREDIT)
        assert (balance.reserved, balance.settled) == (0, 0)


async def test_plain_checks_of_all_kinds_without_a_stream(emulator):
    async with make(plain(emulator)) as client:
        assert await client.check_flag(INFERENCE, ACME) is True
        answer = await client.check_flag_with_entitlement(INFERENCE, ACME)
        assert answer.entitlement is not None
        assert answer.entitlement.credit_id == CREDIT
        assert len(await client.check_flags(None, ACME)) == 3
        missing = await client.check_flags(["nope", INFERENCE], ACME)
        assert [entry.value for entry in missing] == [False, True]
        assert missing[0].reason == "flag not found: default value"
        balance = await client.get_credit_balance(ACME, CREDIT)
        assert balance.remaining == 1_000_000_000


async def test_server_mode_holds_on_the_server(emulator):
    async with make(plain(emulator, credit_leases=CreditLeaseConfig(mode="server"))) as client:
        result = await client.check(INFERENCE, ACME, usage=10)
        assert result.reservation is not None
        assert result.reservation.mode == "server"
        await client.track_with_reservation(result.reservation, 10)
    state = await emulator_state(emulator)
    assert state["billed"] == {"comp_acme": {"inference_tokens": 10}}


async def test_prewarm_and_identify_with_prewarm(emulator):
    leases = CreditLeaseConfig(mode="client", default_lease_size=20)
    async with make(streaming(emulator, credit_leases=leases)) as client:
        await client.prewarm(ACME, [CREDIT])
        assert client.status().leases == 1
        options = IdentifyOptions(prewarm=[CREDIT])
        await client.identify({"id": "ada"}, {"keys": {"id": "few"}}, options=options)
        await eventually_async(lambda: client.status().leases == 2)
        with pytest.raises(TypeError, match="credit_type_ids"):
            await client.prewarm(ACME, CREDIT)


async def test_checks_return_within_their_timeout_while_the_server_is_frozen():
    with HttpServer(otherwise=Answer(freeze=True)) as server:
        for use_datastream in (False, True):
            config = AsyncSchematicConfig(
                base_url=server.url,
                event_capture_url=server.url,
                use_datastream=use_datastream,
                credit_leases=CreditLeaseConfig(),
            )
            client = AsyncSchematic(API_KEY, config)
            for _ in within(0.4):
                result = await client.check("f", ACME, usage=1, timeout=0.2)
                assert (result.allowed, result.error) == (False, "server_reservation_failed")
            options = CheckFlagOptions(timeout=0.1)
            for _ in within(0.3):
                assert await client.check_flag("f", ACME, None, options) is False
            await client.shutdown()


async def test_a_cancelled_check_leaves_no_hold_and_the_client_working(emulator):
    async with make(streaming(emulator)) as client:
        await client.check_flag(INFERENCE, ACME)
        fault = await asyncio.to_thread(emulator.fail, "freeze", "acquire")
        check = asyncio.create_task(client.check(INFERENCE, ACME, usage=1))
        await eventually_async(lambda: emulator.state()["requests"].get("acquire"))
        check.cancel()
        with pytest.raises(asyncio.CancelledError):
            await check
        assert client.status().open_holds == 0
        await asyncio.to_thread(fault.clear)
        assert await client.check_flag(INFERENCE, ACME) is True


async def test_a_check_from_memory_holds_nothing_before_it_is_awaited(emulator):
    async with make(streaming(emulator)) as client:
        first = await client.check(INFERENCE, ACME, usage=1)
        client.check(INFERENCE, ACME, usage=1).close()
        cancelled = asyncio.create_task(client.check(INFERENCE, ACME, usage=1))
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        assert client.status().open_holds == 1
        more = await asyncio.gather(*(client.check(INFERENCE, ACME, usage=1) for _ in range(2)))
        more.append(await asyncio.wait_for(client.check(INFERENCE, ACME, usage=1), PATIENCE))
        assert client.status().open_holds == 4
        for result in (first, *more):
            await client.track_with_reservation(result.reservation, 1)


async def test_a_slow_start_does_not_delay_initialize(emulator):
    await asyncio.to_thread(emulator.fail, "freeze", "datastream")
    clients = []
    for _ in within(1):
        clients.append(make(streaming(emulator, timeout=0.2)))
        await clients[-1].initialize()
    for client in clients:
        await client.shutdown()


async def test_the_socket_comes_back_after_a_drop(emulator, caplog):
    caplog.set_level(logging.INFO)
    async with make(streaming(emulator)) as client:
        await client.check_flag(INFERENCE, ACME)
        await asyncio.to_thread(emulator.drop_sockets)
        await eventually_async(lambda: "works again" in caplog.text)
        assert client.status().ready
        assert await client.check_flag(INFERENCE, ACME) is True


async def test_a_malformed_message_breaks_nothing(emulator, caplog):
    async with make(streaming(emulator)) as client:
        assert await client.check_flag(INFERENCE, ACME) is True
        for junk in (
            "{",
            "[1]",
            '{"entity_type": "rulesengine.Company", "message_type": "full", "data": 7}',
        ):
            await asyncio.to_thread(emulator.send_raw, junk)
        await eventually_async(lambda: len(caplog.records) >= 3)
        assert client.status().ready
        assert await client.check_flag(INFERENCE, ACME) is True


async def test_a_push_reaches_the_next_check(emulator):
    async with make(streaming(emulator)) as client:
        assert await client.check_flag(INFERENCE, {"id": "none"}) is False
        await asyncio.to_thread(emulator.set_balance, "comp_none", CREDIT, 100)

        deadline = time.monotonic() + PATIENCE
        while not await client.check_flag(INFERENCE, {"id": "none"}):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("call", "names"),
    [
        (lambda c: c.check(INFERENCE, "acme", usage=1), "company"),
        (lambda c: c.check(INFERENCE, ACME, usage="x"), "usage"),
        (lambda c: c.check(INFERENCE, ACME, usage=1, timeout="x"), "timeout"),
        (lambda c: c.check_flag(INFERENCE, ACME, options=5), "options"),
        (lambda c: c.track("e", ACME, traits=5), "traits"),
        (lambda c: c.identify(None), "keys"),
    ],
)
async def test_a_wrong_argument_is_refused_by_name(emulator, call, names):
    async with make(streaming(emulator)) as client:
        with pytest.raises(TypeError, match=names):
            await call(client)


async def test_requests_go_through_the_users_own_asynchronous_httpx_client():
    answer = data(flag="f", value=True, reason="ok")
    with HttpServer(otherwise=Answer(body=answer)) as server:
        async with httpx.AsyncClient(trust_env=False) as own:
            config = AsyncSchematicConfig(
                base_url=server.url, event_capture_url=server.url, httpx_client=own
            )
            async with AsyncSchematic(API_KEY, config) as client:
                assert await client.check_flag("f")
            assert not own.is_closed


async def test_a_client_on_another_loop_is_refused_clearly(emulator):
    async with make(plain(emulator)) as client:
        await client.check_flag(INFERENCE, ACME)

        def elsewhere() -> None:
            with pytest.raises(RuntimeError, match="another event loop"):
                asyncio.run(client.check_flag("other", ACME))

        await asyncio.to_thread(elsewhere)


async def test_offline_does_no_io():
    config = AsyncSchematicConfig(offline=True, use_datastream=True, flag_defaults={"on": True})
    async with AsyncSchematic(API_KEY, config) as client:
        assert await client.check_flag("ON") is True
        assert (await client.check("off", ACME, usage=5)).allowed is False
        await client.track("e")
        await client.prewarm(ACME, [CREDIT])
        assert len(asyncio.all_tasks()) == 1


async def test_no_task_and_no_thread_is_left_behind(emulator):
    before = asyncio.all_tasks()
    threads = set(threading.enumerate())
    async with make(streaming(emulator)) as client:
        await client.check(INFERENCE, ACME, usage=1)
    assert asyncio.all_tasks() == before
    started = set(threading.enumerate()) - threads
    assert not [t for t in started if t.name == "schematic-native"]
    assert len(started) <= 1  # the event loop's own resolver thread


async def test_a_synchronous_client_works_beside_an_asynchronous_one(emulator):
    from schematic_native import SchematicConfig  # noqa: PLC0415

    async with make(streaming(emulator)) as client:
        leases = CreditLeaseConfig(mode="client", default_lease_size=20)
        config = SchematicConfig(**streaming(emulator, credit_leases=leases))
        other = await asyncio.to_thread(Schematic, API_KEY, config)
        result = await asyncio.to_thread(other.check, INFERENCE, {"id": "few"}, usage=1)
        assert result.allowed
        assert (await client.check(INFERENCE, ACME, usage=1)).allowed
        await asyncio.to_thread(other.shutdown)


def test_one_client_outlives_its_loop(emulator):
    client = make(streaming(emulator))

    async def use() -> bool:
        return (await client.check(INFERENCE, ACME, usage=1)).allowed

    async def end() -> bool:
        allowed = await use()
        await client.shutdown()
        return allowed

    assert asyncio.run(use()) is True
    assert asyncio.run(end()) is True
    # After its shutdown the client can hold no credits, so it denies usage.
    assert asyncio.run(use()) is False


def test_a_clients_lifecycle_leaves_no_resource_warning(emulator):
    program = f"""
        import asyncio
        from schematic_native import AsyncSchematic, AsyncSchematicConfig, CreditLeaseConfig
        config = AsyncSchematicConfig(
            base_url={emulator.base_url!r}, event_capture_url={emulator.base_url!r},
            use_datastream=True, credit_leases=CreditLeaseConfig(),
        )
        async def main():
            async with AsyncSchematic({API_KEY!r}, config) as client:
                result = await client.check("inference", {{"id": "acme"}}, usage=1)
                await client.track_with_reservation(result.reservation, 1)
        asyncio.run(main())
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
