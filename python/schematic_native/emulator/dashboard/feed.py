"""The feed of an open page: its content again, whenever something has changed.

One stream of server-sent events for each page. It looks a few times a second whether anything is
different, and renders only then, so that a page that nobody touches costs next to nothing.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from schematic_native.emulator.dashboard.page import main_content
from schematic_native.ground import json_text

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from schematic_native.emulator.components import Components

_INTERVAL = 0.2  # seconds between two looks
_SHARE = 10  # rendering may take one part in so many of the server's time
_IDLE_LOOKS = 50  # looks without news after which a line is sent, to find out who has left


async def feed(components: Components) -> AsyncIterator[bytes]:
    """Yield server-sent events, each the content of the page as HTML in JSON."""
    shown, idle = None, 0
    while True:
        now = version(components)
        pause = _INTERVAL
        if now != shown:
            shown, idle = now, 0
            start = time.perf_counter()
            content = main_content(components)
            pause = max(pause, _SHARE * (time.perf_counter() - start))
            yield b"data: %b\n\n" % json_text.write(content)
        else:
            idle = (idle + 1) % _IDLE_LOOKS
            if not idle:
                yield b": still here\n\n"
        await asyncio.sleep(pause)


def version(components: Components) -> tuple[object, ...]:
    """Return something that differs whenever the page would."""
    service, stream = components.service, components.stream
    state, clock = service.state, service.clock
    return (
        id(state),
        service.obeyed,
        service.changes.count,
        state.log.count,
        len(state.ledger.book.entries),
        clock.offset,
        clock.frozen_at,
        [(fault.id, fault.fired) for fault in components.injector.faults.in_force.values()],
        {id(c): (c.flags, len(c.followed)) for c in stream.connections},
        {name: sum(counts.values()) for name, counts in components.traffic.answers.items()},
        components.traffic.unknown.total(),
    )
