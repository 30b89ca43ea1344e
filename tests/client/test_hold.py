"""Holds: growth, renewal, endings, streams, threads and garbage collection."""

from __future__ import annotations

import asyncio
import gc
import pickle
import subprocess
import sys
import textwrap
import threading
import warnings
from collections import Counter
from typing import TYPE_CHECKING

import pytest
import redis

from schematic_native import (
    AsyncSchematic,
    AsyncSchematicConfig,
    CreditLeaseConfig,
    CreditsDenied,
    Schematic,
    SchematicConfig,
)
from tests.conftest import ACME, API_KEY, eventually, eventually_async, plain, streaming

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
def world(request, emulator):
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


# The block


def test_a_block_holds_and_bills_what_was_used(emulator, world, fields):
    with sync(fields) as client:
        with client.hold(INFERENCE, ACME, usage=100) as hold:
            assert hold.allowed
            assert hold.reason == hold.result.reason
            assert hold.error is None
            assert (hold.used, hold.held) == (0, 100)
            hold.use(30)
            hold.use(12)
            assert hold.used == 42
        eventually(lambda: world.open_holds(client) == 0)
    assert billed(emulator) == 42


async def test_an_asynchronous_block_holds_and_bills_what_was_used(emulator, world, fields):
    async with asynchronous(fields) as client:
        async with client.hold(INFERENCE, ACME, usage=100) as hold:
            assert (hold.allowed, hold.held) == (True, 100)
            hold.use(42)
        await eventually_async(lambda: world.open_holds(client) == 0)
    assert billed(emulator) == 42


def test_a_block_that_uses_nothing_bills_nothing_and_refunds_everything(emulator, world, fields):
    with sync(fields) as client:
        with client.hold(INFERENCE, ACME, usage=100):
            pass
        eventually(lambda: world.open_holds(client) == 0)
    assert bills(emulator) == []


@pytest.mark.parametrize(
    "error", [ValueError, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError, SystemExit]
)
def test_any_exception_that_leaves_a_block_bills_what_was_used_and_propagates(emulator, error):
    with sync(streaming(emulator, event_buffer_period=0.05)) as client:
        hold = client.hold(INFERENCE, ACME, usage=100)
        with pytest.raises(error), hold:  # noqa: PT012 - the block is what is tested
            hold.use(7)
            raise error
        assert client.status().open_holds == 0
    assert billed(emulator) == 7


async def test_a_task_that_is_cancelled_at_any_point_leaves_no_hold(emulator, world, fields):
    used = 0
    async with asynchronous(fields) as client:

        async def work():
            nonlocal used
            async with client.hold(INFERENCE, ACME, usage=10) as hold:
                for _ in range(3):
                    hold.use(1)
                    used += 1
                    await asyncio.sleep(0)
                assert await hold.reserve(20)

        for steps in range(12):
            task = asyncio.create_task(work())
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await eventually_async(lambda: world.open_holds(client) == 0)
    assert billed(emulator) == used


def test_usage_may_exceed_the_hold_and_fractions_are_rounded_up_only_once(emulator):
    with sync(streaming(emulator, event_buffer_period=0.05)) as client:
        with client.hold(INFERENCE, ACME, usage=1) as hold:
            for _ in range(10):
                hold.use(0.1)
        with client.hold(INFERENCE, ACME, usage=1) as hold:
            hold.use(0.5)
    assert Counter(event["body"]["quantity"] for event in bills(emulator)) == {1: 2}


@pytest.mark.parametrize("usage", [0, -1, float("nan"), float("inf"), True, "3", None])
def test_a_usage_that_is_not_positive_is_refused(emulator, usage):
    with (
        sync(streaming(emulator, event_buffer_period=0.05)) as client,
        pytest.raises((TypeError, ValueError), match="usage"),
    ):
        client.hold(INFERENCE, ACME, usage=usage)


@pytest.mark.parametrize("units", [-1, float("nan"), float("inf"), True, "3", None])
def test_use_refuses_what_is_not_a_number_of_units(emulator, units):
    with (
        sync(streaming(emulator, event_buffer_period=0.05)) as client,
        client.hold(INFERENCE, ACME, usage=1) as hold,
    ):
        with pytest.raises((TypeError, ValueError), match="units"):
            hold.use(units)
        assert hold.used == 0


def test_a_hold_can_be_entered_once_and_holds_nothing_before(emulator):
    with sync(streaming(emulator, event_buffer_period=0.05)) as client:
        hold = client.hold(INFERENCE, ACME, usage=1)
        assert client.status().open_holds == 0
        with pytest.raises(RuntimeError, match="entered"):
            _ = hold.allowed
        with hold:
            pass
        with pytest.raises(RuntimeError, match="ended"):
            hold.use(1)
        with pytest.raises(RuntimeError, match="once"):
            hold.__enter__()


async def test_a_hold_that_is_being_entered_cannot_be_entered_again(emulator, world, fields):
    async with asynchronous(fields) as client:
        hold = client.hold(INFERENCE, ACME, usage=100)
        # Without a lease, both would wait for the service.
        entered, refused = await asyncio.gather(
            hold.__aenter__(), hold.__aenter__(), return_exceptions=True
        )
        assert entered is hold
        assert isinstance(refused, RuntimeError)
        hold.use(42)
        await hold.__aexit__(None, None, None)
        await eventually_async(lambda: world.open_holds(client) == 0)
    assert billed(emulator) == 42
    assert emulator.audit()["balanced"]


async def test_a_hold_can_be_entered_after_an_attempt_that_was_cancelled(emulator, world, fields):
    async with asynchronous(fields) as client:
        hold = client.hold(INFERENCE, ACME, usage=100)
        attempt = asyncio.ensure_future(hold.__aenter__())
        await asyncio.sleep(0)
        attempt.cancel()
        with pytest.raises(asyncio.CancelledError):
            await attempt
        async with hold:
            hold.use(42)
        await eventually_async(lambda: world.open_holds(client) == 0)
    assert billed(emulator) == 42
    assert emulator.audit()["balanced"]


def test_a_hold_with_a_wrong_argument_is_refused_as_often_as_it_is_entered(emulator):
    with sync(streaming(emulator, event_buffer_period=0.05)) as client:
        hold = client.hold(INFERENCE, ACME, usage=1, timeout=-1)
        for _ in range(2):
            with pytest.raises(ValueError, match="timeout"):
                hold.__enter__()
        assert client.status().open_holds == 0


def test_the_answer_of_a_hold_is_one_object(emulator):
    with (
        sync(streaming(emulator, event_buffer_period=0.05)) as client,
        client.hold(INFERENCE, ACME, usage=1) as hold,
    ):
        assert hold.result is hold.result
        assert hold.result.reservation is not None
        assert (hold.result.allowed, hold.result.reason) == (hold.allowed, hold.reason)


def test_a_denied_hold_bills_nothing_and_raises_where_it_is_required(emulator):
    with sync(streaming(emulator, event_buffer_period=0.05)) as client:
        with client.hold(INFERENCE, {"id": "nobody"}, usage=1) as hold:
            assert not hold.allowed
            assert not hold.reserve(3)
            hold.use(5)
        with (
            pytest.raises(CreditsDenied, match=hold.reason) as denied,
            client.hold(INFERENCE, {"id": "nobody"}, usage=1, required=True),
        ):
            pass
        assert denied.value.result.allowed is False
        assert pickle.loads(pickle.dumps(denied.value)).result == denied.value.result
    assert bills(emulator) == []


def test_an_allowed_check_without_a_hold_is_billed_as_an_ordinary_event(emulator):
    # Without leases this is a plain check.
    with sync(plain(emulator)) as client:
        with client.hold(INFERENCE, ACME, usage=10, event_subtype=EVENT) as hold:
            assert hold.allowed
            assert hold.held == 0
            hold.use(3)
        with client.hold(INFERENCE, ACME, usage=10, event_subtype=EVENT):
            pass
    [event] = bills(emulator)
    assert (event["body"]["event"], event["body"]["quantity"]) == (EVENT, 3)
    assert event["body"]["company"] == ACME


def test_traits_and_a_key_go_with_the_event(emulator, world, fields):
    with sync(fields) as client:
        for _ in range(2):
            with client.hold(INFERENCE, ACME, usage=10, key="task-1", traits={"m": "x"}) as hold:
                hold.use(4)
    assert {event["idempotency_key"] for event in bills(emulator)} == {f"hold:{EVENT}:task-1"}
    assert all(event["body"]["traits"] == {"m": "x"} for event in bills(emulator))
    assert emulator.state()["billed"]["comp_acme"][EVENT] == 4


# Growth


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


# Renewal


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


# Streams


def test_a_stream_counts_its_items_and_ends_the_hold(emulator, world, fields):
    with sync(fields) as client, client.hold(INFERENCE, ACME, usage=100) as hold:
        assert list(hold.stream(iter("abc"), ord)) == ["a", "b", "c"]
        eventually(lambda: world.open_holds(client) == 0)
    assert billed(emulator) == sum(map(ord, "abc"))


async def test_a_stream_takes_over_the_hold_of_a_block_that_it_leaves(emulator, world, fields):
    async def numbers():
        for number in range(1, 5):
            yield number

    async def handler(client):
        async with client.hold(INFERENCE, ACME, usage=100) as hold:
            return hold.stream(numbers(), lambda number: number)

    async with asynchronous(fields) as client:
        assert [number async for number in await handler(client)] == [1, 2, 3, 4]
        cut_short = await handler(client)
        assert await cut_short.__anext__() == 1
        await cut_short.aclose()
        never_begun = await handler(client)
        del never_begun
        await eventually_async(lambda: world.open_holds(client) == 0)
    assert billed(emulator) == 11


# Threads and garbage collection


def test_threads_use_one_hold_at_once(emulator, world, fields):
    with sync(fields) as client:
        with client.hold(INFERENCE, ACME, usage=10) as hold:

            def work():
                for _ in range(500):
                    hold.use(1)

            threads = [threading.Thread(target=work) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert hold.used == 2000
        eventually(lambda: world.open_holds(client) == 0)
    assert billed(emulator) == 2000


def test_an_open_hold_that_is_garbage_collected_is_settled_with_a_warning(emulator, world, fields):
    with sync(fields) as client:
        hold = client.hold(INFERENCE, ACME, usage=10).__enter__()
        hold.use(6)
        with pytest.warns(ResourceWarning, match="collected open"):  # noqa: PT031
            del hold
            gc.collect()
        eventually(lambda: world.open_holds(client) == 0)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            client.hold(INFERENCE, ACME, usage=10)
    assert billed(emulator) == 6
