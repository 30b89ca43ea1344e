"""A lease's row in Redis, as the scripts tell of it.

A field of the row is written by `scripts/install.lua` and read by `scripts/lease.lua`; what is done to
the amounts is in `scripts/amounts.lua`. Other SDKs share these rows, so no name may change.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from schematic_native.redis.values import decoded, unreadable


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


class SharedDebit(NamedTuple):
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


def read_debit(reply: str | bytes, recorded: bool = False) -> SharedDebit:
    """Read what a debit left."""
    try:
        remaining, granted, expires_at, seconds, micros, lease_id = decoded(reply).split("\n", 5)
        # In whole milliseconds, as the script counts.
        made = (int(seconds) * 1000 + int(micros) // 1000) / 1000
        ends = float(expires_at) / 1000
        return SharedDebit(float(remaining), lease_id, float(granted), ends, made, recorded)
    except ValueError as error:
        raise unreadable(error) from error
