"""The section where a check can be tried: a form, and where the script puts the result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from schematic_native.emulator.dashboard.layout import choice, field, form, section
from schematic_native.emulator.dashboard.markup import Markup, tag

if TYPE_CHECKING:
    from schematic_native.emulator.state.directory import Directory

PATH = "/_emulator/dashboard/check"


def check_section(directory: Directory) -> Markup:
    """Show the form."""
    flags = [(flag["id"], flag["key"]) for flag in directory.flags.values()]
    name = "check"
    return section(
        "checks",
        "Try a check",
        form(
            name,
            PATH,
            choice(name, "Flag", "flag_id", flags),
            choice(name, "Company", "company_id", _entities(directory.companies)),
            choice(name, "User", "user_id", _entities(directory.users)),
            field(name, "Usage (units)", "usage", type="number", min=0, step=1),
            tag("button", "Check", type="submit"),
            class_="grid",
            data_result="check-result",
            data_done="Checked",
        ),
        tag("div", id="check-result", data_keep=True, tabindex="-1"),
    )


def _entities(entities: dict[str, dict[str, Any]]) -> list[tuple[str, str]]:
    shown = [
        (each["id"], ", ".join((each.get("keys") or {}).values()) or each["id"])
        for each in entities.values()
    ]
    return [*shown, ("", "none")]
