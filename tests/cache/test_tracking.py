"""How soon a tracker notices a connection that has gone silent, in virtual time."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

import pytest

from schematic_native.redis.tracking import _Pair
from tests.simulation.world import Loop, World

# Seconds that an answer may be behind the cache.
BEHIND = 1.0


class Line:
    """A connection that answers pings at once, until nothing more comes over it."""

    def __init__(self) -> None:
        self.is_silent = False
        self._replies: deque[bytes] = deque()
        self._waiting: asyncio.Future[None] | None = None

    async def send_command(self, *_words: object) -> None:
        if self.is_silent:
            return
        self._replies.append(b"PONG")
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    async def read_response(self) -> bytes:
        while not self._replies:
            self._waiting = asyncio.get_running_loop().create_future()
            await self._waiting
        return self._replies.popleft()


@pytest.mark.parametrize("part", ["listener", "keeper"])
@pytest.mark.parametrize("moment", range(10))
def test_a_connection_that_goes_silent_is_noticed_before_an_answer_is_too_old(
    part: str, moment: int
) -> None:
    world = World(moment)
    loop = Loop(world, "pod")
    lines: list[Any] = [Line(), Line()]
    pair = _Pair(iter(lines).__next__)
    silent_at = 5.0 + moment * 0.1
    world.at(silent_at, setattr, lines[0 if part == "listener" else 1], "is_silent", True)
    listening = loop.create_task(pair.listen(lambda _: None))
    watching = loop.create_task(pair.watch())
    world.run_until(silent_at)
    was_given_up = watching.done()
    world.run_until(silent_at + BEHIND)
    is_noticed = watching.done()
    for task in (watching, listening):
        task.cancel()
    world.run(BEHIND)
    assert (was_given_up, is_noticed) == (False, True)
    assert isinstance(watching.exception(), ConnectionError)
