"""The section of the whole state: the audit, a seed to save, and the way back to the start."""

from __future__ import annotations

from typing import TYPE_CHECKING

from schematic_native.emulator.dashboard.layout import button, section
from schematic_native.emulator.dashboard.markup import Markup, tag

if TYPE_CHECKING:
    from schematic_native.emulator.state.service import Service


MOST_AUDITED = 50_000  # entries: adding up more at each change would hold up the clients


def state_section(service: Service) -> Markup:
    """Show whether the books balance."""
    return section(
        "state",
        "State",
        _audit(service),
        tag(
            "div",
            tag(
                "a", "Save as a seed", href="/_emulator/seed", download="seed.json", class_="button"
            ),
            button(
                "Reset",
                "/_emulator/reset",
                confirm="Begin anew from the seed? Balances, leases, events and faults are lost.",
                data_done="Begun anew",
                class_="danger",
            ),
            class_="buttons",
        ),
    )


def _audit(service: Service) -> Markup:
    entries = len(service.ledger.book.entries)
    if entries > MOST_AUDITED:
        link = tag("a", "audit the books", href="/_emulator/audit")
        return tag("p", f"{entries:,} entries: ", link, ".", id="audit")
    report = service.audit()
    if report["balanced"]:
        text = f"The books balance: {entries:,} entries, every credit in one place."
        return tag("p", text, class_="outcome plain", id="audit")
    problems = [tag("li", problem) for problem in report["problems"]]
    return tag("div", tag("p", "The books do not balance:"), tag("ul", problems), id="audit")
