"""The log: each fault is reported once when it begins and once when it has passed."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import logging

    from schematic_native.ground.store_errors import StoreError

# So that faults of many different leases cannot fill the memory.
MAX_OPEN_FAULTS = 1000
# A shorter key is made up for a test, and may be part of any word.
SHORTEST_SECRET = 8
# So many different states of one open fault are logged: an outage shows itself in several ways by
# turns, and each is told once.
MAX_STATES = 4


# The topic of faults of a shared store.
STORE_TOPIC = "the store of leases"


class Failure(Protocol):
    """An error that may have other words each time it happens.

    Its `state` is the same in all failures that are logged once.
    """

    @property
    def state(self) -> object:
        """What tells this failure from another kind of failure."""


class _Fault:
    """What is wrong under one topic: the number and the words of the last report, states told of."""

    def __init__(self, report: tuple[int, str]) -> None:
        self.report = report
        self.states: dict[object, object] = {}


class FaultLog:
    """What is wrong right now, by topic.

    Safe to use from any thread, and from a signal handler at any point of a report: it takes no
    lock. Each step is one operation on a dict, of which the interpreter lets one thread at a time do
    one; whoever puts a state into the dict is the one to log it.
    """

    def __init__(self, logger: logging.Logger, api_key: str) -> None:
        self._logger = logger
        self._api_key = api_key
        self._open: dict[str, _Fault] = {}
        self._noted: dict[str, object] = {}
        self._reports = itertools.count()

    @property
    def last_error(self) -> str | None:
        """The fault that was reported last and has not passed."""
        reports = [fault.report for fault in self._open.copy().values()]
        return max(reports)[1] if reports else None

    def raised(self, topic: str, fault: str | Failure) -> None:
        """Report a fault, unless it is open under its topic and was told already.

        What the API says may hold a balance or an id that is another each time: its failures are
        the same while their kind and status are.
        """
        message = self.redact(str(fault))
        state = message if isinstance(fault, str) else fault.state
        report = (next(self._reports), message)
        current = self._open.setdefault(topic, _Fault(report))
        current.report = report
        if len(self._open) > MAX_OPEN_FAULTS:
            known = self._open.copy()
            self._open.pop(min(known, key=lambda topic: known[topic].report), None)
        mine = object()
        if len(current.states) < MAX_STATES and current.states.setdefault(state, mine) is mine:
            self._logger.error("%s: %s", topic, message)

    def cleared(self, topic: str) -> None:
        """Report that the fault under a topic has passed, if there was one."""
        if self._open and self._open.pop(topic, None) is not None:
            self._logger.info("%s: works again", topic)

    def store_failed(self, step: str, error: StoreError) -> None:
        """Report that a step of the work with a shared store has failed.

        A store that cannot be reached fails in all steps at once. One that refuses a command, say
        for want of a right, fails in that step until that step succeeds, whatever else it does.
        """
        if error.is_refusal:
            self.cleared(STORE_TOPIC)
            self.raised(f"{STORE_TOPIC}, {step}", error)
        else:
            self.raised(STORE_TOPIC, error)

    def store_answered(self, step: str) -> None:
        """Report that a step of the work with a shared store has succeeded."""
        if self._open:
            self.cleared(STORE_TOPIC)
            self.cleared(f"{STORE_TOPIC}, {step}")

    def noted(self, message: str) -> None:
        """Report something that is not a state, such as one unreadable message.

        The same words only once.
        """
        message = self.redact(message)
        mine = object()
        if self._noted.setdefault(message, mine) is not mine:
            return
        if len(self._noted) > MAX_OPEN_FAULTS:
            self._noted.pop(next(iter(self._noted.copy())), None)
        self._logger.warning("%s", message)

    def redact(self, message: str) -> str:
        """Take the API key out of a text that others wrote."""
        if len(self._api_key) < SHORTEST_SECRET:
            return message
        return message.replace(self._api_key, "***")
