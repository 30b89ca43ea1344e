"""What may go wrong on a connection, as the store tells it."""

from __future__ import annotations

import asyncio

from redis.exceptions import RedisClusterException, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from schematic_native.faults import StoreError

TIMEOUTS = (TimeoutError, asyncio.TimeoutError, RedisTimeoutError)
# A cluster's own failures are none of `RedisError`; bytes that are no text may be in any row.
FAULTS = (RedisError, RedisClusterException, UnicodeDecodeError, OSError, EOFError, *TIMEOUTS)


def unsent(error: BaseException) -> StoreError:
    """Return the failure of what never reached the server."""
    return StoreError(f"Redis cannot be reached: {_describe(error)}", lost=False)


def unheard(error: BaseException) -> StoreError:
    """Return the failure of what was sent and not answered."""
    return StoreError(f"Redis did not answer: {_describe(error)}", lost=True)


def _describe(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
