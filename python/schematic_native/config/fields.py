"""Reads one field of a configuration: returns its value, or raises an error that names the field.

Nothing here knows which fields there are.
"""

from __future__ import annotations

import math
from typing import Literal
from urllib.parse import urlsplit

from schematic_native._native import read_quantity
from schematic_native.config.defaults import LARGEST_LEASE, LONGEST_TERM, SHORTEST_INTERVAL
from schematic_native.ground.arguments import LONGEST_WAIT, shown


def require(name: str, value: object, kind: type) -> None:
    """Require a value of one type."""
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be a {kind.__name__}, got {shown(value)}")


def read_number(name: str, value: object, what: str) -> float:
    """Require a finite number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number of {what}, got {shown(value)}")
    number = read_quantity(name, value)
    if not math.isfinite(number):
        raise ValueError(f"{name} must be a finite number of {what}, got {number!r}")
    return number


def read_positive(name: str, value: object, default: float, what: str) -> float:
    """Require a number above 0; None becomes the default."""
    if value is None:
        return default
    number = read_number(name, value, what)
    if number <= 0:
        raise ValueError(f"{name} must be a number of {what} above 0, got {shown(value)}")
    return number


def read_interval(name: str, value: object, default: float) -> float:
    """Require a number of seconds above 0, and make an interval of it; None becomes the default."""
    return as_interval(read_positive(name, value, default, "seconds"))


def as_interval(seconds: float) -> float:
    """Return the nearest interval that a timer can keep and that leaves time for other work."""
    return min(max(seconds, SHORTEST_INTERVAL), LONGEST_WAIT)


def read_count(name: str, value: object, default: int, most: int) -> int:
    """Require an int from 1 to the most allowed; None becomes the default."""
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, got {shown(value)}")
    if not 1 <= value <= most:
        raise ValueError(f"{name} must be between 1 and {most}, got {shown(value)}")
    return value


def read_whole(name: str, value: object, default: int, unit: str) -> int:
    """Require an int above 0; None becomes the default."""
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int ({unit}), got {shown(value)}")
    if value <= 0:
        raise ValueError(f"{name} must be a number of {unit} above 0, got {shown(value)}")
    return value


def read_term(
    name: str, value: object, default: float, what: Literal["seconds", "credits"]
) -> float:
    """Require a number that the core can count with; None becomes the default."""
    number = read_positive(name, value, default, what)
    most = LONGEST_TERM if what == "seconds" else LARGEST_LEASE
    if number > most:
        raise ValueError(f"{name} must be at most {most:g} {what}, got {number!r}")
    return number


def read_share(name: str, value: object, default: float) -> float:
    """Require a number from 0 to 1; None becomes the default."""
    if value is None:
        return default
    share = read_number(name, value, "share of the grant")
    if not 0 <= share <= 1:
        raise ValueError(f"{name} must be between 0 and 1, got {shown(value)}")
    return share


def read_at_least_zero(name: str, value: object, what: str) -> float:
    """Require a number that is 0 or more."""
    number = read_number(name, value, what)
    if number < 0:
        raise ValueError(f"{name} must be a number of {what}, 0 or more, got {shown(value)}")
    return number


def read_url(name: str, value: object, default: str) -> str:
    """Require an http:// or https:// URL; None and blank text become the default."""
    if value is None:
        return default
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a str, got {type(value).__name__}")
    url = value.strip().rstrip("/")
    if not url:
        return default
    try:
        parts = urlsplit(url)
        valid = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid:
        raise ValueError(f"{name} must be an http:// or https:// URL, got {shown(value)}")
    return url
