"""Notifies listeners of what happens to a client's stream of flags.

Listeners are held weakly: a client never keeps one alive.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Sequence

# "ready": there are flags, and they are kept current; "lost": they are no longer kept current; "changed": the
# flags with these keys have changed.
StreamEvent: TypeAlias = Literal["ready", "lost", "changed"]
Listener: TypeAlias = "Callable[[StreamEvent, Sequence[str]], None]"


class Listeners:
    """The listeners of one client.

    Args:
        logger: for listeners that raise.

    """

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        # A dict keeps the order, and each change of it is atomic: a lock could be held during a fork.
        self._methods: dict[weakref.WeakMethod[Listener], None] = {}
        self._is_ready = False

    def add(self, method: Listener) -> None:
        """Call a bound method with each event, on the thread that it comes from; it must not wait."""
        self._methods[weakref.WeakMethod(method)] = None

    def remove(self, method: Listener) -> None:
        """Stop calling a method."""
        self._methods.pop(weakref.WeakMethod(method), None)

    def set_ready(self, is_ready: bool) -> None:
        """Notify listeners that flags are kept current, or no longer, if that has changed."""
        if is_ready is not self._is_ready:
            self._is_ready = is_ready
            self._notify("ready" if is_ready else "lost", ())

    def changed(self, flags: Sequence[str]) -> None:
        """Notify listeners of flags that have changed, if there are any."""
        if flags:
            self._notify("changed", flags)

    def _notify(self, event: StreamEvent, flags: Sequence[str]) -> None:
        for each in tuple(self._methods):
            method = each()
            if method is None:
                self._methods.pop(each, None)
                continue
            try:
                method(event, flags)
            except Exception:
                self._logger.exception("a listener of the stream failed")
