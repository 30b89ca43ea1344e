"""The bar of a company's credits: what was granted is settled, held or remaining."""

from __future__ import annotations

from typing import TYPE_CHECKING

from schematic_native.emulator.dashboard.markup import Markup, tag
from schematic_native.emulator.dashboard.texts import amount

if TYPE_CHECKING:
    from schematic_native.emulator.state.directory import CreditLine

_WIDTH = 1000.0
_LEAST = 6.0  # the width of a part that is not zero, however small: it must be seen


def balance_bar(line: CreditLine) -> Markup:
    """Draw the three parts, in widths that tell their shares."""
    widths = _widths([line.settled, line.reserved, line.remaining])
    parts, left = [], 0.0
    for name, width in zip(("settled", "held", "remaining"), widths, strict=True):
        parts.append(
            tag("rect", x=f"{left:.1f}", y=0, width=f"{width:.1f}", height=10, class_=name)
        )
        left += width
    label = (
        f"{amount(line.total)} granted: {amount(line.settled)} settled, "
        f"{amount(line.reserved)} held, {amount(line.remaining)} remaining"
    )
    return tag(
        "svg",
        parts,
        viewBox=f"0 0 {_WIDTH:.0f} 10",
        preserveAspectRatio="none",
        role="img",
        aria_label=label,
        class_="bar",
    )


def _widths(amounts: list[float]) -> list[float]:
    """Share the width among amounts; what is below zero has none."""
    positive = [max(0.0, each) for each in amounts]
    total = sum(positive)
    if not total:
        return [0.0] * len(amounts)
    raised = [max(_LEAST, each / total * _WIDTH) if each else 0.0 for each in positive]
    return [each * _WIDTH / sum(raised) for each in raised]
