"""How an open hold grows and is renewed, and what a shutdown or a killed process leaves of it."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading

from tests.client.hold_worlds import (
    EVENT,
    INFERENCE,
    SHORT,
    asynchronous,
    billed,
    bills,
    fields,
    sync,
    world,
)
from tests.conftest import ACME, API_KEY, eventually, eventually_async, plain

__all__ = ["fields", "world"]


def test_a_hold_that_runs_low_grows_by_its_first_usage(emulator, world, fields):
    with sync(fields) as client:
        with client.hold(INFERENCE, ACME, usage=100) as hold:
            hold.use(75)
            assert hold.held == 100
            hold.use(1)
            eventually(lambda: hold.held == 200)
            assert not hold.exhausted
        eventually(lambda: world.open_holds(client) == 0)
    assert billed(emulator) == 76


def test_units_can_be_reserved(emulator, world, fields):
    with sync(fields) as client:
        with client.hold(INFERENCE, ACME, usage=100) as hold:
            hold.use(20)
            assert hold.reserve(80)
            assert hold.held == 100
            assert hold.reserve(200)
            assert hold.held == 220
            hold.use(150)
        eventually(lambda: world.open_holds(client) == 0)
    assert billed(emulator) == 170


async def test_growth_that_arrives_after_the_end_is_refunded(emulator, world, fields):
    async with asynchronous(fields) as client:
        async with client.hold(INFERENCE, ACME, usage=100) as hold:
            hold.use(99)
        await eventually_async(lambda: world.open_holds(client) == 0)
    assert billed(emulator) == 99


def test_a_hold_outlives_its_time_to_live_and_bills_as_it_goes(emulator, world, fields):
    with sync(fields) as client, client.hold(INFERENCE, ACME, usage=1000, ttl=SHORT) as hold:
        first = hold.result.reservation
        used = 0
        while len({event["idempotency_key"] for event in bills(emulator)}) < 3:
            hold.use(1)
            used += 1
            threading.Event().wait(0.01)
        assert first.expires_at.timestamp() < client._core.now()
        # What was used while the new reservation was requested is held twice.
        assert hold.held >= 1000
        assert hold.used == used
    assert billed(emulator) == used


async def test_an_asynchronous_hold_outlives_its_time_to_live(emulator, world, fields):
    async with asynchronous(fields) as client:
        async with client.hold(INFERENCE, ACME, usage=1000, ttl=SHORT) as hold:
            hold.use(0.5)
            pieces = hold._pieces
            await eventually_async(lambda: hold._pieces != pieces)
            hold.use(10)
        await eventually_async(lambda: world.open_holds(client) == 0)
    assert billed(emulator) == 11


def test_a_shutdown_settles_what_open_holds_have_used(emulator, world, fields):
    client = sync(fields)
    with client.hold(INFERENCE, ACME, usage=100) as hold:
        hold.use(8)
        client.shutdown()
    assert billed(emulator) == 8


def test_a_shutdown_bills_the_fraction_of_a_unit_that_an_open_hold_has_used(
    emulator, world, fields
):
    client = sync(fields)
    with client.hold(INFERENCE, ACME, usage=100) as hold:
        hold.use(8.25)
        client.shutdown()
    assert billed(emulator) == 9


def test_a_shutdown_bills_what_an_open_block_without_held_credits_has_used(emulator):
    client = sync(plain(emulator))
    with client.hold(INFERENCE, ACME, usage=10, event_subtype=EVENT) as hold:
        assert hold.held == 0
        hold.use(2.5)
        client.shutdown()
    assert billed(emulator) == 3


async def test_a_renewal_that_a_shutdown_overtakes_settles_nothing_a_second_time(
    emulator, world, fields, monkeypatch
):
    async with asynchronous(fields) as client:
        async with client.hold(INFERENCE, ACME, usage=100) as hold:
            hold.use(2.5)
            check_again = hold._check_again

            async def overtaken(*arguments):
                result = await check_again(*arguments)
                client._holds.settle()  # as a shutdown begins
                return result

            monkeypatch.setattr(hold, "_check_again", overtaken)
            await hold._renew(client._runtime)
            assert hold.held == 3
        await eventually_async(lambda: world.open_holds(client) == 0)
    assert billed(emulator) == 3


def test_a_shutdown_refunds_what_open_holds_have_not_used(emulator, world, fields):
    client = sync(fields)
    with client.hold(INFERENCE, ACME, usage=100):
        client.shutdown()
        assert world.open_holds(client) == 0
    assert billed(emulator) == 0


async def test_an_asynchronous_shutdown_refunds_what_open_holds_have_not_used(
    emulator, world, fields
):
    client = asynchronous(fields)
    async with client.hold(INFERENCE, ACME, usage=100):
        await client.shutdown()
        assert world.open_holds(client) == 0
    assert billed(emulator) == 0


def test_a_killed_process_loses_the_usage_of_at_most_one_reservation(emulator):
    program = textwrap.dedent("""
        import sys, time
        from schematic_native import CreditLeaseConfig, Schematic, SchematicConfig
        url, key = sys.argv[1:]
        client = Schematic(key, SchematicConfig(
            base_url=url, event_capture_url=url, use_datastream=True, event_buffer_period=0.01,
            credit_leases=CreditLeaseConfig(mode="client"),
        ))
        with client.hold("inference", {"id": "acme"}, usage=1000, ttl=0.3) as hold:
            while True:
                hold.use(1)
                print(hold.used, hold._billed, hold._count, flush=True)
                time.sleep(0.001)
    """)
    command = [sys.executable, "-c", program, emulator.base_url, API_KEY]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        lines = process.stdout.readline()
        while len(bills(emulator)) < 3:
            lines = process.stdout.readline()
        process.kill()
        lines += process.stdout.read()
        # The last line may have been cut off.
        used, settled, pieces = map(int, lines.split("\n")[-2].split())
    assert len(bills(emulator)) >= pieces - 2  # the open one, and one being sent
    assert billed(emulator) <= settled + 1000
    assert billed(emulator) <= used + 1
    emulator.advance(3600)
    assert emulator.audit()["balanced"]
