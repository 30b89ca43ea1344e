"""What is left of a process or a loop that has ended: nothing of it may be taken apart before its schedule is over."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from schematic_native import AsyncSchematic
    from tests.simulation.world import Loop

# Places, one in the other, at which a coroutine that is closed may wait for something more.
MOST_CLOSES = 10


class Remains:
    """A client and the loop that it ran on."""

    def __init__(self, client: AsyncSchematic, loop: Loop) -> None:
        self.client = client
        self.loop = loop

    def dispose(self) -> None:
        """Leave nothing that the collector would have to take apart."""
        self.client._dropped.detach()
        self.client._session.forget()
        close(self.loop)


def close(loop: Loop) -> None:
    """Leave no coroutine that the collector would find under way, and that would complain of its end."""
    for task in loop.tasks:
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        coroutine: Any = task.get_coro()
        for _ in range(MOST_CLOSES):
            # It waits for something more, as if it were being cancelled.
            with contextlib.suppress(BaseException):
                coroutine.close()
            if coroutine.cr_frame is None:
                break
