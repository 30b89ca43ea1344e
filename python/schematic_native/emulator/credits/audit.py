"""The audit: the book must agree with the ledger, and every credit must be somewhere.

It reads and compares; it never repairs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from schematic_native.emulator.credits.amounts import to_credits
from schematic_native.emulator.credits.holds import Lease

if TYPE_CHECKING:
    from schematic_native.emulator.credits.book import Account, Entry
    from schematic_native.emulator.credits.holds import Reservation, Slot
    from schematic_native.emulator.credits.ledger import Ledger

_SUMS = ("opening", "granted", "balance", "leased", "reserved", "billed", "overage")


class _Totals:
    """Account balances and per-hold sums, added up from the entries alone."""

    def __init__(self, entries: list[Entry]) -> None:
        self.accounts: dict[Account, int] = {}
        self.received: dict[Account, int] = {}
        self.billed: dict[Account, int] = {}
        self.returned: dict[Account, int] = {}
        self.opening: dict[Slot, int] = {}
        self.overage: dict[Slot, int] = {}
        self.problems: list[str] = []
        for entry in entries:
            self._add(entry)

    def _add(self, entry: Entry) -> None:
        _at, kind, source, target, units = entry
        self.accounts[source] = self.accounts.get(source, 0) - units
        self.accounts[target] = self.accounts.get(target, 0) + units
        slot = (target[1], target[2])
        if kind == "opening":
            signed = units if target[0] == "balance" else -units
            self.opening[slot] = self.opening.get(slot, 0) + signed
        elif kind == "overage":
            self.overage[slot] = self.overage.get(slot, 0) + units
        if target[0] in {"lease", "reservation"}:
            self.received[target] = self.received.get(target, 0) + units
        if source[0] in {"lease", "reservation"}:
            out = self.billed if target[0] == "billed" else self.returned
            out[source] = out.get(source, 0) + units
            if self.accounts[source] < 0:
                self.problems.append(f"{source[0]} {source[1]} paid out more than it held")


def audit(ledger: Ledger) -> dict[str, Any]:
    """Add the book up and compare it with the ledger's own counters.

    Returns `balanced`, `problems` (sentences; empty when balanced), the number of `entries`,
    `leases` and `reservations`, and per credit type the sums (in credits) of the equation that must
    hold: `granted == balance + leased + reserved + billed`, where `granted` includes `opening`, and
    `overage` is the part of `billed` that went beyond a lease or reservation.
    """
    totals = _Totals(ledger.book.entries)
    problems = totals.problems
    sums: dict[str, dict[str, int]] = {}
    _sum_accounts(totals, ledger, sums)
    for credit, line in sums.items():
        held = line["leased"] + line["reserved"]
        if line["granted"] != line["balance"] + held + line["billed"]:
            problems.append(f"credit {credit}: what was granted is not what there is")
    _compare_slots(totals, ledger, problems)
    _compare_holds(totals, ledger, problems)
    return {
        "balanced": not problems,
        "problems": problems,
        "credits": {
            credit: {name: to_credits(units) for name, units in line.items()}
            for credit, line in sums.items()
        },
        "entries": len(ledger.book.entries),
        "leases": len(ledger.leases),
        "reservations": len(ledger.reservations),
    }


def _sum_accounts(totals: _Totals, ledger: Ledger, sums: dict[str, dict[str, int]]) -> None:
    def line(credit: str) -> dict[str, int]:
        return sums.setdefault(credit, dict.fromkeys(_SUMS, 0))

    for (kind, owner, credit), units in totals.accounts.items():
        if kind == "lease":
            line(ledger.leases[owner].credit_type_id)["leased"] += units
        elif kind == "reservation":
            line(ledger.reservations[owner].credit_type_id)["reserved"] += units
        elif kind == "grants":
            line(credit)["granted"] -= units
        else:
            line(credit)[kind] += units
    for (_, credit), units in totals.opening.items():
        line(credit)["opening"] += units
    for (_, credit), units in totals.overage.items():
        line(credit)["overage"] += units


def _compare_slots(totals: _Totals, ledger: Ledger, problems: list[str]) -> None:
    booked = {(kind, a, b) for kind, a, b in totals.accounts if kind in {"balance", "billed"}}
    counted = {("balance", *slot) for slot in ledger.balances}
    counted |= {("billed", *slot) for slot in ledger.billed}
    for account in sorted(booked | counted):
        counters = ledger.balances if account[0] == "balance" else ledger.billed
        if totals.accounts.get(account, 0) != counters.get(account[1:], 0):
            problems.append(f"{account[0]} of {account[1]} in {account[2]} differs from the book")


def _compare_holds(totals: _Totals, ledger: Ledger, problems: list[str]) -> None:
    held: dict[Slot, int] = {}
    holds: list[Lease | Reservation] = [*ledger.leases.values(), *ledger.reservations.values()]
    for hold in holds:
        account = hold.account
        granted, spent = (
            (hold.granted, hold.tracked)
            if isinstance(hold, Lease)
            else (hold.reserved, hold.settled)
        )
        slot = (hold.company_id, hold.credit_type_id)
        held[slot] = held.get(slot, 0) + hold.unspent
        agrees = (
            granted == totals.received.get(account, 0)
            and spent == totals.billed.get(account, 0)
            and hold.refunded == totals.returned.get(account, 0)
            and hold.unspent == totals.accounts.get(account, 0)
        )
        if not agrees:
            problems.append(f"{account[0]} {hold.id} differs from the book")
        if hold.unspent < 0:
            problems.append(f"{account[0]} {hold.id} spent more than it was granted")
        if hold.unspent and hold.status not in {"active", "held"}:
            problems.append(f"{account[0]} {hold.id} has ended and still holds credits")
    problems.extend(
        f"holds of {slot[0]} in {slot[1]} differ from the leases and reservations there"
        for slot, units in held.items()
        if units != ledger.held(slot)
    )
