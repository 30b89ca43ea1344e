"""The log: each fault is reported once when it begins and once when it has passed."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import logging

# So that faults of many different leases cannot fill the memory.
MAX_OPEN_FAULTS = 1000
# So many different messages of one open fault are logged: an outage shows itself in several ways by
# turns, and each is told once.
MAX_MESSAGES = 4


class Faults:
    """What is wrong right now, by topic; safe to use from any thread."""

    def __init__(self, logger: logging.Logger, api_key: str) -> None:
        self._logger = logger
        self._api_key = api_key
        # The messages of each open fault, the last one last.
        self._open: dict[str, list[str]] = {}
        self._noted: dict[str, None] = {}
        self._lock = threading.Lock()

    @property
    def last_error(self) -> str | None:
        """The fault that was reported last and has not passed."""
        with self._lock:
            messages = next(reversed(self._open.values()), None)
            return None if messages is None else messages[-1]

    def raised(self, topic: str, message: str) -> None:
        """Report a fault, unless it is open under its topic and has said this already."""
        message = self.redact(message)
        with self._lock:
            messages = self._open.pop(topic, [])
            self._open[topic] = messages
            is_new = message not in messages
            if not is_new:
                messages.remove(message)
            is_told = is_new and len(messages) < MAX_MESSAGES
            if is_new and not is_told:
                messages.pop()
            messages.append(message)
            if len(self._open) > MAX_OPEN_FAULTS:
                del self._open[next(iter(self._open))]
        if is_told:
            self._logger.error("%s: %s", topic, message)

    def cleared(self, topic: str) -> None:
        """Report that the fault under a topic has passed, if there was one."""
        with self._lock:
            if self._open.pop(topic, None) is None:
                return
        self._logger.info("%s: works again", topic)

    def noted(self, message: str) -> None:
        """Report something that is not a state, such as one unreadable message.

        The same words only once.
        """
        message = self.redact(message)
        with self._lock:
            if message in self._noted:
                return
            self._noted[message] = None
            if len(self._noted) > MAX_OPEN_FAULTS:
                del self._noted[next(iter(self._noted))]
        self._logger.warning("%s", message)

    def redact(self, message: str) -> str:
        """Take the API key out of a text that others wrote."""
        return message.replace(self._api_key, "***") if self._api_key else message
