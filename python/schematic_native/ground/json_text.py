"""JSON as bytes, by the standard library.

What is large is read and written by the core; this is for requests, answers and traits. A faster
library would be one that free-threaded Python cannot have.
"""

from __future__ import annotations

import json
import math
from json.encoder import encode_basestring
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Mapping


class NotJSONError(ValueError):
    """A text that is no JSON; the message tells what is wrong, and where."""


def read(content: str | bytes) -> Any:
    """Return the value of a JSON text; bytes are UTF-8.

    Raises:
        NotJSONError: It is no JSON, or is nested too deeply.

    """
    try:
        text = content.decode() if isinstance(content, bytes) else content
        return _DECODER.decode(text)
    except (ValueError, RecursionError) as error:
        raise NotJSONError(str(error)) from error


def write(value: object, *, sort_keys: bool = False) -> bytes:
    """Return a value as JSON, in UTF-8 and without spaces; instants, ids and decimals become text.

    A set becomes a list.

    Raises:
        TypeError: Something in it has no JSON: a key that is no text, a number that is not finite,
            an object of another kind.

    """
    try:
        return _ENCODERS[sort_keys].encode(value).encode()
    except (ValueError, RecursionError) as error:
        raise TypeError(str(error)) from error


def texts(values: Mapping[str, str]) -> str:
    """Return texts by name as JSON, without spaces: in a quarter of the time of an encoder."""
    pairs = [
        f"{encode_basestring(name)}:{encode_basestring(text)}" for name, text in values.items()
    ]
    return f"{{{','.join(pairs)}}}"


def _plain(value: object) -> object:
    """Make text of what people put into traits."""
    from datetime import date, time  # noqa: PLC0415 - seldom needed
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


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError(f"{digits} is beyond every number")
    return number


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON number")


# Made once: making one takes longer than reading a short text with it.
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
