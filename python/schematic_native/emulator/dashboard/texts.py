"""Numbers, instants and durations as people read them."""

from __future__ import annotations

import math

from schematic_native.emulator.clock import format_instant
from schematic_native.emulator.dashboard.markup import Markup, tag

_MOST_EXACT = 1e15  # credits: beyond it, a double has no digits behind the point worth showing


def amount(credit: float) -> str:
    """Write an amount of credits, with at most four digits behind the point."""
    if not math.isfinite(credit) or abs(credit) >= _MOST_EXACT:
        return f"{credit:g}"
    return f"{credit:,.4f}".rstrip("0").rstrip(".")


def count(number: int, one: str, many: str | None = None) -> str:
    """Write a number and what it counts."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def instant(epoch_seconds: float) -> Markup:
    """Write an instant as an element: the time of the day, in UTC."""
    text = format_instant(epoch_seconds)
    return tag("time", text[11:19], datetime=text, title=text)


def countdown(until: float, now: float) -> Markup:
    """Write how long it is until an instant; the script goes on counting."""
    seconds = max(0, math.ceil(until - now))
    minutes, rest = divmod(seconds, 60)
    text = f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
    return tag("time", text, datetime=format_instant(until), data_until=f"{until:.3f}")
