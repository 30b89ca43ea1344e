"""Blocks that hold credits: what they bill, how they end, streams, threads and garbage collection."""

from __future__ import annotations

import asyncio
import gc
import pickle
import threading
import warnings
from collections import Counter

import pytest

from schematic_native import CreditsDenied
from tests.client.hold_worlds import (
    EVENT,
    INFERENCE,
    asynchronous,
    billed,
    bills,
    fields,
    sync,
    world,
)
from tests.conftest import ACME, eventually, eventually_async, plain, streaming

__all__ = ["fields", "world"]


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


def test_an_open_block_without_held_credits_that_is_garbage_collected_is_billed_with_a_warning(
    emulator,
):
    with sync(plain(emulator)) as client:
        hold = client.hold(INFERENCE, ACME, usage=10, event_subtype=EVENT).__enter__()
        hold.use(6)
        with pytest.warns(ResourceWarning, match="collected open"):  # noqa: PT031
            del hold
            gc.collect()
    assert billed(emulator) == 6
