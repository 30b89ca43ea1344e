"""Sends so many batches of events, for whoever counts: `python benches/batches.py deliver:small=1000`.

A program of its own beside loop.py: what it loads changes where memory lies, and so what the calls there take.
"""

import asyncio
import gc
import logging
import sys

from schematic_native._native import read_answer
from schematic_native.config.settings import Settings
from schematic_native.ground.fault_log import FaultLog
from schematic_native.service.events import EventSender, Rhythm
from schematic_native.service.rest import Api
from schematic_native.tools.bench import sink
from schematic_native.tools.bench.scenarios import hot, stocked
from schematic_native.tools.bench.worlds import API_KEY, COMPANY, FLAG

# What every loop does before it is counted.
WARM_UP = 100
# Batches that are made, as many whatever is delivered, and events in one.
BATCHES, EVENTS = 1200, 100


class Queue:
    """The first batches of a core's queue, and no more."""

    def __init__(self, core, count):
        self.core, self.left = core, count

    def __getattr__(self, name):
        return getattr(self.core, name)

    def counts(self):
        return {"dropped_billing": 0, "queued_billing": 0, "queued_flag_checks": 0}

    def take_batch(self, *, full=False):
        if self.left == 0:
            return None
        self.left -= 1
        return self.core.take_batch(full=full)


def queued(size):
    core = stocked(size, seed=7, max_flag_check_events=BATCHES * EVENTS)
    client = hot(core)
    for _ in range(BATCHES * EVENTS // 2):
        client.track_with_reservation(client.check(FLAG, COMPANY, usage=10).reservation, 7)
    return core


def write(size, count):
    """What is native of the way of a batch: it is written, and its answer is read."""
    core = queued(size)
    for _ in range(count):
        core.take_batch().request(b"POST /batch HTTP/1.1\r\n")
        read_answer(sink.ANSWER, False, False)


def deliver(size, count):
    """The whole way of a batch: queue, sender, thread, socket."""

    async def work(url):
        api = Api(Settings(api_key=API_KEY, event_capture_url=url))
        faults = FaultLog(logging.getLogger("bench"), "")
        sender = EventSender(Queue(core, count), api.post_events, faults, Rhythm(3600, 1))
        sending = asyncio.create_task(sender.run())
        # A flush would be counted too.
        while sender.sent < count * EVENTS and not sending.done():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        if sending.done():
            sending.result()
        sending.cancel()
        await api.close()

    core = queued(size)
    with sink.running() as service:
        asyncio.run(work(service.url))


CALLS = {"write": write, "deliver": deliver}


def main():
    gc.disable()
    for argument in sys.argv[1:]:
        name, _, count = argument.partition("=")
        call, _, size = name.partition(":")
        CALLS[call](size, WARM_UP + int(count))


if __name__ == "__main__":
    main()
