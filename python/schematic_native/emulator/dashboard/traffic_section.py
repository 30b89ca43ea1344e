"""The section of requests: each endpoint that was asked, with how often it gave which answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from schematic_native.emulator.dashboard.layout import nothing, row, section, table
from schematic_native.emulator.dashboard.markup import Markup, tag
from schematic_native.emulator.traffic import UNANSWERED

if TYPE_CHECKING:
    from schematic_native.emulator.traffic import Traffic

_FIRST_ERROR = "400"


def traffic_section(traffic: Traffic) -> Markup:
    """Show endpoints with their answers, and what is not known."""
    rows = [
        row(
            f"endpoint-{number}",
            tag("code", endpoint),
            f"{sum(counts.values()):,}",
            [_answer(status, times) for status, times in sorted(counts.items())],
        )
        for number, (endpoint, counts) in enumerate(sorted(traffic.answers.items()))
    ]
    unknown = [tag("li", f"{asked}: {times}") for asked, times in sorted(traffic.unknown.items())]
    return section(
        "requests",
        "Requests",
        table("requests", "Requests by endpoint", ("endpoint", "requests", "answers"), rows)
        if rows
        else nothing("None yet."),
        bool(unknown) and [tag("h3", "Not known here"), tag("ul", unknown)],
    )


def _answer(status: str, times: int) -> Markup:
    is_error = status == UNANSWERED or status >= _FIRST_ERROR
    text = "connection cut" if status == UNANSWERED else status
    return tag(
        "span", f"{text} x {times:,}", class_="outcome anomaly" if is_error else "outcome plain"
    )
