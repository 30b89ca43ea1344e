"""How the core wakes the I/O loop."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping


class Waker:
    """Carries the core's wake-ups to the loop, whichever thread they come from.

    It stands between the core and the runtime so that neither keeps the other alive, and so that a
    core can be made before any loop runs. A ring that nobody hears is not lost work: the runtime
    looks at everything when it starts.
    """

    def __init__(self) -> None:
        self._listener: (
            tuple[asyncio.AbstractEventLoop, Mapping[str, Callable[[], None]]] | None
        ) = None

    def connect(
        self, loop: asyncio.AbstractEventLoop, handlers: Mapping[str, Callable[[], None]]
    ) -> None:
        """Call `handlers[topic]` on `loop` from now on."""
        self._listener = (loop, handlers)

    def disconnect(self) -> None:
        """Hear no more rings."""
        self._listener = None

    def __call__(self, topic: str) -> None:
        """Ring: have the topic's handler called on the loop."""
        listener = self._listener
        if listener is None:
            return
        loop, handlers = listener
        handler = handlers.get(topic)
        if handler is None:
            return
        try:
            loop.call_soon_threadsafe(handler)
        except RuntimeError:
            # The loop was closed between the two lines; whoever closed it has dealt with the rest.
            self._listener = None
