"""The event loop of a synchronous client ends in order, whatever reaches it meanwhile."""

from __future__ import annotations

import gc
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from schematic_native.client.loop_thread import LoopEndedError, LoopThread

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def ending() -> Iterator[LoopThread]:
    """Give a loop thread that is ending, and goes on with that at the end of the block."""
    thread = LoopThread()
    is_begun, is_cancelled, may_end = threading.Event(), threading.Event(), threading.Event()

    async def hold() -> None:
        is_begun.set()
        try:
            await thread._loop.create_future()
        finally:
            is_cancelled.set()
            may_end.wait()

    held = thread.begin(hold)
    is_begun.wait()
    thread._loop.call_soon_threadsafe(thread._loop.stop)
    is_cancelled.wait()
    try:
        yield thread
    finally:
        may_end.set()
    thread.stop(10.0)
    with pytest.raises(LoopEndedError):
        held.result()
    assert thread._loop.is_closed()
    gc.collect()  # a task that was destroyed unfinished would fail the test


def test_work_that_reaches_a_loop_while_it_ends_is_refused_and_never_begun():
    async def work() -> None:
        raise AssertionError("begun on a loop that ends")

    with ending() as thread:
        late = thread.begin(work)
    with pytest.raises(LoopEndedError):
        late.result()


def test_a_loop_that_is_stopped_again_while_it_ends_ends_all_the_same():
    with ending() as thread:
        thread.stop(0.01)
