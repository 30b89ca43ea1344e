"""Leases and reservations: credits that have left a company's balance and are not yet billed.

Plain records with the amounts that the ledger keeps in them; only the ledger changes one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from schematic_native.emulator.credits.book import Account

Slot = tuple[str, str]  # company id, credit type id


@dataclass(slots=True)
class Lease:
    """A tranche of credits that has left the company's balance."""

    id: str
    company_id: str
    credit_type_id: str
    granted: int
    expires_at: float
    created_at: float
    updated_at: float
    tracked: int = 0
    refunded: int = 0
    status: str = "active"  # then "released" or "expired"
    released_at: float | None = None
    account: Account = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self.account = ("lease", self.id, "")

    @property
    def unspent(self) -> int:
        """What the lease still holds, in units."""
        return self.granted - self.tracked - self.refunded


@dataclass(slots=True)
class Reservation:
    """Credits that one check has taken out of the company's balance."""

    id: str
    company_id: str
    credit_type_id: str
    event_subtype: str | None
    rate: int
    quantity: int
    reserved: int
    expires_at: float
    created_at: float
    updated_at: float
    settled: int = 0
    refunded: int = 0
    status: str = "held"  # then "settled", "released" or "expired"
    released_at: float | None = None
    account: Account = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self.account = ("reservation", self.id, "")

    @property
    def unspent(self) -> int:
        """What the reservation still holds, in units."""
        return self.reserved - self.settled - self.refunded
