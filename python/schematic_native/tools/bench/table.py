"""What was measured, as text: one line for each series, ratios to our own client beside it."""

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
    """Find what a series is compared with: our own subject doing the same in the same rounds."""
    own = ENGINE if one.call == EVALUATE else SYNC
    if one.subject == own:
        return None
    name = (one.call, one.world, own)
    found = next((other for other in series if other.name == name), None)
    return found if found is not None and len(found.values) == len(one.values) else None


def lines(series: Sequence[Series]) -> Iterator[str]:
    """Yield the table; a ratio is how many times our own client's cost that is."""
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
    """Yield what changed from a baseline, for each series that it has."""
    for one in series:
        old = before.get(one.name)
        if old is None or old.unit != one.unit:
            continue
        found = change(old.values, one.values)
        spread = f"({found.low:+.1%} to {found.high:+.1%})"
        yield f"{one.call:<34} {one.world:<16} {one.subject:<28} {found.share:>+8.1%} {spread:<22} {found.verdict}"


def amount(value: float, unit: str) -> str:
    """Write a value so that its third digit is seen."""
    digits = 3 if abs(value) < 1 else 2 if abs(value) < 100 else 0  # noqa: PLR2004
    return f"{value:,.{digits}f} {unit}"


def interval(found: Estimate, unit: str) -> str:
    """Write what the median lies between."""
    low, high = amount(found.low, unit), amount(found.high, unit)
    return f"{low.rsplit(' ', 1)[0]} to {high.rsplit(' ', 1)[0]}"
