"""Who is told what becomes of a client's stream of flags.

A client never holds who watches it: a listener that nobody else holds is told nothing any more.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Sequence

# "ready": flags are there and kept current; "lost": they are not kept current any more;
# "changed": flags with these keys are other ones than before.
StreamEvent: TypeAlias = Literal["ready", "lost", "changed"]
Listener: TypeAlias = "Callable[[StreamEvent, Sequence[str]], None]"


class Listeners:
    """The listeners of one client.

    Args:
        logger: told of a listener that raises.

    """

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        # A dict for the order, and because each change is one step: a fork may find any lock held.
        self._methods: dict[weakref.WeakMethod[Listener], None] = {}
        self._is_ready = False

    def add(self, method: Listener) -> None:
        """Tell a bound method from now on, on the thread that the event comes from; it must not wait."""
        self._methods[weakref.WeakMethod(method)] = None

    def remove(self, method: Listener) -> None:
        """Tell a method nothing any more."""
        self._methods.pop(weakref.WeakMethod(method), None)

    def set_ready(self, is_ready: bool) -> None:
        """Tell whether flags are kept current, if that has changed."""
        if is_ready is not self._is_ready:
            self._is_ready = is_ready
            self._tell("ready" if is_ready else "lost", ())

    def changed(self, flags: Sequence[str]) -> None:
        """Tell which flags have changed, if any have."""
        if flags:
            self._tell("changed", flags)

    def _tell(self, event: StreamEvent, flags: Sequence[str]) -> None:
        for each in tuple(self._methods):
            method = each()
            if method is None:
                self._methods.pop(each, None)
                continue
            try:
                method(event, flags)
            except Exception:
                self._logger.exception("a listener of the stream failed")
