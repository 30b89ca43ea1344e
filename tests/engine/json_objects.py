"""JSON as envelopes need it, whose keys may repeat and whose numbers keep their spelling.

An object is a list of (key, value) pairs behind `Object`; `Raw` is written to the JSON text as it is.
"""

from json.encoder import encode_basestring_ascii as quoted
from typing import Any

LITERALS = {None: "null", True: "true", False: "false"}


class Raw(str):
    """JSON text that is written as it is."""

    __slots__ = ()


class Object:
    """A JSON object whose keys may repeat."""

    __slots__ = ("pairs",)

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        self.pairs = pairs


def write(value: Any) -> str:
    """The JSON text of a generated value."""
    kind = type(value)
    if kind is str:
        return quoted(value)
    if kind is Raw:
        return value
    if kind is Object:
        return "{" + ",".join([f"{quoted(name)}:{write(part)}" for name, part in value.pairs]) + "}"
    if kind is list:
        return "[" + ",".join([write(part) for part in value]) + "]"
    return LITERALS[value]


def objects_of(value: Any) -> list[Object]:
    """Every object in a value, itself included."""
    found: list[Object] = []
    waiting = [value]
    while waiting:
        current = waiting.pop()
        if isinstance(current, Object):
            found.append(current)
            waiting.extend(child for _, child in current.pairs)
        elif isinstance(current, list):
            waiting.extend(current)
    return found


def camel(name: str) -> str:
    """`account_id` as `accountId`."""
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)
