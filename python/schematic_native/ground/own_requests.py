"""Tells this package's own HTTP requests from the program's, so that they do not fill its log."""

from __future__ import annotations

import contextlib
import logging
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# Set while a request of this package is under way.
_is_ours: ContextVar[bool] = ContextVar("schematic_native_request", default=False)


def _quiet_ours(record: logging.LogRecord) -> bool:
    """Lower what httpx logs of this package's requests to DEBUG.

    A busy program makes a request for every 100 events, and httpx writes an INFO line for each.
    """
    if not _is_ours.get() or record.levelno > logging.INFO:
        return True
    record.levelno, record.levelname = logging.DEBUG, logging.getLevelName(logging.DEBUG)
    return logging.getLogger(record.name).isEnabledFor(logging.DEBUG)


for _name in ("httpx", "httpx2"):
    logging.getLogger(_name).addFilter(_quiet_ours)


@contextlib.contextmanager
def own_request() -> Iterator[None]:
    """Mark what is requested within as this package's own, of which httpx logs no INFO line."""
    token = _is_ours.set(True)
    try:
        yield
    finally:
        _is_ours.reset(token)
