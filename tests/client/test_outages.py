"""Outages: a frozen service delays no call beyond its timeout, and no event is lost or billed twice."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from schematic_native import (
    AsyncSchematic,
    AsyncSchematicConfig,
    CheckFlagOptions,
    CreditLeaseConfig,
    Schematic,
    SchematicConfig,
)
from schematic_native.emulator import Emulator
from tests.conftest import ACME, API_KEY, PATIENCE, eventually, streaming
from tests.limits import within

if TYPE_CHECKING:
    from collections.abc import Iterator

INFERENCE = "inference"
CALLERS = 100
TIMEOUT = 0.2
# The tests print the times and assert none that is tight, because the machine may be busy.
SLACK = 2.0
SETTLES = 10_000


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    """An emulator in a process of its own, so that it does not slow its callers down."""
    with Emulator() as running:
        yield running


def fields_of(place: str, emulator: Emulator) -> dict[str, object]:
    leases = CreditLeaseConfig(mode="client", default_lease_size=100)
    if place == "check":
        return streaming(emulator, use_datastream=False, credit_leases=CreditLeaseConfig())
    return streaming(emulator, credit_leases=leases)


def report(capsys: pytest.CaptureFixture[str], what: str, times: list[float]) -> None:
    with capsys.disabled():
        middle = sorted(times)[len(times) // 2]
        sys.stdout.write(f"\n  {what}: median {middle:.3f} s, longest {max(times):.3f} s\n")


PLACES = ("acquire", "extend", "check")


@pytest.mark.parametrize("place", PLACES)
def test_a_frozen_service_delays_no_thread_beyond_its_timeout(emulator, place, capsys):
    answers: list[bool] = []
    with Schematic(API_KEY, SchematicConfig(**fields_of(place, emulator))) as client:
        client.check_flag(INFERENCE, ACME)

        def call(start: threading.Barrier, times: list[float]) -> None:
            start.wait()
            begun = time.monotonic()
            answers.append(client.check(INFERENCE, ACME, usage=5, timeout=TIMEOUT).allowed)
            times.append(time.monotonic() - begun)

        def call_at_once() -> list[float]:
            start, times = threading.Barrier(CALLERS), []
            threads = [threading.Thread(target=call, args=(start, times)) for _ in range(CALLERS)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            return times

        with emulator.fail("freeze", on=place):
            if place == "extend":
                client.check(INFERENCE, ACME, usage=50)  # the whole lease
            for _ in within(TIMEOUT + SLACK):
                times = call_at_once()
    report(capsys, f"{CALLERS} threads, {place} frozen", times)
    assert len(times) == CALLERS
    assert not any(answers)


@pytest.mark.parametrize("place", PLACES)
async def test_a_frozen_service_delays_no_task_beyond_its_timeout(emulator, place, capsys):
    fields = fields_of(place, emulator)
    async with AsyncSchematic(API_KEY, AsyncSchematicConfig(**fields)) as client:
        await client.check_flag(INFERENCE, ACME)
        fault = await asyncio.to_thread(emulator.fail, "freeze", place)
        if place == "extend":
            await client.check(INFERENCE, ACME, usage=50)

        async def call() -> tuple[bool, float]:
            begun = time.monotonic()
            result = await client.check(INFERENCE, ACME, usage=5, timeout=TIMEOUT)
            return result.allowed, time.monotonic() - begun

        for _ in within(TIMEOUT + SLACK):
            answered = await asyncio.gather(*(call() for _ in range(CALLERS)))
            assert [allowed for allowed, _ in answered] == [False] * CALLERS
        await asyncio.to_thread(fault.clear)
    report(capsys, f"{CALLERS} tasks, {place} frozen", [seconds for _, seconds in answered])


def test_a_plain_check_of_a_frozen_service_answers_its_default_in_time(emulator, capsys):
    with (
        Schematic(API_KEY, SchematicConfig(**fields_of("check", emulator))) as client,
        emulator.fail("freeze", on="check"),
    ):
        options = CheckFlagOptions(default_value=True, timeout=TIMEOUT)
        for _ in within(TIMEOUT + SLACK):
            begun = time.monotonic()
            assert client.check_flag(INFERENCE, ACME, None, options) is True
            took = time.monotonic() - begun
    report(capsys, "one plain check, check frozen", [took])


def test_ten_thousand_settles_during_a_capture_outage_are_billed_once_each(emulator, capsys):
    leases = CreditLeaseConfig(mode="client", default_lease_size=1_000_000)
    fields = streaming(emulator, credit_leases=leases, event_buffer_period=0.1)
    with Schematic(API_KEY, SchematicConfig(**fields)) as client:
        client.prewarm(ACME, ["credit_inference"])
        client.check_flag(INFERENCE, ACME)
        before, times = use(client, 1000), []
        eventually(lambda: not client.status().queued_events)
        with emulator.fail("status", on="capture", status=503):
            held = use(client, SETTLES)
            times = held[1]
            eventually(lambda: client.status().last_error)
            status = client.status()
            # Every billing event is kept, but at most 10 000 flag_check events.
            assert SETTLES <= status.queued_events <= SETTLES + 10_000
        begun = time.monotonic()
        eventually(lambda: not client.status().queued_events)
        drained = time.monotonic() - begun
        after = client.status()
        assert after.last_error is None
    events = [event for event in emulator.events() if event["type"] == "track"]
    first = [event["idempotency_key"] for event in events if not event.get("duplicate")]
    wanted = {f"lease-reservation:{reservation_id}" for reservation_id in before[0] + held[0]}
    assert len(first) == len(wanted) == SETTLES + 1000
    assert set(first) == wanted
    assert emulator.state()["billed"] == {"comp_acme": {"inference_tokens": 2 * len(wanted)}}
    assert emulator.state()["anomalies"] == {}
    with capsys.disabled():
        sys.stdout.write(
            f"\n  check and settle: median {median(before[1]):.1f} us with capture up, "
            f"{median(times):.1f} us down; all delivered {drained:.2f} s after it was back\n"
        )
    # Calls are answered from memory as before, so the outage must not slow a caller noticeably.
    assert median(times) < 10 * median(before[1])
    assert max(times) < PATIENCE / 2 * 1e6


def use(client: Schematic, number: int) -> tuple[list[str], list[float]]:
    """Check and settle; return the reservation ids and the microseconds that each pair took."""
    ids, times = [], []
    for _ in range(number):
        begun = time.perf_counter()
        result = client.check(INFERENCE, ACME, usage=3)
        client.track_with_reservation(result.reservation, 2)
        times.append((time.perf_counter() - begun) * 1e6)
        ids.append(result.reservation.id)
    return ids, times


def median(times: list[float]) -> float:
    return sorted(times)[len(times) // 2]


LOST_ANSWERS = 3


def test_a_batch_whose_response_was_lost_bills_each_track_once(emulator):
    with Schematic(API_KEY, SchematicConfig(**streaming(emulator))) as client:
        emulator.fail("cut", on="capture", times=LOST_ANSWERS)
        for _ in range(10):
            client.track("pages", ACME, quantity=7)
            client.identify({"id": "user_1"}, {"keys": ACME})
    events = emulator.events()
    keys = {event["idempotency_key"] for event in events}
    assert len(events) > len(keys) == 20, "some were sent again, each under its own key"
    assert emulator.state()["billed"]["comp_acme"]["pages"] == 70


def test_the_halves_of_a_batch_that_was_already_accepted_bill_nothing_again(emulator):
    """The response is lost; the retry is refused for its size, so the events are sent in two parts."""
    with Schematic(API_KEY, SchematicConfig(**streaming(emulator))) as client:
        cut = emulator.fail("cut", on="capture", times=1)
        for _ in range(10):
            client.track("pages", ACME, quantity=7)
        flush = client._session.thread.begin(lambda: client._runtime._sender.flush(30))
        eventually(lambda: cut.fired)
        emulator.fail("status", on="capture", status=413, times=2)
        assert flush.wait(30)
    events = emulator.events()
    assert len(events) > len({event["idempotency_key"] for event in events}) == 10
    assert emulator.state()["billed"]["comp_acme"]["pages"] == 70


async def test_a_batch_of_an_asynchronous_client_is_billed_once_as_well(emulator):
    config = AsyncSchematicConfig(**streaming(emulator))
    async with AsyncSchematic(API_KEY, config) as client:
        await asyncio.to_thread(emulator.fail, "cut", "capture", times=LOST_ANSWERS)
        for _ in range(10):
            await client.track("pages", ACME, quantity=7)
    state = await asyncio.to_thread(emulator.state)
    assert state["billed"]["comp_acme"]["pages"] == 70


def test_no_more_requests_run_at_once_than_the_configuration_allows(emulator):
    fields = streaming(emulator, max_event_requests=2)
    with Schematic(API_KEY, SchematicConfig(**fields)) as client:
        fault = emulator.fail("freeze", on="capture")
        for _ in range(1000):
            client.track("pages", ACME)
        eventually(lambda: fault.fired == 2)
        eventually(lambda: client._core.counts()["queued_billing"] == 800)
        fault.clear()
    assert emulator.state()["billed"]["comp_acme"]["pages"] == 1000
