"""Who is told what becomes of a client's stream of flags.

A client never holds who watches it: a watcher that nobody else holds is told nothing any more.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Sequence

# "ready": flags are there and kept current; "lost": they are not kept current any more;
# "changed": flags with these keys are other ones than before.
News: TypeAlias = Literal["ready", "lost", "changed"]
Watcher: TypeAlias = "Callable[[News, Sequence[str]], None]"


class Watchers:
    """The watchers of one client.

    Args:
        logger: told of a watcher that raises.

    """

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        # A dict for the order, and because each change is one step: a fork may find any lock held.
        self._methods: dict[weakref.WeakMethod[Watcher], None] = {}
        self._is_ready = False

    def add(self, method: Watcher) -> None:
        """Tell a bound method from now on, on the thread that has the news; it must not wait."""
        self._methods[weakref.WeakMethod(method)] = None

    def remove(self, method: Watcher) -> None:
        """Tell a method nothing any more."""
        self._methods.pop(weakref.WeakMethod(method), None)

    def stream(self, is_ready: bool) -> None:
        """Tell whether flags are kept current, if that is news."""
        if is_ready is not self._is_ready:
            self._is_ready = is_ready
            self._tell("ready" if is_ready else "lost", ())

    def changed(self, flags: Sequence[str]) -> None:
        """Tell which flags have changed, if any have."""
        if flags:
            self._tell("changed", flags)

    def _tell(self, news: News, flags: Sequence[str]) -> None:
        for each in tuple(self._methods):
            method = each()
            if method is None:
                self._methods.pop(each, None)
                continue
            try:
                method(news, flags)
            except Exception:
                self._logger.exception("a watcher of the stream failed")
