"""How many threads handle what waits for them, and when the loop hears of it."""

from __future__ import annotations

import asyncio
import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from schematic_native.service import sender_threads
from schematic_native.service.proxies import UnusableTransportError
from schematic_native.service.sender_threads import MANY, SenderThreads
from tests.conftest import PATIENCE, eventually_async

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

# Longer than any test.
FOREVER = 1000.0


class Item:
    """Something to handle: its handling begins, and then lasts until it may end."""

    def __init__(self, *, ends: bool = True) -> None:
        self.has_begun = threading.Event()
        self.may_end = threading.Event()
        self.thread: threading.Thread | None = None
        if ends:
            self.may_end.set()

    def handle(self) -> None:
        self.thread = threading.current_thread()
        self.has_begun.set()
        assert self.may_end.wait(PATIENCE)


class Handling:
    """Threads at work, and what they have finished."""

    def __init__(self) -> None:
        self.finished: list[Item] = []
        self.groups: list[int] = []
        self.threads = SenderThreads(asyncio.get_running_loop(), Item.handle, self.finished.append)
        finish_done = self.threads.finish_done

        def count_group() -> None:
            before = len(self.finished)
            finish_done()
            self.groups.append(len(self.finished) - before)

        self.threads.finish_done = count_group

    def put(self, *items: Item) -> None:
        for item in items:
            self.threads.put(item)

    async def wait_for(self, *items: Item) -> None:
        await eventually_async(lambda: set(self.finished) >= set(items))


@asynccontextmanager
async def handling() -> AsyncIterator[Handling]:
    one = Handling()
    try:
        yield one
    finally:
        ended = asyncio.Event()
        one.threads.close(ended.set)
        await asyncio.wait_for(ended.wait(), PATIENCE)


async def test_a_busy_thread_takes_what_waits_and_the_loop_is_woken_once(monkeypatch):
    monkeypatch.setattr(sender_threads, "LONGEST_WAIT", FOREVER)
    first, *others = items = [Item(ends=False), Item(), Item()]
    async with handling() as one:
        one.put(*items)
        assert await asyncio.to_thread(first.has_begun.wait, PATIENCE)
        first.may_end.set()
        await one.wait_for(*items)
        assert one.finished == items
        assert {item.thread for item in others} == {first.thread}
        assert [size for size in one.groups if size] == [len(items)]


async def test_the_loop_hears_of_many_items_while_the_last_is_being_handled(monkeypatch):
    monkeypatch.setattr(sender_threads, "LONGEST_WAIT", FOREVER)
    first, last = Item(ends=False), Item(ends=False)
    items = [first, *[Item() for _ in range(MANY - 1)]]
    async with handling() as one:
        one.put(*items, last)
        first.may_end.set()
        await one.wait_for(*items)
        assert last not in one.finished
        last.may_end.set()
        await one.wait_for(last)


async def test_an_item_does_not_wait_long_for_a_busy_thread():
    stuck, *others = [Item(ends=False), Item(), Item()]
    async with handling() as one:
        one.put(stuck, *others)
        await one.wait_for(*others)
        assert stuck not in one.finished
        assert stuck.thread not in {item.thread for item in others}
        stuck.may_end.set()
        await one.wait_for(stuck)


async def test_items_that_take_long_have_a_thread_each_at_once(monkeypatch):
    async with handling() as one:
        slow = Item(ends=False)
        one.put(slow)
        slow.may_end.set()
        await one.wait_for(slow)
        # From here on, nothing is waited for.
        monkeypatch.setattr(sender_threads, "LONGEST_WAIT", FOREVER)
        one.threads._seconds = FOREVER
        items = [Item(ends=False) for _ in range(3)]
        one.put(*items)
        for item in items:
            assert await asyncio.to_thread(item.has_begun.wait, PATIENCE)
        for item in items:
            item.may_end.set()
        await one.wait_for(*items)


async def test_items_that_took_long_once_are_quick_again_after_some(monkeypatch):
    async with handling() as one:
        one.threads._seconds = 1.0
        for _ in range(100):
            item = Item()
            one.put(item)
            await one.wait_for(item)
            if one.threads._seconds < 0.1:
                break
        assert one.threads._seconds < 0.1


async def test_what_was_handled_is_finished_though_the_rest_is_stuck():
    stuck = [Item(ends=False), Item(ends=False)]
    quick = Item()
    async with handling() as one:
        one.put(stuck[0], quick, stuck[1])
        await one.wait_for(quick)
        assert one.finished == [quick]
        for item in stuck:
            item.may_end.set()
        await one.wait_for(*stuck)


async def test_an_item_that_no_thread_can_take_is_refused_and_forgotten(monkeypatch):
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async with handling() as one:
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", refuse)
            with pytest.raises(UnusableTransportError, match="new thread"):
                one.put(Item())
        assert one.threads.unfinished == []
        item = Item()
        one.put(item)
        await one.wait_for(item)
        assert one.finished == [item]


async def test_what_waits_when_the_threads_are_closed_is_still_handled(monkeypatch):
    monkeypatch.setattr(sender_threads, "LONGEST_WAIT", FOREVER)
    items = [Item(ends=False), Item(), Item()]
    async with handling() as one:
        one.put(*items)
        ended = asyncio.Event()
        [thread] = one.threads.close(ended.set)
        assert not ended.is_set()
        items[0].may_end.set()
        await asyncio.wait_for(ended.wait(), PATIENCE)
        assert one.threads.is_ending(thread)
        assert one.threads.unfinished == []


async def test_a_thread_that_is_chosen_as_it_gives_up_waiting_takes_the_item(monkeypatch):
    wait, late = sender_threads._Thread.wait, set()

    def give_up_too_late(thread: sender_threads._Thread) -> bool:
        is_woken = wait(thread)
        if not is_woken or thread in late:
            return is_woken
        late.add(thread)
        thread.wake()  # as if this came only now
        return False

    monkeypatch.setattr(sender_threads, "LONGEST_IDLE", FOREVER)
    monkeypatch.setattr(sender_threads._Thread, "wait", give_up_too_late)
    async with handling() as work:
        work.threads.start()
        work.threads.start()
        await eventually_async(lambda: len(work.threads._idle) == 2)
        for _ in range(3):
            item = Item()
            work.put(item)
            await work.wait_for(item)
