"""One synchronous client on many threads, and one asynchronous client on successive event loops."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import textwrap
import threading
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from schematic_native import (
    AsyncSchematic,
    AsyncSchematicConfig,
    CreditLeaseConfig,
    Schematic,
    SchematicConfig,
    TrackWithReservationOptions,
)
from tests.conftest import ACME, API_KEY, eventually, eventually_async, streaming

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from schematic_native.emulator import Emulator

INFERENCE, CREDIT = "inference", "credit_inference"


def make(emulator: Emulator, **fields: object) -> AsyncSchematic:
    return AsyncSchematic(API_KEY, AsyncSchematicConfig(**streaming(emulator, **fields)))


def billed(emulator: Emulator) -> int:
    return sum(events.get("inference_tokens", 0) for events in emulator.state()["billed"].values())


def test_sixteen_threads_call_everything_at_once_and_each_gets_its_answer(emulator):
    leases = CreditLeaseConfig(mode="client", default_lease_size=2000, default_reservation_ttl=30)
    config = SchematicConfig(**streaming(emulator, credit_leases=leases))
    units: Counter[int] = Counter()
    wrong: list[object] = []
    start = threading.Barrier(16)

    def work(client: Schematic, number: int) -> None:
        chooser = random.Random(number)
        start.wait()
        for _ in range(60):
            quantity = chooser.randint(1, 9)
            result = client.check(INFERENCE, ACME, {"id": "ada"}, usage=quantity, timeout=30)
            if result.reservation is None or result.reservation.quantity_reserved != quantity:
                wrong.append(result)
                continue
            if client.check_flag(INFERENCE, ACME) is not True:
                wrong.append("check_flag")
            if client.get_credit_balance(ACME, CREDIT).reserved < 0:
                wrong.append("balance")
            client.track("other", ACME)
            used = chooser.randint(0, quantity)
            client.track_with_reservation(result.reservation, used)
            units[number] += used
            client.status()

    with Schematic(API_KEY, config) as client:
        threads = [threading.Thread(target=work, args=(client, n)) for n in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in threads)
        assert client.status().open_holds == 0
    assert wrong == []
    assert billed(emulator) == sum(units.values())
    assert emulator.state()["anomalies"] == {}
    assert emulator.audit()["balanced"]


def test_one_client_works_on_successive_event_loops(emulator):
    client = make(emulator)

    async def use(last: bool) -> bool:
        result = await client.check(INFERENCE, ACME, usage=5)
        await client.track_with_reservation(result.reservation, 5)
        if last:
            await client.shutdown()
        return result.allowed

    assert [asyncio.run(use(last=number == 4)) for number in range(5)] == [True] * 5
    assert billed(emulator) == 25
    assert {lease["status"] for lease in emulator.state()["leases"].values()} == {"released"}
    assert emulator.state()["anomalies"] == {}


def test_events_being_sent_when_a_loop_ends_are_sent_on_the_next(emulator):
    client = make(emulator, event_buffer_period=0.01)

    async def use() -> None:
        result = await client.check(INFERENCE, ACME, usage=5)
        await client.track_with_reservation(result.reservation, 5)
        # They have left the queue, but are not delivered, because the capture service does not respond.
        await eventually_async(lambda: not client._core.counts()["queued_billing"])

    async def end() -> None:
        await client.track("on the next loop", ACME)
        await client.shutdown()

    with emulator.fail("freeze", on="capture"):
        asyncio.run(use())
    assert client.status().queued_events >= 1
    asyncio.run(end())
    assert client.status().queued_events == 0
    assert billed(emulator) == 5
    assert emulator.audit()["balanced"]


def test_loops_that_end_without_a_shutdown_leave_no_warning(emulator):
    program = """
        import asyncio, gc, logging, sys
        from schematic_native import AsyncSchematic, AsyncSchematicConfig, CreditLeaseConfig

        client = AsyncSchematic("sch_dev_emulator", AsyncSchematicConfig(
            base_url=sys.argv[1], event_capture_url=sys.argv[1], use_datastream=True,
            credit_leases=CreditLeaseConfig(mode="client"),
        ))

        # Below the level of errors, asyncio's debug mode reports callbacks that a busy machine made slow.
        logging.getLogger("asyncio").setLevel(logging.ERROR)

        async def use(last):
            result = await client.check("inference", {"id": "acme"}, usage=5)
            assert result.allowed
            await client.track_with_reservation(result.reservation, 5)
            if last:
                await client.shutdown()

        for number in range(3):
            asyncio.run(use(number == 2))
            gc.collect()
    """
    command = [sys.executable, "-W", "error", "-X", "dev", "-c", textwrap.dedent(program)]
    done = subprocess.run(
        [*command, emulator.base_url], capture_output=True, text=True, timeout=250, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert billed(emulator) == 15


async def test_a_synchronous_check_inside_a_running_loop_waits_without_a_deadlock(emulator):
    config = SchematicConfig(**streaming(emulator))
    with Schematic(API_KEY, config) as client:
        # The first check waits for the stream and a lease, which the client's own thread brings.
        results = [client.check(INFERENCE, ACME, usage=1) for _ in range(50)]
        assert all(result.allowed for result in results)
        together = await asyncio.gather(
            *(asyncio.to_thread(client.check, INFERENCE, ACME, usage=1) for _ in range(50))
        )
        assert all(result.allowed for result in together)


async def test_two_loops_at_once_are_refused_and_the_first_goes_on(emulator):
    async with make(emulator) as client:
        assert (await client.check(INFERENCE, ACME, usage=1)).allowed

        def elsewhere() -> None:
            with pytest.raises(RuntimeError, match="another event loop"):
                asyncio.run(client.check(INFERENCE, {"id": "few"}, usage=1))

        await asyncio.to_thread(elsewhere)
        assert (await client.check(INFERENCE, ACME, usage=1)).allowed


def test_a_shutdown_on_a_new_loop_delivers_what_an_ended_loop_left(emulator):
    client = make(emulator, event_buffer_period=60.0)

    async def use() -> None:
        result = await client.check(INFERENCE, ACME, usage=5)
        await client.track_with_reservation(result.reservation, 5)
        await client.track("other", ACME)

    asyncio.run(use())
    assert client.status().queued_events >= 2
    asyncio.run(client.shutdown())
    assert (client.status().queued_events, client.status().leases) == (0, 0)
    assert billed(emulator) == 5
    assert {lease["status"] for lease in emulator.state()["leases"].values()} == {"released"}
    # The client has ended, so a further shutdown may run on any loop and does nothing.
    asyncio.run(client.shutdown())
    assert emulator.state()["requests"]["release"] == 1


def test_a_shutdown_cut_short_by_the_end_of_its_loop_is_completed_on_the_next(emulator):
    client = make(emulator, event_buffer_period=60.0)

    async def use() -> None:
        result = await client.check(INFERENCE, ACME, usage=5)
        await client.track_with_reservation(result.reservation, 5)
        ending = asyncio.ensure_future(client.shutdown())
        await eventually_async(lambda: fault.fired)
        ending.cancel()

    with emulator.fail("freeze", on="capture") as fault:
        asyncio.run(use())
    assert client.status().queued_events >= 1
    asyncio.run(client.shutdown())
    assert client.status().queued_events == 0
    assert billed(emulator) == 5


async def test_a_shutdown_from_another_loop_is_refused_and_changes_nothing(emulator):
    async with make(emulator) as client:
        result = await client.check(INFERENCE, ACME, usage=1)

        def elsewhere() -> None:
            with pytest.raises(RuntimeError, match="another event loop"):
                asyncio.run(client.shutdown())

        await asyncio.to_thread(elsewhere)
        assert (await client.check(INFERENCE, ACME, usage=1)).allowed
        await client.track_with_reservation(result.reservation, 1)
    assert billed(emulator) == 1


async def test_a_call_that_is_refused_on_another_loop_queues_nothing(emulator):
    async with make(emulator, event_buffer_period=60.0) as client:
        held = (await client.check(INFERENCE, ACME, usage=9)).reservation
        queued = client.status().queued_events
        traits = TrackWithReservationOptions(traits={"model": "large"})
        calls = (
            lambda: client.track("login", ACME),
            lambda: client.identify({"id": "ada"}),
            lambda: client.track_with_reservation(held, 9, traits),
        )

        async def call(method: Callable[[], Coroutine[object, object, None]]) -> None:
            await method()

        def elsewhere() -> None:
            for method in calls:
                with pytest.raises(RuntimeError, match="another event loop"):
                    asyncio.run(call(method))

        await asyncio.to_thread(elsewhere)
        assert (client.status().queued_events, client.status().open_holds) == (queued, 1)


async def test_memory_settles_from_any_loop_while_the_clients_own_can_send(emulator):
    async with make(emulator) as client:
        result = await client.check(INFERENCE, ACME, usage=9)

        def elsewhere() -> None:
            asyncio.run(client.track_with_reservation(result.reservation, 7))

        await asyncio.to_thread(elsewhere)
        assert client.status().open_holds == 0
    assert billed(emulator) == 7


def test_a_settle_after_the_loop_has_ended_starts_the_client_on_the_next(emulator):
    client = make(emulator)
    held = asyncio.run(client.check(INFERENCE, ACME, usage=9)).reservation

    async def settle() -> None:
        await client.track_with_reservation(held, 7)
        await eventually_async(lambda: client.status().queued_events == 0)

    asyncio.run(settle())
    asyncio.run(client.shutdown())
    assert billed(emulator) == 7


def test_without_asyncio_an_asynchronous_client_says_what_it_needs(emulator):
    """As under trio, the coroutine is not driven by asyncio."""
    client = make(emulator)
    calls = [
        client.initialize(),
        client.check_flag("inference", ACME),
        client.track("pages", ACME),
        client.prewarm(ACME, ["credit_inference"]),
    ]
    for call in calls:
        with pytest.raises(RuntimeError, match="does its I/O on asyncio"):
            call.send(None)
    asyncio.run(client.shutdown())
    assert client.status().queued_events == 0


def test_a_batch_whose_answer_was_lost_is_billed_once_by_the_next_loop(emulator):
    client = make(emulator)

    async def track() -> None:
        with emulator.fail("cut", on="capture") as fault:
            await client.track("pages", ACME, quantity=7)
            await client.identify({"id": "user_1"}, {"keys": ACME})
            sending = asyncio.ensure_future(client._runtime._sender.flush(30))
            await asyncio.to_thread(eventually, lambda: fault.fired)
            sending.cancel()

    asyncio.run(track())
    asyncio.run(client.shutdown())
    events = [event for event in emulator.events() if event["type"] in {"track", "identify"}]
    assert len(events) > len({event["idempotency_key"] for event in events}) == 2
    assert emulator.state()["billed"]["comp_acme"]["pages"] == 7
