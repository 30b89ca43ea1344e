"""The log: each fault is reported once when it begins and once when it has passed."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import logging

    from schematic_native.api import ApiError

# So that faults of many different leases cannot fill the memory.
MAX_OPEN_FAULTS = 1000
# A shorter key is made up for a test, and may be part of any word.
SHORTEST_SECRET = 8
# So many different states of one open fault are logged: an outage shows itself in several ways by
# turns, and each is told once.
MAX_STATES = 4


# The topic of faults of a shared store.
STORE_TOPIC = "the store of leases"


class StoreError(Exception):
    """A shared store did not do what was asked of it.

    Attributes:
        lost: nobody knows whether it did, or yet will; otherwise it surely did not.

    """

    def __init__(self, message: str, *, lost: bool) -> None:
        super().__init__(message)
        self.lost = lost

    @property
    def state(self) -> object:
        """What is the same in all failures that are logged once."""
        return StoreError


class CacheError(Exception):
    """A cache that processes share could not be read."""


class _Fault:
    """What is wrong under one topic: the last message, and the states that were told of."""

    def __init__(self) -> None:
        self.message = ""
        self.states: list[object] = []


class Faults:
    """What is wrong right now, by topic; safe to use from any thread."""

    def __init__(self, logger: logging.Logger, api_key: str) -> None:
        self._logger = logger
        self._api_key = api_key
        self._open: dict[str, _Fault] = {}
        self._noted: dict[str, None] = {}
        # A signal handler may report in the midst of a report.
        self._lock = threading.RLock()

    @property
    def last_error(self) -> str | None:
        """The fault that was reported last and has not passed."""
        with self._lock:
            fault = next(reversed(self._open.values()), None)
            return None if fault is None else fault.message

    def raised(self, topic: str, fault: str | ApiError | StoreError) -> None:
        """Report a fault, unless it is open under its topic and was told already.

        What the API says may hold a balance or an id that is another each time: its failures are
        the same while their kind and status are.
        """
        message = self.redact(str(fault))
        state = message if isinstance(fault, str) else fault.state
        with self._lock:
            current = self._open.pop(topic, None) or _Fault()
            self._open[topic] = current
            current.message = message
            is_told = state not in current.states and len(current.states) < MAX_STATES
            if is_told:
                current.states.append(state)
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
        if len(self._api_key) < SHORTEST_SECRET:
            return message
        return message.replace(self._api_key, "***")
