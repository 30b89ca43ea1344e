"""The failures of connections, turned into `StoreError`.

An exception that a signal handler raised is passed on as it is: it says nothing about the server.
"""

from __future__ import annotations

import asyncio
import functools
import signal
import threading
import traceback

from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from schematic_native.ground.store_errors import StoreError

TIMEOUTS = (TimeoutError, asyncio.TimeoutError, RedisTimeoutError)
FAULTS = (RedisError, OSError, EOFError, *TIMEOUTS)


def raise_interruption(error: BaseException) -> None:
    """Raise the exception of a signal handler, if an error is one or was caused by one.

    A handler may raise what a connection raises, such as a TimeoutError, and a library may wrap it in
    another error.
    """
    if threading.current_thread() is not threading.main_thread():
        return  # handlers run on the main thread alone
    handlers = {id(_code(signal.getsignal(number))) for number in signal.valid_signals()}
    seen: list[BaseException] = []
    found: BaseException | None = error
    while found is not None and found not in seen:
        seen.append(found)
        for frame, _ in traceback.walk_tb(found.__traceback__):
            if id(frame.f_code) in handlers:
                raise found
        found = found.__cause__ or found.__context__


def _code(handler: object) -> object:
    """Return the code that Python runs for a handler, be it a function, a method or another callable."""
    while isinstance(handler, functools.partial):
        handler = handler.func
    handler = getattr(handler, "__func__", handler)
    code = getattr(handler, "__code__", None)
    if code is None:
        code = getattr(vars(type(handler)).get("__call__"), "__code__", None)
    return handler if code is None else code


def unsent(error: BaseException) -> StoreError:
    """Return the failure of what never reached the server."""
    return StoreError(f"Redis cannot be reached: {_describe(error)}", lost=False)


def unheard(error: BaseException) -> StoreError:
    """Return the failure of what was sent, but not answered."""
    return StoreError(f"Redis did not answer: {_describe(error)}", lost=True)


def _describe(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
