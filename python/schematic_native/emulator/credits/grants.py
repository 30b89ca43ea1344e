"""Grants of credits: who was given what, and how much of each is left.

The ledger knows one balance for each company and credit type. What of it belongs to which grant
follows from the order in which grants are used: what expires first, then what is older. What a company
opened with, or was set to, is used before all of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from schematic_native.emulator.errors import InvalidRequestError, UnknownIdError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from schematic_native.emulator.credits.holds import Slot


@dataclass(slots=True)
class Grant:
    """Credits that were given once; amounts are units."""

    id: str
    company_id: str
    credit_type_id: str
    quantity: int
    reason: str
    created_at: float
    expires_at: float | None = None
    ended_at: float | None = None
    ended_reason: str | None = None

    @property
    def slot(self) -> Slot:
        """Whose it is, and of which credit type."""
        return (self.company_id, self.credit_type_id)


class Grants:
    """Every grant by id, in the order in which they were made."""

    def __init__(self) -> None:
        self.by_id: dict[str, Grant] = {}

    def add(self, grant: Grant) -> None:
        """Take a grant."""
        self.by_id[grant.id] = grant

    def get(self, grant_id: str) -> Grant:
        """Return a grant.

        Raises:
            UnknownIdError: There never was such a grant.

        """
        grant = self.by_id.get(grant_id)
        if grant is None:
            raise UnknownIdError(f"grant not found: {grant_id}")
        return grant

    def remaining(self, slot: Slot, balance: int) -> dict[str, int]:
        """Return what is left of each grant of a slot that has a balance of so many units."""
        standing = [g for g in self.by_id.values() if g.slot == slot and g.ended_at is None]
        standing.sort(key=lambda grant: math.inf if grant.expires_at is None else grant.expires_at)
        left: dict[str, int] = {}
        for grant in reversed(standing):
            left[grant.id] = max(0, min(grant.quantity, balance))
            balance -= left[grant.id]
        return left

    def end(self, at: float, grant: Grant, reason: str) -> None:
        """End a grant; what is left of it is for the caller to take back.

        Raises:
            InvalidRequestError: It has ended before.

        """
        if grant.ended_at is not None:
            raise InvalidRequestError(f"grant {grant.id} has ended")
        grant.ended_at, grant.ended_reason = at, reason

    def due(self, at: float) -> Iterator[Grant]:
        """Yield the grants that have expired by an instant, and stand yet."""
        for grant in self.by_id.values():
            if grant.ended_at is None and grant.expires_at is not None and grant.expires_at <= at:
                yield grant
