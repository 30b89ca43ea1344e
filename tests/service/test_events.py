"""The delivery of events: batches, retries, and the number of requests under way."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from schematic_native._native import Core
from schematic_native.service.errors import ApiConnectionError
from schematic_native.service.event_posts import Posted
from schematic_native.service.events import EventSender, Rhythm
from tests.conftest import PATIENCE, eventually_async

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from schematic_native._native import EventBatch
    from schematic_native.ground.fault_log import FaultLog

OUTAGE, BUG = "unreachable", "bug"


class Capture:
    """Stands in for the capture service: answers by script, takes what it answers with 200."""

    def __init__(self, *script: int | str) -> None:
        self.script = deque(script)
        self.otherwise: int | str = 200
        self.is_explained = True
        self.refuse: Callable[[list[dict]], int | None] = lambda _events: None
        self.taken: list[dict] = []
        self.posts = 0
        self.at: list[float] = []
        self.asked_delay: float | None = None
        self.seconds = 0.1
        self.turns = 3  # of the event loop, until the response to a post
        self.under_way = 0
        self.at_once: list[int] = []  # at each post, how many were under way
        self.open = asyncio.Event()
        self.open.set()

    async def __call__(self, batch: EventBatch) -> Posted:
        self.posts += 1
        self.at.append(asyncio.get_running_loop().time())
        self.under_way += 1
        self.at_once.append(self.under_way)
        try:
            await self.open.wait()
            for _ in range(self.turns):
                await asyncio.sleep(0)
        finally:
            self.under_way -= 1
        events = json.loads(batch.body)["events"]
        answer = self.script.popleft() if self.script else self.otherwise
        if answer == OUTAGE:
            raise ApiConnectionError(OUTAGE)
        if answer == BUG:
            raise ValueError("a bug of a transport")
        assert isinstance(answer, int)
        answer = self.refuse(events) or answer
        if answer == 200:
            self.taken += events
        return Posted(answer, self.is_explained, self.asked_delay, self.seconds)

    def names(self) -> list[str]:
        return [event["body"]["event"] for event in self.taken]


@asynccontextmanager
async def sending(
    core: Core, capture: Capture, faults: FaultLog, period: float = 3600.0, **arguments: object
) -> AsyncIterator[EventSender]:
    rhythm = Rhythm(period, arguments.pop("max_requests", 64), first_retry_delay=0.001)
    arguments = {"jitter": lambda: 0.0, **arguments}
    sender = EventSender(core, capture, faults, rhythm, **arguments)
    task = asyncio.create_task(sender.run())
    try:
        yield sender
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await sender.close()


def track(core: Core, *names: str) -> None:
    for name in names:
        core.track(name)


@pytest.fixture
def core() -> Core:
    return Core(api_key="k")


async def test_a_flush_delivers_what_is_queued(core, faults):
    capture = Capture()
    async with sending(core, capture, faults) as sender:
        track(core, "a", "b")
        assert await sender.flush(PATIENCE)
        assert capture.names() == ["a", "b"]
        assert (sender.sent, sender.pending, sender.refused) == (2, 0, 0)


async def test_events_are_sent_at_the_end_of_the_period(core, faults):
    capture = Capture()
    async with sending(core, capture, faults, period=0.01):
        await asyncio.sleep(0)
        track(core, "a")
        await eventually_async(lambda: capture.taken)


async def test_a_full_batch_wakes_the_sender(faults):
    capture = Capture()
    senders: list[EventSender] = []
    core = Core(api_key="k", wake=lambda topic: senders[0].wake() if topic == "events" else None)
    async with sending(core, capture, faults) as sender:
        senders.append(sender)
        await asyncio.sleep(0)
        track(core, *[f"e{n}" for n in range(100)])
        await eventually_async(lambda: len(capture.taken) == 100)
    assert capture.posts == 1


@pytest.mark.parametrize("trouble", [OUTAGE, BUG, 302, 401, 403, 404, 408, 429, 500, 503])
async def test_events_survive_an_outage_of_any_kind(core, faults, trouble, caplog):
    caplog.set_level("INFO")
    capture = Capture(trouble, trouble, trouble)
    async with sending(core, capture, faults) as sender:
        track(core, "a")
        assert await sender.flush(PATIENCE)
    assert capture.names() == ["a"]
    assert capture.posts == 4
    assert faults.last_error is None
    messages = [record.message for record in caplog.records]
    assert len([m for m in messages if "the events are kept" in m]) == 1
    assert len([m for m in messages if "works again" in m]) == 1


async def test_a_refused_api_key_is_reported_as_such(core, faults):
    capture = Capture()
    capture.otherwise = 401
    async with sending(core, capture, faults) as sender:
        track(core, "a")
        assert not await sender.flush(0.05)
        await eventually_async(lambda: faults.last_error)
        assert "the API key was refused (HTTP 401)" in (faults.last_error or "")
        assert sender.pending == 1


@pytest.mark.parametrize("status", [400, 413, 422])
async def test_only_the_event_that_the_server_refuses_is_dropped(core, faults, status, caplog):
    capture = Capture()
    capture.refuse = lambda events: (
        status if any(e["body"]["event"] == "bad" for e in events) else None
    )
    async with sending(core, capture, faults) as sender:
        track(core, *[f"e{n}" for n in range(60)], "bad", *[f"f{n}" for n in range(39)])
        assert await sender.flush(PATIENCE)
        assert (sender.sent, sender.refused, sender.pending) == (99, 1, 0)
    assert "bad" not in capture.names()
    assert len(set(capture.names())) == 99
    assert any(f"refused an event (HTTP {status})" in record.message for record in caplog.records)


@pytest.mark.parametrize("status", [400, 413, 422])
async def test_a_refusal_of_a_proxy_drops_no_event(core, faults, status):
    capture = Capture(status, status, status)
    capture.is_explained = False
    async with sending(core, capture, faults) as sender:
        track(core, "a", "b")
        assert await sender.flush(PATIENCE)
        assert (sender.sent, sender.refused, sender.pending) == (2, 0, 0)
    assert sorted(capture.names()) == ["a", "b"]


async def test_usage_is_kept_while_it_cannot_be_prepared(core, faults):
    capture, faulty = Capture(), iter([True, True, False])

    async def prepare() -> None:
        if next(faulty):
            raise ValueError("a bug of a store")

    sender = EventSender(
        core,
        capture,
        faults,
        Rhythm(3600, first_retry_delay=0.001),
        prepare=prepare,
        jitter=lambda: 0.0,
    )
    task = asyncio.create_task(sender.run())
    track(core, "a")
    assert await sender.flush(PATIENCE)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert capture.names() == ["a"]


async def test_a_sender_takes_over_from_one_that_had_taken_over_itself(core, faults):
    capture = Capture()
    capture.otherwise = OUTAGE
    first = EventSender(core, capture, faults, Rhythm(3600))
    task = asyncio.create_task(first.run())
    track(core, "a")
    assert not await first.flush(0.05)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await first.close()
    second = EventSender(core, capture, faults, Rhythm(3600))
    second.inherit(first)  # its loop ends before it has started
    third = EventSender(core, capture, faults, Rhythm(3600))
    third.inherit(second)
    capture.otherwise = 200
    task = asyncio.create_task(third.run())
    assert await third.flush(PATIENCE)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert (capture.names(), third.pending) == (["a"], 0)


async def test_few_requests_are_under_way_and_the_rest_stays_in_the_queue(core, faults):
    capture = Capture()
    capture.open.clear()
    async with sending(core, capture, faults) as sender:
        track(core, *["e"] * 1000)
        flushes = asyncio.create_task(sender.flush(PATIENCE))
        await eventually_async(lambda: capture.posts == 8)
        assert not await sender.flush(0.05)
        assert (capture.posts, sender.pending) == (8, 800)
        assert core.counts()["queued_billing"] == 200
        capture.open.set()
        assert await flushes
        assert await sender.flush(PATIENCE)
    assert len(capture.taken) == 1000
    assert max(capture.at_once) == 8


async def test_the_number_of_requests_grows_up_to_its_limit_while_the_service_keeps_up(
    core, faults
):
    capture = Capture()
    capture.turns = 60
    async with sending(core, capture, faults, max_requests=20) as sender:
        track(core, *["e"] * 30_000)
        assert await sender.flush(PATIENCE)
    assert len(capture.taken) == 30_000
    assert max(capture.at_once) == 20


async def test_the_number_of_requests_drops_when_the_service_is_overloaded(core, faults):
    capture = Capture(*[429] * 8)
    capture.open.clear()
    async with sending(core, capture, faults, max_requests=8) as sender:
        track(core, *["e"] * 800)
        flushes = asyncio.create_task(sender.flush(PATIENCE))
        await eventually_async(lambda: capture.under_way == 8)
        capture.open.set()
        assert await flushes
    assert len(capture.taken) == 800
    assert max(capture.at_once[:8]) == 8
    assert max(capture.at_once[8:]) <= 5


async def test_the_service_may_say_when_to_come_back(core, faults):
    capture = Capture(429)
    capture.asked_delay = 0.2
    async with sending(core, capture, faults) as sender:
        track(core, "a")
        flush = asyncio.create_task(sender.flush(PATIENCE))
        await eventually_async(lambda: capture.posts == 1)
        track(core, *["late"] * 200)
        assert await flush
        assert await sender.flush(PATIENCE)
    assert capture.at[1] - capture.at[0] >= 0.2
    assert len(capture.taken) == 201


async def test_a_wake_up_sends_full_batches_and_leaves_the_rest_to_the_next_flush(faults):
    capture = Capture()
    senders: list[EventSender] = []
    core = Core(api_key="k", wake=lambda topic: senders[0].wake() if topic == "events" else None)
    async with sending(core, capture, faults) as sender:
        senders.append(sender)
        await asyncio.sleep(0)
        for _ in range(3):
            track(core, *["e"] * 150)
            await eventually_async(lambda: core.counts()["queued_billing"] < 100)
        await eventually_async(lambda: len(capture.taken) == 400)
        assert core.counts()["queued_billing"] == 50
        assert await sender.flush(PATIENCE)
    assert len(capture.taken) == 450


async def test_events_are_sent_at_the_end_of_the_period_even_while_full_batches_keep_coming(faults):
    capture = Capture()
    senders: list[EventSender] = []
    core = Core(api_key="k", wake=lambda topic: senders[0].wake() if topic == "events" else None)
    async with sending(core, capture, faults, period=0.05) as sender:
        senders.append(sender)
        await asyncio.sleep(0)

        async def flood() -> None:
            while True:
                track(core, *["e"] * 100)
                await asyncio.sleep(0.002)

        flooding = asyncio.create_task(flood())
        await asyncio.sleep(0)
        track(core, "odd")
        await eventually_async(lambda: "odd" in capture.names())
        flooding.cancel()
        await asyncio.gather(flooding, return_exceptions=True)


async def test_a_flush_does_not_wait_for_what_comes_after_it(core, faults):
    capture = Capture()
    async with sending(core, capture, faults) as sender:
        track(core, "a")
        flush = asyncio.create_task(sender.flush(PATIENCE))
        await asyncio.sleep(0)
        track(core, *["late"] * 5)
        assert await flush
        assert "a" in capture.names()


async def test_closing_returns_how_many_events_were_not_delivered(core, faults):
    capture = Capture()
    capture.otherwise = OUTAGE
    sender = EventSender(core, capture, faults, Rhythm(3600))
    task = asyncio.create_task(sender.run())
    track(core, "a", "b")
    assert not await sender.flush(0.05)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert await sender.close() == 2


async def test_one_accepted_batch_ends_the_backoff_of_all_others(core, faults):
    capture = Capture(OUTAGE, OUTAGE, OUTAGE, OUTAGE)
    sender = EventSender(
        core, capture, faults, Rhythm(3600, first_retry_delay=0.01), jitter=lambda: 1.0
    )
    # The first retry, after 10 ms, wakes the others, which would otherwise wait as long.
    task = asyncio.create_task(sender.run())
    track(core, *["e"] * 400)
    assert await sender.flush(PATIENCE)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert len(capture.taken) == 400


async def test_usage_lost_to_a_full_queue_is_reported_once_until_it_is_over(faults, caplog):
    caplog.set_level("INFO")
    core = Core(api_key="k", max_billing_events=2)
    capture = Capture(OUTAGE, OUTAGE)
    track(core, "a", "b", "lost", "lost too")
    async with sending(core, capture, faults) as sender:
        assert await sender.flush(PATIENCE)
        track(core, "c")
        assert await sender.flush(PATIENCE)
    assert capture.names() == ["a", "b", "c"]
    messages = [record.message for record in caplog.records if "event queue" in record.message]
    assert messages == [
        "event queue: it is full: new track and identify events are lost",
        "event queue: works again",
    ]


def test_each_track_and_identify_has_its_own_idempotency_key_unless_one_is_given(core):
    for key in (None, "", "mine"):
        core.track("tokens", idempotency_key=key)
        core.identify({"id": "user_1"}, idempotency_key=key)
    events = json.loads(core.take_batch().body)["events"]
    keys = [event["idempotency_key"] for event in events]
    assert keys[4:] == ["mine", "mine"]
    assert len(set(keys[:4])) == 4
    assert all(key.startswith("event:") for key in keys[:4])


def test_cores_generate_different_keys():
    keys = set()
    for _ in range(2):
        other = Core(api_key="sch_dev_events")
        other.track("tokens")
        [event] = json.loads(other.take_batch().body)["events"]
        keys.add(event["idempotency_key"])
    assert len(keys) == 2
