"""Reading a request's body: a JSON object, and typed fields of it.

Each function names the field that is wrong and what would do; none knows what the field is for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from schematic_native.emulator.clock import parse_instant
from schematic_native.emulator.credits.amounts import is_finite
from schematic_native.emulator.errors import InvalidRequestError
from schematic_native.ground import json_text

if TYPE_CHECKING:
    from starlette.requests import Request

Entity = dict[str, Any]


async def read_object(request: Request) -> Entity:
    """Read a JSON object; an empty body is an empty object.

    Raises:
        InvalidRequestError: The body is something else.

    """
    content = await request.body()
    if not content:
        return {}
    try:
        body = json_text.read(content)
    except json_text.NotJSONError as error:
        raise InvalidRequestError(f"the body is not valid JSON: {error}") from error
    if not isinstance(body, dict):
        raise InvalidRequestError("the body must be a JSON object")
    return body


def text(body: Entity, name: str) -> str:
    """Return a required, non-empty string of a body."""
    value = body.get(name)
    if not isinstance(value, str) or not value:
        raise InvalidRequestError(f"{name} must be a non-empty string, got {value!r}")
    return value


def optional_text(body: Entity, name: str) -> str | None:
    """Return a string of a body, or None where it is left out."""
    return None if body.get(name) is None else text(body, name)


def number(body: Entity, name: str) -> float:
    """Return a required finite number of a body."""
    value = body.get(name)
    if not is_finite(value):
        raise InvalidRequestError(f"{name} must be a finite number, got {value!r}")
    return value


def instant(body: Entity, name: str) -> float | None:
    """Return an RFC 3339 instant of a body as epoch seconds, or None where it is left out."""
    value = optional_text(body, name)
    if value is None:
        return None
    try:
        return parse_instant(value)
    except ValueError as error:
        raise InvalidRequestError(f"{name} must be an RFC 3339 instant, got {value!r}") from error


def keys(body: Entity, name: str) -> dict[str, str] | None:
    """Return the lookup keys of a company or user, or None where they are left out."""
    value = body.get(name)
    if value is None:
        return None
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value.values()):
        raise InvalidRequestError(f"{name} must be an object of strings, got {value!r}")
    return value


def preflight(body: Entity) -> Entity:
    """Return the preflight of a check as the engine's options."""
    value = body.get("preflight")
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidRequestError(f"preflight must be an object, got {value!r}")
    return {name: part for name, part in value.items() if part is not None}
