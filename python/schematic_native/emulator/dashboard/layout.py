"""The blocks that every section of the page is made of: headings, tables, buttons, fields."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from schematic_native.emulator.dashboard.markup import Markup, tag

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


def section(name: str, title: str, *children: object) -> Markup:
    """Make a section with its heading, which names it to screen readers."""
    heading = tag("h2", title, id=f"{name}-title")
    return tag("section", heading, *children, id=name, aria_labelledby=f"{name}-title")


def table(name: str, caption: str, columns: Sequence[str], rows: Sequence[Markup]) -> Markup:
    """Make a table that scrolls sideways where there is no room."""
    head = tag("tr", [tag("th", column, scope="col") for column in columns])
    whole = tag(
        "table",
        tag("caption", caption, class_="hidden"),
        tag("thead", head),
        tag("tbody", rows, id=f"{name}-rows"),
    )
    return tag(
        "div",
        whole,
        class_="scroll",
        id=f"{name}-table",
        role="region",
        tabindex="0",
        aria_label=caption,
    )


def row(name: str, *cells: object, class_: str | None = None) -> Markup:
    """Make a row; its first cell is its heading."""
    first, *others = cells
    return tag(
        "tr",
        tag("th", first, scope="row"),
        [tag("td", cell) for cell in others],
        id=name,
        class_=class_,
    )


def nothing(text: str) -> Markup:
    """Say that there is nothing to show."""
    return tag("p", text, class_="nothing")


def button(
    label: str, path: str, body: Mapping[str, object] | None = None, **attributes: object
) -> Markup:
    """Make a button that sends a request to the admin API.

    `method` is POST unless given; `confirm` is what is asked before; `title` explains.
    """
    method = attributes.pop("method", "POST")
    return tag(
        "button",
        label,
        type="button",
        data_send=path,
        data_method=method,
        data_body=json.dumps(body or {}),
        data_confirm=attributes.pop("confirm", None),
        **attributes,
    )


def form(name: str, path: str, *children: object, **attributes: object) -> Markup:
    """Make a form whose fields are sent to the admin API as one JSON object."""
    return tag("form", *children, id=name, data_send=path, data_method="POST", **attributes)


def field(form_name: str, label: str, name: str, **attributes: object) -> Markup:
    """Make a labelled field; the type is text unless given."""
    identifier = f"{form_name}-{name}"
    return tag(
        "div",
        tag("label", label, for_=identifier),
        tag("input", id=identifier, name=name, autocomplete="off", **attributes),
        class_="field",
    )


def choice(form_name: str, label: str, name: str, options: Iterable[tuple[str, str]]) -> Markup:
    """Make a labelled choice between values, each with the text that is shown."""
    identifier = f"{form_name}-{name}"
    items = [tag("option", text, value=value) for value, text in options]
    return tag(
        "div",
        tag("label", label, for_=identifier),
        tag("select", items, id=identifier, name=name),
        class_="field",
    )
