"""The section of the clock: what time it is for the emulator, and buttons that move it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from schematic_native.emulator.clock import format_instant
from schematic_native.emulator.dashboard.layout import button, field, form, section
from schematic_native.emulator.dashboard.markup import Markup, tag

if TYPE_CHECKING:
    from schematic_native.emulator.clock import Clock

_PATH = "/_emulator/clock"
_STEPS = (("1 minute", 60), ("5 minutes", 300), ("1 hour", 3600), ("1 day", 86_400))


def clock_section(clock: Clock) -> Markup:
    """Show the clock and its buttons."""
    now, is_frozen = clock.now(), clock.frozen_at is not None
    text = format_instant(now)
    steps = [
        button(f"+ {name}", _PATH, {"advance": seconds}, data_done=f"Clock moved by {name}")
        for name, seconds in _STEPS
    ]
    switch = (
        button("Resume", _PATH, {"resume": True}, data_done="The clock runs")
        if is_frozen
        else button("Freeze", _PATH, {"freeze": True}, data_done="The clock is frozen")
    )
    return section(
        "clock",
        "Clock",
        tag(
            "p",
            tag(
                "time",
                f"{text[:10]} {text[11:19]} UTC",
                datetime=text,
                data_now=f"{now:.3f}",
                data_frozen=is_frozen,
            ),
            tag("span", " frozen" if is_frozen else "", class_="outcome duplicate")
            if is_frozen
            else None,
            class_="clock",
        ),
        tag("div", steps, switch, class_="buttons"),
        form(
            "advance",
            _PATH,
            field(
                "advance",
                "Seconds to move",
                "advance",
                type="number",
                min=0,
                step="any",
                required=True,
            ),
            tag("button", "Move forward", type="submit"),
            class_="inline",
            data_done="Clock moved",
        ),
    )
