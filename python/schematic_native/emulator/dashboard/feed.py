"""The feed of an open page: its content again, whenever something has changed.

One stream of server-sent events for each page. It looks a few times a second whether anything is
different, and renders only then, so that a page that nobody touches costs next to nothing.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from schematic_native.emulator.dashboard.page import main_content
from schematic_native.ground import json_text

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, MutableMapping

    from schematic_native.emulator.components import Components

    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]

_INTERVAL = 0.2  # seconds between two looks
_SHARE = 10  # rendering may take one part in so many of the server's time


class Feed:
    """The response to one page, as an ASGI application: it ends when the page or the server does."""

    def __init__(self, components: Components, headers: Mapping[str, str]) -> None:
        self._components = components
        self._headers = {**headers, "content-type": "text/event-stream"}

    async def __call__(self, _scope: object, receive: Receive, send: Send) -> None:
        """Send the content until nobody is there."""
        headers = [(name.encode(), value.encode()) for name, value in self._headers.items()]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        gone = asyncio.ensure_future(_wait_for_end(receive))
        try:
            await self._send_changes(gone, send)
        except asyncio.CancelledError:
            # The server stops, and would report as a fault what lets that through.
            return
        finally:
            gone.cancel()

    async def _send_changes(self, gone: asyncio.Future[None], send: Send) -> None:
        shown = None
        while not gone.done():
            pause, now = _INTERVAL, version(self._components)
            if now != shown:
                start = time.perf_counter()
                content = json_text.write(main_content(self._components))
                pause = max(pause, _SHARE * (time.perf_counter() - start))
                shown = version(self._components)  # rendering sweeps
                body = b"data: %b\n\n" % content
                await send({"type": "http.response.body", "body": body, "more_body": True})
            await asyncio.wait({gone}, timeout=pause)


async def _wait_for_end(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


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
