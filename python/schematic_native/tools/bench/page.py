"""A run as one HTML page: distributions and ratios as inline SVG, which loads nothing from elsewhere."""

from __future__ import annotations

import html
import math
import platform
from itertools import groupby
from typing import TYPE_CHECKING

from schematic_native import __version__
from schematic_native.tools.bench.estimates import estimate, ratio
from schematic_native.tools.bench.subjects import SYNC
from schematic_native.tools.bench.table import amount, interval, reference

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from schematic_native.tools.bench.series import Series

WIDTH, ROW, LEFT, RIGHT = 960, 26, 300, 150
STYLE = """
body { font: 14px/1.5 system-ui, sans-serif; max-width: 960px; margin: 2rem auto; color: #1c2733 }
h2 { margin: 2.2rem 0 0.3rem; font-size: 1.1rem }
p { color: #51606f }
svg text { font: 12px system-ui, sans-serif; fill: #1c2733 }
.own { fill: #1769aa } .other { fill: #9aa8b5 } .dot { fill-opacity: 0.35 } .line { stroke: #1c2733 }
.axis { stroke: #d5dce3 }
"""


def render(series: Sequence[Series]) -> str:
    """Return the page."""
    ordered = sorted(series, key=lambda one: (one.call, one.world))
    groups = [list(group) for _, group in groupby(ordered, key=lambda one: (one.call, one.world))]
    body = "\n".join(part for group in groups for part in _group(group))
    where = html.escape(
        f"{platform.python_implementation()} {platform.python_version()}, {platform.platform()}"
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>schematic-native bench</title>\n'
        f"<style>{STYLE}</style></head><body>\n<h1>schematic-native {html.escape(__version__)}</h1>\n"
        f"<p>{where}. A dot is a sample, a bar goes to the median, the line is its 95 % confidence interval; "
        f"scales are logarithmic where subjects are far apart.</p>\n{body}\n</body></html>\n"
    )


def _group(group: list[Series]) -> Iterator[str]:
    first = group[0]
    yield f"<h2>{html.escape(first.call)} <small>{html.escape(first.world)}</small></h2>"
    yield _distributions(group)
    ratios = [(one, own) for one in group if (own := reference(group, one)) is not None]
    if ratios:
        yield f"<p>Times the cost of {html.escape(ratios[0][1].subject)}, round by round:</p>"
        yield _bars([(one.subject, ratio(one.values, own.values).median) for one, own in ratios])


class _Scale:
    """The position of a value on an axis, which is logarithmic if its ends are far apart."""

    def __init__(self, values: Sequence[float]) -> None:
        self.low, self.high = min(values), max(values)
        self.is_logarithmic = self.low > 0 and self.high / self.low > 20  # noqa: PLR2004
        if not self.is_logarithmic:
            self.low = min(0.0, self.low)

    def __call__(self, value: float) -> float:
        low, high, at = self.low, self.high, value
        if self.is_logarithmic:
            # A tenth of a decade below the lowest value, so that its bar is visible.
            low, high, at = math.log(low) - 0.23, math.log(high), math.log(value)
        share = (at - low) / (high - low) if high > low else 1.0
        return LEFT + share * (WIDTH - LEFT - RIGHT)


def _distributions(group: list[Series]) -> str:
    place = _Scale([value for one in group for value in one.values])
    rows = []
    for number, one in enumerate(group):
        found, y = estimate(one.values), number * ROW + ROW // 2
        kind = "own" if one.subject.startswith((SYNC, "schematic_native")) else "other"
        dots = "".join(
            f'<circle class="{kind} dot" cx="{place(value):.1f}" cy="{y}" r="3"/>'
            for value in one.values
        )
        rows.append(
            f'<text x="{LEFT - 10}" y="{y + 4}" text-anchor="end">{html.escape(one.subject)}</text>'
            f'<rect class="{kind}" x="{LEFT}" y="{y - 2}" width="{place(found.median) - LEFT:.1f}" height="4"/>'
            f'{dots}<line class="line" x1="{place(found.low):.1f}" x2="{place(found.high):.1f}" y1="{y}" y2="{y}"/>'
            f'<text x="{WIDTH - RIGHT + 12}" y="{y + 4}">{html.escape(amount(found.median, one.unit))}'
            f"<title>{html.escape(interval(found, one.unit))}, {found.outliers} outliers</title></text>"
        )
    return _svg(rows, len(group))


def _bars(ratios: list[tuple[str, float]]) -> str:
    place = _Scale([1.0, *(times for _, times in ratios)])
    one = f'<line class="axis" x1="{place(1):.1f}" x2="{place(1):.1f}" y1="0" y2="{len(ratios) * ROW}"/>'
    rows = [one]
    for number, (subject, times) in enumerate(ratios):
        y = number * ROW + ROW // 2
        rows.append(
            f'<text x="{LEFT - 10}" y="{y + 4}" text-anchor="end">{html.escape(subject)}</text>'
            f'<rect class="other" x="{LEFT}" y="{y - 7}" width="{place(times) - LEFT:.1f}" height="14"/>'
            f'<text x="{WIDTH - RIGHT + 12}" y="{y + 4}">{times:,.2f}x</text>'
        )
    return _svg(rows, len(ratios))


def _svg(rows: list[str], count: int) -> str:
    height = count * ROW + 4
    return f'<svg viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}">{"".join(rows)}</svg>'
