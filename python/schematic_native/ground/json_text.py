"""Reads and writes JSON, with the standard library.

The core reads and writes what is large; this is for requests, responses and traits. The faster libraries do
not support free-threaded Python.
"""

from __future__ import annotations

import json
import math
from json.encoder import encode_basestring
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Mapping


class NotJSONError(ValueError):
    """A text is not JSON; the message says what is wrong, and where."""


def read(content: str | bytes) -> Any:
    """Return the value of a JSON text; bytes are UTF-8.

    Raises:
        NotJSONError: it is not JSON, or is nested too deeply.

    """
    try:
        text = content.decode() if isinstance(content, bytes) else content
        return _DECODER.decode(text)
    except (ValueError, RecursionError) as error:
        raise NotJSONError(str(error)) from error


def write(value: object, *, sort_keys: bool = False) -> bytes:
    """Write a value as JSON, in UTF-8 and without spaces.

    Dates, times, UUIDs and decimals become strings, sets become lists.

    Raises:
        TypeError: something in it cannot be written as JSON: a key that is not a str, a number that
            is not finite, or an object of another class.

    """
    return _encoded(_ENCODERS[sort_keys], value)


def write_traits(value: object) -> bytes:
    """Write traits as the published package does: with another text, the service would see another value.

    A time in UTC ends with `Z`; dataclasses, Pydantic models, fractions and IP addresses are written as well.

    Raises:
        TypeError: as by `write`.

    """
    return _encoded(_TRAIT_ENCODER, value)


def texts(values: Mapping[str, str]) -> str:
    """Write a mapping of str to str as JSON: in a quarter of the time that the encoder takes."""
    pairs = [
        f"{encode_basestring(name)}:{encode_basestring(text)}" for name, text in values.items()
    ]
    return f"{{{','.join(pairs)}}}"


def _encoded(encoder: json.JSONEncoder, value: object) -> bytes:
    try:
        return encoder.encode(value).encode()
    except (ValueError, RecursionError) as error:
        raise TypeError(str(error)) from error


def _plain(value: object) -> object:
    """Convert a value that JSON does not have and traits often contain."""
    from datetime import date, time  # noqa: PLC0415 - rarely needed
    from decimal import Decimal  # noqa: PLC0415
    from enum import Enum  # noqa: PLC0415
    from uuid import UUID  # noqa: PLC0415

    if isinstance(value, (date, time)):
        return value.isoformat()
    if isinstance(value, (UUID, Decimal)):
        return str(value)
    if isinstance(value, (set, frozenset)):
        return list(value)
    if isinstance(value, Enum):
        return value.value
    raise TypeError(f"{type(value).__name__} is no JSON value")


def _plain_trait(value: object) -> object:
    """Convert a value that is not JSON into what the published package makes of it."""
    from collections import deque  # noqa: PLC0415 - rarely needed
    from dataclasses import fields, is_dataclass  # noqa: PLC0415
    from fractions import Fraction  # noqa: PLC0415

    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    dump = getattr(value, "model_dump", None)
    if callable(dump) and not isinstance(value, type):
        return dump(mode="json", by_alias=True, exclude_unset=True)
    if isinstance(value, deque):
        return list(value)
    if isinstance(value, Fraction) or type(value).__module__ == "ipaddress":
        return str(value)
    plain = _plain(value)
    if isinstance(plain, str) and plain.endswith(_UTC_OFFSET) and hasattr(value, "utcoffset"):
        return plain.removesuffix(_UTC_OFFSET) + "Z"
    return plain


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError(f"{digits} is beyond every number")
    return number


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON number")


_UTC_OFFSET = "+00:00"
# Made once: making a decoder takes longer than reading a short text with it.
_DECODER = json.JSONDecoder(parse_float=_finite, parse_constant=_refuse)
_ENCODERS = {
    sort_keys: json.JSONEncoder(
        ensure_ascii=False,
        allow_nan=False,
        separators=(",", ":"),
        sort_keys=sort_keys,
        default=_plain,
    )
    for sort_keys in (False, True)
}
_TRAIT_ENCODER = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_plain_trait
)
