"""What connections to Redis must do for the stores, whatever kind of client they belong to.

They are made as the user's client makes its own (address, credentials, TLS, protocol, Sentinel), but
never send anything twice, and end when the caller's time does. Undocumented parts of redis-py are used
by the modules that implement this and by `tracking`, and nowhere else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable

    from schematic_native.ground.store_errors import StoreError
    from schematic_native.redis.commands import Batch, Replies

    # Called with the server's replies, or with why there are none.
    Answered: TypeAlias = Callable[[Replies | StoreError], None]

# Seconds that connecting, and waiting for a reply, take at most if the caller sets no limit.
CONNECT_TIMEOUT = 1.0
# Replies are read as bytes, whatever the user's own encoding is: other SDKs write the same rows.
OWN_ENCODING = {"decode_responses": False, "encoding": "utf-8"}


class SyncConnections(Protocol):
    """Exchanges batches on the calling thread."""

    def exchange(self, batch: Batch, deadline: float | None, *, in_full: bool) -> Replies:
        """Send a batch, read its replies; the deadline is one of `time.monotonic`."""

    def close(self) -> None:
        """Close the connections."""


class AsyncConnections(Protocol):
    """Exchanges batches on the event loop."""

    def ask(
        self, batch: Batch, deadline: float | None, answered: Answered, *, in_full: bool
    ) -> None:
        """Send a batch; `answered` is called with its replies, or with what went wrong.

        The deadline is one of the loop's clock.
        """

    async def close(self) -> None:
        """Close the connections."""
