"""The double-entry book: every movement of credits, from one account to another.

The book is what the audit reads. It is written beside the ledger's own counters and never read back
by the ledger, so a wrong counter and a wrong entry cannot hide each other.
"""

from __future__ import annotations

from typing import NamedTuple

# ("grants" | "balance" | "billed", company id, credit type id), ("lease", lease id, "") or
# ("reservation", reservation id, "").
Account = tuple[str, str, str]


class Entry(NamedTuple):
    """One movement: `units` leave `source` and enter `target`."""

    at: float
    kind: str
    source: Account
    target: Account
    units: int


class Book:
    """An append-only list of entries."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []

    def move(self, at: float, kind: str, source: Account, target: Account, units: int) -> None:
        """Write one entry; nothing is written for an amount of zero.

        Raises:
            ValueError: The amount is negative. A movement backwards is an entry with the accounts
            swapped.

        """
        if units < 0:
            raise ValueError(f"an entry moves a positive amount, got {units}")
        if units:
            self.entries.append(Entry(at, kind, source, target, units))


def grants(company_id: str, credit_type_id: str) -> Account:
    """Name the account that credits come from: its balance is what was granted, negated."""
    return ("grants", company_id, credit_type_id)


def balance(company_id: str, credit_type_id: str) -> Account:
    """Name the account of what a company has left after pre-debits."""
    return ("balance", company_id, credit_type_id)


def billed(company_id: str, credit_type_id: str) -> Account:
    """Name the account of what a company has consumed for good."""
    return ("billed", company_id, credit_type_id)
