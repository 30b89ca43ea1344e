"""Exact amounts of credits.

The wire speaks doubles, and doubles do not add up. Every amount in here is a whole number of units
of 2**-128 credits, so that sums are exact in any order and an audit may compare with `==`. Doubles
from 2**-76 credits upwards convert without loss; finer ones are refused rather than rounded.
"""

from __future__ import annotations

import math
import sys
from typing import TypeGuard

SHIFT = 128
ONE = 1 << SHIFT
LIMIT = 2**62


def is_finite(value: object) -> TypeGuard[float]:
    """Tell whether a value of JSON is a number that a double can hold."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return abs(value) <= sys.float_info.max


class AmountError(ValueError):
    """An amount that is not a number, not finite, too large or too fine."""


def to_units(value: object, name: str) -> int:
    """Convert a number of credits to units without loss.

    Raises:
        AmountError: The value is no finite number, is beyond 2**62, or has binary digits below
        2**-128.

    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise AmountError(f"{name} must be a number, got {value!r}")
    if isinstance(value, float) and not math.isfinite(value):
        raise AmountError(f"{name} must be finite, got {value!r}")
    if abs(value) > LIMIT:
        raise AmountError(f"{name} must lie between -2**62 and 2**62, got {value!r}")
    numerator, denominator = value.as_integer_ratio()
    if denominator > ONE:
        raise AmountError(f"{name} is too fine to be kept exactly, got {value!r}")
    return numerator * (ONE // denominator)


def to_credits(units: int) -> float:
    """Return the double nearest to an exact amount, as the wire wants it."""
    return units / ONE
