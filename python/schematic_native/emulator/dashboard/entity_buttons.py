"""The buttons that edit and delete one flag, company or user."""

from __future__ import annotations

from urllib.parse import quote

from schematic_native.emulator.dashboard.layout import button
from schematic_native.emulator.dashboard.markup import Markup, tag


def entity_buttons(kind: str, entity_id: str) -> Markup:
    """Make the buttons of one entity."""
    path = f"/_emulator/{kind}/{quote(entity_id, safe='')}"
    edit = tag(
        "button",
        "Edit",
        type="button",
        data_edit=kind,
        data_path=path,
        aria_label=f"Edit {kind} {entity_id}",
    )
    delete = button(
        "Delete",
        path,
        method="DELETE",
        confirm=f"Delete the {kind} {entity_id}? Clients are told; what its ledger holds stays.",
        aria_label=f"Delete {kind} {entity_id}",
        data_done=f"Deleted {kind} {entity_id}",
        class_="danger",
    )
    return tag("div", edit, delete, class_="buttons")
