"""Threads for what blocks."""

from __future__ import annotations

import concurrent.futures
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class Workers(ThreadPoolExecutor):
    """Threads of our own; what comes when executors have ended already is done in place.

    That is so at the end of the interpreter, where no thread can be started any more.
    """

    def submit(
        self, work: Callable[..., T], /, *arguments: Any, **keywords: Any
    ) -> concurrent.futures.Future[T]:
        """Do work on a thread, or at once."""
        try:
            return super().submit(work, *arguments, **keywords)
        except RuntimeError:
            done: concurrent.futures.Future[T] = concurrent.futures.Future()
        try:
            done.set_result(work(*arguments, **keywords))
        except Exception as error:  # noqa: BLE001 - it is the caller's
            done.set_exception(error)
        return done
