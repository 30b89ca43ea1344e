"""Random blocks with every kind of exit: usage is billed exactly once, and no hold stays open."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import warnings

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schematic_native import AsyncSchematic, AsyncSchematicConfig, Schematic, SchematicConfig
from schematic_native.emulator import Emulator
from tests.client.hold_worlds import billed
from tests.conftest import ACME, API_KEY, PATIENCE, eventually, streaming
from tests.limits import give_shutdowns

INFERENCE = "inference"
ERRORS = (ValueError, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError, SystemExit)

steps = st.one_of(
    st.tuples(st.just("use"), st.integers(0, 60)),
    st.tuples(st.just("reserve"), st.integers(0, 200)),
    st.tuples(st.just("stream"), st.lists(st.integers(0, 9), max_size=4)),
    st.tuples(st.just("pass"), st.none()),
)
endings = st.sampled_from(["return", "drop", "cancel", "units", *ERRORS])
blocks = st.lists(
    st.tuples(st.integers(1, 50), st.lists(steps, max_size=5), endings), min_size=1, max_size=60
)
# The least number of random blocks of each kind.
BLOCKS = int(os.environ.get("SCHEMATIC_BLOCKS", "1000"))
examples = settings(
    max_examples=100, deadline=None, suppress_health_check=list(HealthCheck), database=None
)


class Ledger:
    """What the blocks themselves recorded as used."""

    def __init__(self):
        self._lock = threading.Lock()
        self.used = 0
        self.blocks = 0

    def add(self, units):
        with self._lock:
            self.used += units
            self.blocks += 1


def broken(_item):
    raise ZeroDivisionError


def leave(hold, ending):
    if ending == "units":
        list(hold.stream([1], broken))
    elif ending in ERRORS:
        raise ending


def run_sync(client, ledger, block):
    usage, actions, ending = block
    hold = client.hold(INFERENCE, ACME, usage=usage)
    if ending == "drop":
        hold.__enter__()
        for name, amount in actions:
            if name == "use":
                hold.use(amount)
        ledger.add(hold.used)
        return
    try:
        with hold:
            for name, amount in actions:
                if name == "use":
                    hold.use(amount)
                elif name == "reserve":
                    assert hold.reserve(amount)
                elif name == "stream":
                    assert list(hold.stream(amount, lambda units: units)) == amount
                    break  # the stream has ended the hold
            else:
                leave(hold, ending)
    except (ZeroDivisionError, *ERRORS):
        pass
    finally:
        ledger.add(hold.used)


async def run_async(client, ledger, block):
    usage, actions, ending = block
    hold = client.hold(INFERENCE, ACME, usage=usage)
    try:
        async with hold:
            for name, amount in actions:
                await asyncio.sleep(0)
                if name == "use":
                    hold.use(amount)
                elif name == "reserve":
                    assert await hold.reserve(amount)
                elif name == "stream":
                    assert list(hold.stream(amount, lambda units: units)) == amount
                    break
            else:
                if ending == "cancel":
                    asyncio.current_task().cancel()
                    await asyncio.sleep(1)
                leave(hold, ending if ending not in {KeyboardInterrupt, SystemExit} else "return")
    except (ZeroDivisionError, ValueError, GeneratorExit, asyncio.CancelledError):
        pass
    finally:
        ledger.add(hold.used)


def test_threads_bill_what_was_used_however_their_blocks_end(monkeypatch):
    give_shutdowns(monkeypatch, PATIENCE)
    ledger = Ledger()
    with Emulator(process=False) as emulator:
        client = Schematic(API_KEY, SchematicConfig(**streaming(emulator)))

        @examples
        @given(blocks)
        def run(given_blocks):
            def work(own):
                for block in own:
                    run_sync(client, ledger, block)

            parts = [given_blocks[number::3] for number in range(3)]
            threads = [threading.Thread(target=work, args=(part,)) for part in parts]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # of the holds that are dropped
            while ledger.blocks < BLOCKS:
                run()
            gc.collect()
        eventually(lambda: client.status().open_holds == 0)
        client.shutdown()
        assert billed(emulator) == ledger.used
        assert emulator.audit()["balanced"]


def test_tasks_bill_what_was_used_however_their_blocks_end(monkeypatch):
    give_shutdowns(monkeypatch, PATIENCE)
    ledger = Ledger()
    with Emulator(process=False) as emulator:
        loop = asyncio.new_event_loop()
        client = AsyncSchematic(API_KEY, AsyncSchematicConfig(**streaming(emulator)))

        @examples
        @given(blocks, st.integers(0, 30))
        def run(given_blocks, cancelled_after):
            async def work():
                tasks = [
                    asyncio.ensure_future(run_async(client, ledger, block))
                    for block in given_blocks
                ]
                for _ in range(cancelled_after):
                    await asyncio.sleep(0)
                for task in tasks[::4]:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

            loop.run_until_complete(work())

        while ledger.blocks < BLOCKS:
            run()
        eventually(lambda: _turn(loop) or client.status().open_holds == 0)
        loop.run_until_complete(client.shutdown())
        loop.close()
        assert billed(emulator) == ledger.used
        assert emulator.audit()["balanced"]


def _turn(loop):
    loop.run_until_complete(asyncio.sleep(0.001))
