"""When a failed REST call is tried again, and after which delay.

Events are retried by other rules (`event_retries.py`), and the DataStream reconnects by its own
(`reconnects.py`). To change a delay, change it here, in tests/service/test_rest.py and in
docs/configuration.md, which says how often a call is retried.
"""

from __future__ import annotations

import email.utils
from typing import TYPE_CHECKING

import httpx

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_RETRIES = 2
# Seconds.
FIRST_RETRY_DELAY = 1.0
LONGEST_RETRY_DELAY = 60.0


def is_temporary(status: int) -> bool:
    """Tell whether another attempt may succeed after a response of this status."""
    return status in {408, 429} or status >= httpx.codes.INTERNAL_SERVER_ERROR


def delay_before(retry: int, asked: float | None, jitter: float) -> float:
    """Return how many seconds to wait before a retry.

    Args:
        retry: its number, from 0.
        asked: the seconds that the server asks for, if it does.
        jitter: a random number from 0 to 1.

    """
    delay = FIRST_RETRY_DELAY * 2**retry * (0.5 + 0.5 * jitter) if asked is None else asked
    return min(delay, LONGEST_RETRY_DELAY)


def asked_delay(header: Callable[[str], str | None], now: float) -> float | None:
    """Return the seconds that a server asks us to wait, None if it does not.

    Args:
        header: returns the value of a response's header by its name.
        now: epoch seconds.

    """
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            delay = float(header(name) or "") * unit
        except ValueError:
            continue
        if delay >= 0:
            return delay
    try:
        instant = email.utils.parsedate_to_datetime(header("retry-after") or "").timestamp()
    except (TypeError, ValueError, OverflowError):
        try:
            instant = float(header("x-ratelimit-reset") or "")
        except ValueError:
            return None
    delay = instant - now
    return delay if delay >= 0 else None
