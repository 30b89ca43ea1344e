"""What rows say: numbers as JavaScript prints them, instants in whole milliseconds."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

from schematic_native.ground import json_text
from schematic_native.ground.store_errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from schematic_native._native import Reservation
    from schematic_native.ground.slots import Slot

# JavaScript prints whole numbers below this without an exponent.
LARGEST_PLAIN = 1e21
# Fields of a slab's row that tell what holds of it were settled with elsewhere.
SETTLED = "settled:"
_DECIMAL = re.compile(r"-?\d+\.?\d*([eE][+-]?\d+)?", re.ASCII)


@dataclass(frozen=True)
class SharedLease:
    """A slot's lease in the store: credits, and epoch seconds."""

    lease_id: str
    company_id: str
    credit_type_id: str
    granted: float
    remaining: float
    expires_at: float
    live: bool  # by the server's clock
    readable: bool = True  # otherwise it counts as no lease


@dataclass(frozen=True)
class SharedDebit:
    """A debit that was made: what the lease has left, in credits, and the lease charged."""

    remaining: float
    lease_id: str
    granted: float
    expires_at: float
    at: float  # by the server's clock
    recorded: bool = False  # whether its hold is recorded, too


@dataclass(frozen=True)
class Installed:
    """What became of a lease that was to be installed."""

    written: bool
    lease_id: str  # of the lease in the slot


class Refused(Enum):
    """Why nothing was debited."""

    NO_LEASE = 0
    SHORT = 2


@dataclass(frozen=True)
class Claimed:
    """A hold that was ended: what is needed to give the rest of it back."""

    slot: Slot
    reservation_id: str
    lease_id: str
    credits: float
    is_finished: bool = False  # whether the rest was given back already


class SlabNote(NamedTuple):
    """What is told and asked of a slab, which is there as one hold.

    Args:
        row_id: the id of that hold.
        slot: the company and the credit type.
        used: credits that the process which took it has used of it so far.
        ended: holds carved from it that ended elsewhere: the id, and the credits that it was settled
            with, or None to ask only.

    """

    row_id: str
    slot: Slot
    used: float = 0.0
    ended: Sequence[tuple[str, float | None]] = ()


class Noted(NamedTuple):
    """What a slab's row says of the holds that were asked about."""

    first: int  # how many of them were told of for the first time
    settled: list[float | None]  # what each was settled with elsewhere; None: it was not


def rest(size: float, used: Iterable[float]) -> float:
    """Return what is left of so many credits, at least nothing: rounded, if at all, down."""
    exact = max(Fraction(size) - sum(map(Fraction, used)), Fraction(0))
    rounded = float(exact)
    return rounded if Fraction(rounded) <= exact else math.nextafter(rounded, 0.0)


def amount(value: float) -> str:
    """Print an amount of credits."""
    if float(value).is_integer() and abs(value) < LARGEST_PLAIN:
        return str(int(value))
    return repr(float(value))


def millis(seconds: float) -> int:
    """Return an instant in whole milliseconds."""
    return round(seconds * 1000)


def text(reply: object, *, undecoded: str = "replace") -> str:
    """Read a text of a client that decodes replies, or does not.

    Bytes that are no text are replaced; or with "surrogateescape" sent back as they came.
    """
    return reply.decode("utf-8", undecoded) if isinstance(reply, bytes) else str(reply)


def number(reply: object) -> float:
    """Read a number; 0 if there is none, or none that is finite."""
    digits = text(reply)
    # As the scripts read it: float() would take "1_000" as well.
    value = float(digits) if _DECIMAL.fullmatch(digits) else 0.0
    return value if math.isfinite(value) else 0.0


def hold_row(reservation: Reservation) -> list[str]:
    """Return the fields and values of a hold's row."""
    return [
        "id", reservation.id,
        "leaseId", reservation.lease_id,
        "companyId", reservation.company_id,
        "creditTypeId", reservation.credit_type_id,
        "eventSubtype", reservation.event_subtype,
        "quantityReserved", amount(reservation.quantity_reserved),
        "creditsReserved", amount(reservation.credits_reserved),
        "consumptionRate", amount(reservation.consumption_rate),
        "expiresAt", str(millis(reservation.expires_at.timestamp())),
        "evalCtx", context(reservation),
    ]  # fmt: skip


def context(reservation: Reservation) -> str:
    """Return whom a hold is for, as its row says it."""
    asked = ("company", reservation.company), ("user", reservation.user)
    parts = [f'"{part}":{json_text.texts(keys)}' for part, keys in asked if keys is not None]
    return f"{{{','.join(parts)}}}"


def read_debit(reply: str | bytes, recorded: bool = False) -> SharedDebit:
    """Read what a debit left."""
    try:
        remaining, granted, expires_at, at, lease_id = _decoded(reply).split("\n", 4)
        ends, made = float(expires_at) / 1000, float(at) / 1000
        return SharedDebit(float(remaining), lease_id, float(granted), ends, made, recorded)
    except ValueError as error:
        raise _unreadable(error) from error


def read_claim(reply: str | bytes) -> Claimed:
    """Read the row of a hold that was claimed; a field that was not there is empty.

    Of one that was given back already it is the credits alone.
    """
    try:
        words = _decoded(reply)
        if not words.startswith("["):
            return Claimed(("", ""), "", "", float(words), is_finished=True)
        hold_id, company_id, credit_type_id, lease_id, held = json_text.read(words)
    except ValueError as error:
        raise _unreadable(error) from error
    slot = company_id or "", credit_type_id or ""
    return Claimed(slot, hold_id or "", lease_id or "", max(0.0, number(held or "0")))


def read_slab(fields: Sequence[object]) -> tuple[Claimed, dict[str, float]]:
    """Read the row of a slab that was claimed, and what holds of it were settled with elsewhere."""
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


def _decoded(reply: str | bytes) -> str:
    return reply if isinstance(reply, str) else reply.decode()


def _unreadable(error: ValueError) -> StoreError:
    """Return the failure of a script that has run; of what it did nobody can tell."""
    return StoreError(f"Redis answered with what cannot be read: {error}", lost=True)
