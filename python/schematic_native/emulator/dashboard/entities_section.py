"""The section of flags and users; companies have a section of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from schematic_native.emulator.dashboard.entity_buttons import entity_buttons
from schematic_native.emulator.dashboard.layout import nothing, row, section, table
from schematic_native.emulator.dashboard.markup import Markup, tag
from schematic_native.emulator.dashboard.texts import count

if TYPE_CHECKING:
    from schematic_native.emulator.state.directory import Directory

Entity = dict[str, Any]

MOST_SHOWN = 50


def entities_section(directory: Directory) -> Markup:
    """Show flags and users with their buttons."""
    flags = [_row("flag", each, each["key"], _rules(each)) for each in directory.flags.values()]
    users = [_row("user", each, _keys(each), _rules(each)) for each in directory.users.values()]
    return section(
        "entities", "Flags and users", _list("flag", "Flags", flags), _list("user", "Users", users)
    )


def _list(kind: str, title: str, rows: list[Markup]) -> list[object]:
    if not rows:
        return [nothing(f"{title}: none.")]
    left_out = len(rows) - MOST_SHOWN
    return [
        table(f"{kind}s", title, (title, "id", "rules", "change"), rows[:MOST_SHOWN]),
        left_out > 0 and nothing(f"{count(left_out, f'more {kind}')}, not shown."),
    ]


def _row(kind: str, entity: Entity, *cells: str) -> Markup:
    name, rules = cells
    identifier = entity["id"]
    return row(
        f"{kind}-{identifier}",
        name,
        tag("code", identifier),
        rules,
        entity_buttons(kind, identifier),
    )


def _keys(entity: Entity) -> str:
    return ", ".join(f"{name}={value}" for name, value in (entity.get("keys") or {}).items())


def _rules(entity: Entity) -> str:
    return str(len(entity.get("rules") or []))
