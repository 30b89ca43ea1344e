"""What the DataStream tells of leases that processes without a shared store have in common.

A push may come late, or not at all. So all that is read from it are hints that a request is worth its cost:
it must never decide by itself what may be spent, or what is released.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from schematic_native.ground import json_text
from schematic_native.service.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from schematic_native._native import Core, Ingested
    from schematic_native.ground.slots import Slot

# Credits that an own request has added are told by a push within so many seconds.
LONGEST_PUSH = 10.0
# Amounts that differ by no more, in credits, differ by their rounding.
DUST = 1e-6
# From here on, a status does not tell whether a request was carried out.
SERVER_ERRORS = 500
# So many slots are watched.
MOST_WATCHED = 100_000


class Watched:
    """What was told of one slot."""

    __slots__ = ("asked", "balance", "is_joined", "is_told", "reserved")

    def __init__(self, balance: float | None) -> None:
        # Credits in leases of the slot, and credits in none, by the latest push.
        self.reserved = 0.0
        self.balance = balance
        self.is_joined = False  # whether others may have added to the lease
        self.is_told = False  # whether any push has told of leases since this one was asked for
        # What own requests may have added that no push has told: credits, and the instant of the request.
        self.asked: deque[tuple[float, float]] = deque()

    def ask(self, credits_asked: float, now: float) -> None:
        """Note a request."""
        self._forget_until(now - LONGEST_PUSH)
        self.asked.append((credits_asked, now))

    def refused(self, credits_asked: float) -> None:
        """Note that a request has added nothing."""
        for request in self.asked:
            if request[0] == credits_asked:
                self.asked.remove(request)
                return
        self.is_joined = True  # it has explained a rise already, and was not its cause

    def hear(self, reserved: float | None, balance: float | None, now: float) -> None:
        """Take in a push."""
        if balance is not None:
            self.balance = balance
        if reserved is None:
            return
        self.is_told = True
        rise, self.reserved = reserved - self.reserved, reserved
        self._forget_until(now - LONGEST_PUSH)
        # One push may tell of several requests, and usage that came between makes a rise smaller.
        while self.asked and rise > DUST:
            rise -= self.asked.popleft()[0]
        self.is_joined |= rise > DUST

    def _forget_until(self, instant: float) -> None:
        while self.asked and self.asked[0][1] < instant:
            self.asked.popleft()


class Joins:
    """Watches the slots for which this process has asked for leases."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._slots: dict[Slot, Watched] = {}
        self._credits: dict[str, dict[str, None]] = {}  # watched credit types, by company
        self._is_blind = False  # whether no pushes arrive
        self._has_stopped = False

    def begin(self, slot: Slot) -> None:
        """Note that a lease is about to be acquired; what was known of the one before is over."""
        watched = self._watch(slot)
        watched.is_joined, watched.is_told = self._is_blind, False
        watched.reserved = 0.0

    @contextmanager
    def asking(self, slot: Slot, credits_asked: float) -> Iterator[None]:
        """Note the request in the body, which adds credits to the lease of a slot unless it is refused."""
        watched = self._watch(slot)
        watched.ask(credits_asked, self._core.now())
        try:
            yield
        except BaseException as error:
            if isinstance(error, ApiError) and (error.status or SERVER_ERRORS) < SERVER_ERRORS:
                watched.refused(credits_asked)
            else:
                watched.is_joined = True  # nobody knows whether it has added anything
            raise

    def _watch(self, slot: Slot) -> Watched:
        watched = self._slots.get(slot)
        if watched is None:
            watched = self._slots[slot] = Watched(self._core.company_balance(*slot))
            self._credits.setdefault(slot[0], {})[slot[1]] = None
            if len(self._slots) > MOST_WATCHED:
                self._forget(next(iter(self._slots)))
        return watched

    def is_joined(self, slot: Slot) -> bool:
        """Tell whether anything hints that others have added to the lease of a slot."""
        watched = self._slots.get(slot)
        return watched is not None and watched.is_joined

    def is_told(self, slot: Slot) -> bool:
        """Tell whether any push has told of leases of a slot since its lease was asked for."""
        watched = self._slots.get(slot)
        return watched is not None and watched.is_told

    def set_sight(self, *, is_clear: bool) -> None:
        """Note whether pushes arrive. While none do, anybody may join a lease unseen."""
        if self._has_stopped:
            return
        self._is_blind = not is_clear
        if not is_clear:
            self._mark_all()

    def stop(self) -> None:
        """Keep what is known: the client closes, and with it the DataStream."""
        self._has_stopped = True

    def inherit(self, other: Joins) -> None:
        """Take over what was heard on an event loop that has ended; nothing was heard since."""
        self._slots, self._credits = other._slots, other._credits
        self._mark_all()

    def hear(self, message: bytes, ingested: Ingested) -> list[Slot]:
        """Take in a message about a company; return its slots whose lease may have ended."""
        company_id = ingested.entity_id or ""
        watched = [(company_id, credit) for credit in self._credits.get(company_id, ())]
        if ingested.message_type != "partial":
            for slot in watched:
                self._slots[slot].balance = self._core.company_balance(*slot)
                # Nothing is pushed of a company that is gone, not even what happened just before.
                self._slots[slot].is_joined |= ingested.message_type == "delete"
            return watched  # something may have been missed before
        if not watched:
            return []
        data = _data(message)
        balances = _mapping(data.get("credit_balances"))
        leased = _mapping(data.get("credit_lease_balance"))
        ended = []
        for slot in watched:
            line = _mapping(leased.get(slot[1]))
            balance = _amount(line.get("remaining", balances.get(slot[1])))
            if self._hear(slot, _amount(line.get("reserved")), balance):
                ended.append(slot)
        return ended

    def _mark_all(self) -> None:
        for watched in self._slots.values():
            watched.is_joined = True

    def _hear(self, slot: Slot, reserved: float | None, balance: float | None) -> bool:
        watched = self._slots[slot]
        known = watched.balance
        rises = balance is not None and known is not None and balance > known + DUST
        watched.hear(reserved, balance, self._core.now())
        lease = self._core.lease(*slot)
        if lease is None:
            return False
        # What ends gives back what was left of it. While a lease lives, what this process has left is in it.
        return rises if reserved is None else reserved < lease.remaining - DUST

    def _forget(self, slot: Slot) -> None:
        del self._slots[slot]
        of_company = self._credits[slot[0]]
        of_company.pop(slot[1], None)
        if not of_company:
            del self._credits[slot[0]]


def _data(message: bytes) -> Mapping[str, object]:
    """Return the data of a message; nothing if it cannot be read."""
    try:
        return _mapping(_mapping(json_text.read(message)).get("data"))
    except json_text.NotJSONError:
        return {}


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}


def _amount(value: object) -> float | None:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if is_number and abs(value) <= sys.float_info.max else None  # type: ignore[arg-type]
