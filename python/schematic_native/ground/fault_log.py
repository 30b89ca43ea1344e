"""The fault log: each fault is logged once when it begins, and once when it is over.

No message ever contains the API key. Nothing here decides what follows from a fault.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import logging

    from schematic_native.ground.store_errors import StoreError

# Bounds the memory that the faults of many different leases take.
MAX_OPEN_FAULTS = 1000
# A shorter API key is one of a test, and could be part of any word.
SHORTEST_SECRET = 8
# The most states of one fault that are logged: an outage may alternate between several, each of which is logged
# once.
MAX_STATES = 4


# The topic of all faults of a shared store.
STORE_TOPIC = "the store of leases"


class Failure(Protocol):
    """An error whose message may differ each time, and whose `state` does not."""

    @property
    def state(self) -> object:
        """What distinguishes this kind of failure from others."""


class _Fault:
    """What is wrong under one topic: number and text of the latest report, and the states logged."""

    def __init__(self, report: tuple[int, str]) -> None:
        self.report = report
        self.states: dict[object, object] = {}


class FaultLog:
    """The faults of one client at the moment, by topic.

    Safe to use from any thread, and from a signal handler that interrupts a report: it takes no lock.
    Each step is one operation on a dict, which is atomic; whoever adds a state to the dict logs it.
    """

    def __init__(self, logger: logging.Logger, api_key: str) -> None:
        self._logger = logger
        self._api_key = api_key
        self._open: dict[str, _Fault] = {}
        self._noted: dict[str, object] = {}
        self._reports = itertools.count()

    @property
    def last_error(self) -> str | None:
        """The latest fault that is not over; None if there is none."""
        reports = [fault.report for fault in self._open.copy().values()]
        return max(reports)[1] if reports else None

    def raised(self, topic: str, fault: str | Failure) -> None:
        """Log a fault, unless it was logged under its topic before and is not over.

        A message of the API may contain a balance or an id that changes: its failures count as the
        same if their class and status are.
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
        """Log that the fault under a topic is over, if there was one."""
        if self._open and self._open.pop(topic, None) is not None:
            self._logger.info("%s: works again", topic)

    def store_failed(self, step: str, error: StoreError) -> None:
        """Log that an operation on a shared store has failed.

        If the store cannot be reached, all operations fail. If it refuses a command, say for lack of
        a permission, this one operation fails until it succeeds, whatever happens to the others.
        """
        if error.is_refusal:
            self.cleared(STORE_TOPIC)
            self.raised(f"{STORE_TOPIC}, {step}", error)
        else:
            self.raised(STORE_TOPIC, error)

    def store_answered(self, **succeeded: bool) -> None:
        """Log that a shared store answers again, and that each operation succeeds again that has now succeeded.

        An operation that found nothing to do has not succeeded: it may have needed less than the one refused.
        """
        if self._open:
            self.cleared(STORE_TOPIC)
            for step, has_succeeded in succeeded.items():
                if has_succeeded:
                    self.cleared(f"{STORE_TOPIC}, {step}")

    def noted(self, message: str) -> None:
        """Log something that does not last, such as one unreadable message; the same text only once."""
        message = self.redact(message)
        mine = object()
        if self._noted.setdefault(message, mine) is not mine:
            return
        if len(self._noted) > MAX_OPEN_FAULTS:
            self._noted.pop(next(iter(self._noted.copy())), None)
        self._logger.warning("%s", message)

    def redact(self, message: str) -> str:
        """Remove the API key from a text."""
        if len(self._api_key) < SHORTEST_SECRET:
            return message
        return message.replace(self._api_key, "***")
