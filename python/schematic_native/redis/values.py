"""How amounts, instants and texts are written to Redis and read from it.

Numbers are written as JavaScript prints them and instants in whole milliseconds, since other SDKs read
the same rows. Nothing is ever rounded in the caller's favour.
"""

from __future__ import annotations

import math
import re
from fractions import Fraction
from typing import TYPE_CHECKING

from schematic_native.ground.store_errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterable

# JavaScript prints whole numbers below this without an exponent.
LARGEST_PLAIN = 1e21
_DECIMAL = re.compile(r"-?\d+\.?\d*([eE][+-]?\d+)?", re.ASCII)


def remainder(size: float, used: Iterable[float]) -> float:
    """Return what is left of so many credits, at least 0: rounded down, if at all."""
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
    """Read a text, whether the client decodes its replies or not.

    Bytes that are not UTF-8 are replaced; with "surrogateescape" they are sent back as they came.
    """
    return reply.decode("utf-8", undecoded) if isinstance(reply, bytes) else str(reply)


def number(reply: object) -> float:
    """Read a finite number; 0 if it is anything else."""
    digits = text(reply)
    # As the scripts read it: float() would accept "1_000" as well.
    value = float(digits) if _DECIMAL.fullmatch(digits) else 0.0
    return value if math.isfinite(value) else 0.0


def decoded(reply: str | bytes) -> str:
    """Read a text that must be UTF-8."""
    return reply if isinstance(reply, str) else reply.decode()


def unreadable(error: ValueError) -> StoreError:
    """Return the failure of a script that has run, but whose reply does not tell what it did."""
    return StoreError(f"Redis answered with what cannot be read: {error}", lost=True)
