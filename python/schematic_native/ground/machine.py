"""What the package gets from the machine that it runs on: time, randomness and connections.

All of it comes from the client's `Machine`, so that a simulation can run a whole client with its own clock, seed
and network. The threads of the synchronous client are not part of it.
"""

from __future__ import annotations

import os
import random
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping


def _unique_key() -> str:
    import uuid  # noqa: PLC0415 - takes long to load

    return str(uuid.uuid4())


@dataclass(frozen=True)
class Machine:
    """Clocks, randomness and connections.

    Attributes:
        clock: epoch seconds.
        monotonic: seconds that never go back.
        jitter: a number from 0 to 1, another each time.
        token: a unique text that is safe in the name of a key.
        unique_key: a unique idempotency key.
        connect: opens a WebSocket, with the arguments of `websockets.connect`; None for that.
        open_http: opens a client like httpx's, for what is no request to the API; None for one of httpx.
        core: further arguments of the native core: its clocks and its seed, where they are not its own.

    """

    clock: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    jitter: Callable[[], float] = random.random
    token: Callable[[], str] = lambda: os.urandom(8).hex()
    unique_key: Callable[[], str] = _unique_key
    connect: Callable[..., Awaitable[Any]] | None = None
    open_http: Callable[[], Any] | None = None
    core: Mapping[str, Any] = field(default_factory=dict)


THIS = Machine()
