"""A reservation's row in Redis: its fields, and what is read of it when it ends.

To add a field, add it to the end of `FIELDS` and of `values_of`: both scripts that record a row write
what stands there. A field that is needed when a reservation ends must also be read by
`scripts/claim.lua`, `scripts/settle.lua` and `read_claim`. Other SDKs share these rows, so no name may
change.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from schematic_native.ground import json_text
from schematic_native.redis.values import amount, decoded, millis, number, text, unreadable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from schematic_native._native import Reservation
    from schematic_native.ground.slots import Slot

# The fields of a row apart from its lease and its end, which the debit decides. `scripts/hold.lua` relies on
# the order of the first four.
FIELDS = (
    "id",
    "companyId",
    "creditTypeId",
    "creditsReserved",
    "eventSubtype",
    "quantityReserved",
    "consumptionRate",
    "evalCtx",
)
# Milliseconds that a hold's row outlives the hold, so that the sweep still finds it.
GRACE = 30_000
# The fields of a slab's row that tell with what its holds were settled by other processes begin so.
SETTLED = "settled:"


class Claimed(NamedTuple):
    """A reservation that was ended: what is needed to refund the unused part of it."""

    slot: Slot
    reservation_id: str
    lease_id: str
    credits: float
    is_finished: bool = False  # whether the unused part was refunded already


def row_of(reservation: Reservation) -> list[str]:
    """Return the fields and values of a reservation's row."""
    row = ["leaseId", reservation.lease_id]
    row += ["expiresAt", str(millis(reservation.expires_at.timestamp()))]
    for field, value in zip(FIELDS, values_of(reservation), strict=True):
        row += [field, value]
    return row


def values_of(reservation: Reservation) -> list[str]:
    """Return the values of `FIELDS`."""
    return [
        reservation.id,
        reservation.company_id,
        reservation.credit_type_id,
        amount(reservation.credits_reserved),
        reservation.event_subtype,
        amount(reservation.quantity_reserved),
        amount(reservation.consumption_rate),
        _context(reservation),
    ]


def read_claim(reply: str | bytes) -> Claimed:
    """Read the row of a reservation that was claimed; a field that was not there is empty.

    A reply of credits alone is of a reservation whose unused part was refunded at once.
    """
    try:
        words = decoded(reply)
        if not words.startswith("["):
            return Claimed(("", ""), "", "", float(words), is_finished=True)
        hold_id, company_id, credit_type_id, lease_id, held = json_text.read(words)
    except ValueError as error:
        raise unreadable(error) from error
    slot = company_id or "", credit_type_id or ""
    return Claimed(slot, hold_id or "", lease_id or "", max(0.0, number(held or "0")))


def read_slab(fields: Sequence[object]) -> tuple[Claimed, dict[str, float]]:
    """Read the row of a slab that was claimed; also returns with what others settled its holds."""
    row = dict(zip(map(text, fields[::2]), fields[1::2], strict=False))
    slot = text(row.get("companyId", "")), text(row.get("creditTypeId", ""))
    held = max(0.0, number(row.get("creditsReserved", "0")))
    claimed = Claimed(slot, text(row.get("id", "")), text(row.get("leaseId", "")), held)
    settled = {
        name.removeprefix(SETTLED): number(value)
        for name, value in row.items()
        if name.startswith(SETTLED)
    }
    return claimed, settled


def _context(reservation: Reservation) -> str:
    """Return the company and the user of a reservation as JSON."""
    asked = ("company", reservation.company), ("user", reservation.user)
    parts = [f'"{part}":{json_text.texts(keys)}' for part, keys in asked if keys is not None]
    return f"{{{','.join(parts)}}}"
