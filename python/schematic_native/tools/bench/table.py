"""A run as text: one line for each series, with its ratio to our own client."""

from __future__ import annotations

from typing import TYPE_CHECKING

from schematic_native.tools.bench.estimates import Estimate, change, estimate, ratio
from schematic_native.tools.bench.subjects import ENGINE, EVALUATE, SYNC

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from schematic_native.tools.bench.series import Series

HEADER = (
    f"{'call':<34} {'world':<16} {'subject':<28} {'median':>12}   {'95 % confidence':<22} "
    f"{'outliers':>8} {'ratio':>9}"
)


def reference(series: Sequence[Series], one: Series) -> Series | None:
    """Return the series to compare with: our own client with the same call in the same rounds."""
    own = ENGINE if one.call == EVALUATE else SYNC
    if one.subject == own:
        return None
    name = (one.call, one.world, own)
    found = next((other for other in series if other.name == name), None)
    return found if found is not None and len(found.values) == len(one.values) else None


def lines(series: Sequence[Series]) -> Iterator[str]:
    """Yield the table; a ratio is a multiple of the cost of our own client."""
    yield HEADER
    for one in series:
        own = reference(series, one)
        times = "" if own is None else f"{ratio(one.values, own.values).median:,.2f}x"
        found = estimate(one.values)
        count = f"{found.outliers}/{len(one.values)}"
        yield (
            f"{one.call:<34} {one.world:<16} {one.subject:<28} {amount(found.median, one.unit):>12}   "
            f"{interval(found, one.unit):<22} {count:>8} {times:>9}"
        ).rstrip()


def changes(
    series: Sequence[Series], before: Mapping[tuple[str, str, str], Series]
) -> Iterator[str]:
    """Yield what has changed since a baseline, for each series of it."""
    for one in series:
        old = before.get(one.name)
        if old is None or old.unit != one.unit:
            continue
        found = change(old.values, one.values)
        spread = f"({found.low:+.1%} to {found.high:+.1%})"
        yield f"{one.call:<34} {one.world:<16} {one.subject:<28} {found.share:>+8.1%} {spread:<22} {found.verdict}"


def amount(value: float, unit: str) -> str:
    """Write a value with at least three digits."""
    digits = 3 if abs(value) < 1 else 2 if abs(value) < 100 else 0  # noqa: PLR2004
    return f"{value:,.{digits}f} {unit}"


def interval(found: Estimate, unit: str) -> str:
    """Write the confidence interval of the median."""
    low, high = amount(found.low, unit), amount(found.high, unit)
    return f"{low.rsplit(' ', 1)[0]} to {high.rsplit(' ', 1)[0]}"
