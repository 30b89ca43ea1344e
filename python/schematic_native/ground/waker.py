"""Wakes the event loop when the core has work for it.

Nothing here does that work.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping


class Waker:
    """Passes the core's wake-ups to the event loop, from any thread.

    It is between the core and the runtime so that neither keeps the other alive, and so that a core can
    be made before there is a loop. A wake-up before the loop is connected loses no work: the runtime
    looks for all kinds of work when it starts.
    """

    def __init__(self) -> None:
        self._connected: (
            tuple[asyncio.AbstractEventLoop, Mapping[str, Callable[[], None]]] | None
        ) = None

    def connect(
        self, loop: asyncio.AbstractEventLoop, handlers: Mapping[str, Callable[[], None]]
    ) -> None:
        """Call `handlers[topic]` on `loop` from now on."""
        self._connected = (loop, handlers)

    def disconnect(self) -> None:
        """Ignore wake-ups from now on."""
        self._connected = None

    def __call__(self, topic: str) -> None:
        """Call the handler of a topic on the loop."""
        connected = self._connected
        if connected is None:
            return
        loop, handlers = connected
        handler = handlers.get(topic)
        if handler is None:
            return
        try:
            loop.call_soon_threadsafe(handler)
        except RuntimeError:
            # The loop was closed in the meantime; whoever closed it takes care of the rest.
            self._connected = None
