"""Keeps this package's own HTTP requests out of the program's log.

Requests of the program itself are logged as before.
"""

from __future__ import annotations

import contextlib
import logging
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# True while a request of this package is under way.
_is_ours: ContextVar[bool] = ContextVar("schematic_native_request", default=False)


def _quiet_ours(record: logging.LogRecord) -> bool:
    """Lower what httpx logs about this package's requests to DEBUG.

    A busy program sends a request for every 100 events, and httpx logs an INFO line for each.
    """
    if not _is_ours.get() or record.levelno > logging.INFO:
        return True
    record.levelno, record.levelname = logging.DEBUG, logging.getLevelName(logging.DEBUG)
    return logging.getLogger(record.name).isEnabledFor(logging.DEBUG)


for _name in ("httpx", "httpx2"):
    logging.getLogger(_name).addFilter(_quiet_ours)


@contextlib.contextmanager
def own_request() -> Iterator[None]:
    """Mark the requests within as this package's own, for which httpx logs no INFO line."""
    token = _is_ours.set(True)
    try:
        yield
    finally:
        _is_ours.reset(token)
