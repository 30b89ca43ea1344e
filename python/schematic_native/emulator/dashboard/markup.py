"""HTML from Python: elements whose text and attributes are always escaped."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_VOID = frozenset({"input", "link", "meta", "rect"})


class Markup(str):
    """Text that is HTML already, and is not escaped again."""

    __slots__ = ()


def tag(name: str, /, *children: object, **attributes: object) -> Markup:
    """Make an element.

    A child is escaped unless it is `Markup`; None and False are left out, and lists are flattened. An
    attribute named `data_id` or `class_` becomes `data-id` or `class`; True stands without a value.
    """
    opening = name + "".join(
        _attribute(attribute.rstrip("_").replace("_", "-"), value)
        for attribute, value in attributes.items()
    )
    if name in _VOID:
        return Markup(f"<{opening}>") if name != "rect" else Markup(f"<{opening}/>")
    return Markup(f"<{opening}>{joined(children)}</{name}>")


def joined(children: Iterable[object]) -> Markup:
    """Write children one after the other."""
    return Markup("".join(_child(child) for child in children))


def _child(child: object) -> str:
    if child is None or child is False:
        return ""
    if isinstance(child, Markup):
        return child
    if isinstance(child, (list, tuple)):
        return joined(child)
    return escape(str(child))


def _attribute(name: str, value: object) -> str:
    if value is None or value is False:
        return ""
    return f" {name}" if value is True else f' {name}="{escape(str(value))}"'
