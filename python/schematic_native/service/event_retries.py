"""When a batch of events is posted again, and after which delay.

Usage is never given up for a failure of the service: only a response about the events themselves drops one.
REST calls are retried by other rules (`rest_retries.py`). To change a delay, change it here, in
tests/service/test_events.py and in docs/operations.md, which names the longest ones.
"""

from __future__ import annotations

# Seconds.
FIRST_RETRY_DELAY = 1.0
LONGEST_RETRY_DELAY = 30.0
# The longest that a Retry-After of the service is obeyed.
LONGEST_ASKED_DELAY = 60.0
# Statuses about the content of a batch; all others are about the service, the way to it, or the key.
REFUSED = frozenset({400, 413, 422})
# Statuses that ask us to slow down.
OVERLOADED = frozenset({408, 429, 503, 504})
_MOST_DOUBLINGS = 16


def delay_before(retry: int, jitter: float, first: float = FIRST_RETRY_DELAY) -> float:
    """Return how many seconds to wait before a retry.

    Args:
        retry: its number, from 0.
        jitter: a random number from 0 to 1.
        first: the longest delay before the first retry.

    """
    ceiling = min(LONGEST_RETRY_DELAY, first * float(2 ** min(retry, _MOST_DOUBLINGS)))
    return ceiling * (0.5 + 0.5 * jitter)
