"""Reads one argument of a call: returns its value, or raises an error that names the argument.

Each function raises TypeError or ValueError, with a message that says what would be right. Nothing here knows
what an argument is for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from schematic_native._native import read_quantity

# Lookup keys, checked.
Keys = Mapping[str, str]
# Seconds, about three weeks: every lock, socket and event loop on every platform can wait that long. A longer wait
# becomes this one.
LONGEST_WAIT = 2_000_000.0
# Characters of a wrong value that a message shows.
LONGEST_SHOWN = 200


def is_usage(value: float) -> bool:
    """Tell whether a number can be usage: finite and not negative."""
    try:
        return math.isfinite(value) and value >= 0
    except OverflowError:  # an int beyond the doubles
        return False


def shown(value: object) -> str:
    """Return the repr of a wrong value for a message, shortened; if it has none, its class."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - the class of the value may be broken as well
        return f"a {type(value).__name__}"
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."


def check_text(name: str, value: object) -> str:
    """Require a str that UTF-8 can encode."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a str, got {shown(value)}")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ValueError(
                f"{name} must be text that UTF-8 can hold, got {shown(value)}"
            ) from None
    return value


def check_optional_text(name: str, value: object) -> None:
    """Require a str that UTF-8 can encode, or None."""
    if value is not None:
        check_text(name, value)


def read_text(name: str, value: object) -> str:
    """Require a str that is not empty."""
    text = check_text(name, value)
    if not text:
        raise ValueError(f"{name} must not be empty")
    return text


def read_keys(name: str, value: object) -> Keys | None:
    """Require a mapping of str to str or UUID, or None.

    Returns a copy: the caller may change the mapping while the call waits.
    """
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} must be a mapping of str to str, got {shown(value)}")
    keys: dict[str, str] = {}
    for key, item in value.items():
        text = item if isinstance(item, str) else _id_text(item)
        if not isinstance(key, str) or text is None:
            raise TypeError(
                f"{name} must be a mapping of str to str, got {shown(key)}: {shown(item)}"
            )
        keys[check_text(name, key)] = check_text(name, text)
    return keys


def _id_text(value: object) -> str | None:
    """Return the text of a UUID, None for anything else."""
    from uuid import UUID  # noqa: PLC0415 - only loaded if there is a UUID

    return str(value) if isinstance(value, UUID) else None


def check_default(value: object) -> None:
    """Require a bool, a function, or None."""
    if value is not None and not isinstance(value, bool) and not callable(value):
        raise TypeError(
            f"default_value must be a bool or a function that returns one, got {shown(value)}"
        )


def read_timeout(value: object) -> float:
    """Require a number of seconds."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"timeout must be a number of seconds, got {shown(value)}")
    seconds = read_quantity("timeout", value)
    if not is_usage(seconds):
        raise ValueError(f"timeout must be a finite number of seconds, 0 or more, got {seconds!r}")
    return min(seconds, LONGEST_WAIT)


def wrong_kind(name: str, kind: type, value: object) -> TypeError:
    """Return the error for a value that must be an instance of a class of this package.

    The published package has classes of the same names, so the message has the modules, too.
    """
    other = type(value)
    found = other.__qualname__
    if other.__module__ != "builtins":
        found = f"{other.__module__}.{found}"
    return TypeError(f"{name} must be schematic_native.{kind.__name__}, not {found}")


def check_options(options: object, kind: type) -> None:
    """Require options of one class, or None."""
    if options is not None and not isinstance(options, kind):
        raise wrong_kind("options", kind, options)


def check_optional(name: str, value: object, kind: type) -> None:
    """Require a value of one class, or None."""
    if value is not None and not isinstance(value, kind):
        raise TypeError(f"{name} must be a {kind.__name__}, got {shown(value)}")


def check_bool(name: str, value: object) -> None:
    """Require a bool."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be a bool, got {shown(value)}")


def check_count(name: str, value: object) -> None:
    """Require an int that is not negative."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, got {shown(value)}")
    if value < 0:
        raise ValueError(f"{name} must be 0 or more, got {shown(value)}")


def read_amounts(name: str, values: object) -> dict[str, float]:
    """Require a mapping of str to a finite number that is not negative."""
    if not isinstance(values, Mapping):
        raise TypeError(f"{name} must be a mapping of str to number, got {shown(values)}")
    amounts = {}
    for key, value in values.items():
        if not isinstance(key, str):
            raise TypeError(f"{name} must have str keys, got {shown(key)}")
        check_text(name, key)
        amounts[key] = read_amount(f"{name}[{key!r}]", value)
    return amounts


def read_amount(name: str, value: object) -> float:
    """Require a finite number that is not negative."""
    if isinstance(value, bool):
        raise TypeError(f"{name} must be a number, got {shown(value)}")
    number = read_quantity(name, value)
    if not is_usage(number):
        raise ValueError(f"{name} must be finite and 0 or more, got {number!r}")
    return number
