"""The section of open holds: leases and reservations, soonest to expire first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from schematic_native.emulator.credits.amounts import to_credits
from schematic_native.emulator.credits.holds import Lease
from schematic_native.emulator.dashboard.layout import nothing, row, section, table
from schematic_native.emulator.dashboard.markup import Markup, tag
from schematic_native.emulator.dashboard.texts import amount, count, countdown

if TYPE_CHECKING:
    from schematic_native.emulator.credits.holds import Reservation
    from schematic_native.emulator.credits.ledger import Ledger

MOST_SHOWN = 100


def holds_section(ledger: Ledger, now: float) -> Markup:
    """Show what is held, with the time that is left."""
    holds: list[Lease | Reservation] = [
        *(lease for lease in ledger.leases.values() if lease.status == "active"),
        *(each for each in ledger.reservations.values() if each.status == "held"),
    ]
    holds.sort(key=lambda hold: hold.expires_at)
    rows = [_hold(hold, now) for hold in holds[:MOST_SHOWN]]
    columns = ("hold", "company", "credit", "granted", "spent", "left", "expires in")
    left_out = len(holds) - len(rows)
    return section(
        "holds",
        "Open holds",
        table("holds", "Open leases and reservations", columns, rows)
        if rows
        else nothing("No lease and no reservation is open."),
        left_out > 0 and nothing(f"{count(left_out, 'more hold')}, not shown."),
    )


def _hold(hold: Lease | Reservation, now: float) -> Markup:
    is_lease = isinstance(hold, Lease)
    granted, spent = (
        (hold.granted, hold.tracked) if isinstance(hold, Lease) else (hold.reserved, hold.settled)
    )
    return row(
        f"hold-{hold.id}",
        ["Lease " if is_lease else "Reservation ", tag("code", hold.id)],
        hold.company_id,
        hold.credit_type_id,
        amount(to_credits(granted)),
        amount(to_credits(spent)),
        amount(to_credits(hold.unspent)),
        countdown(hold.expires_at, now),
    )
