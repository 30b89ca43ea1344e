"""Which requests came: counted by the place where faults select them, and by endpoint and answer.

It counts and is read; nothing is decided by it.
"""

from __future__ import annotations

import re
from collections import Counter

_LEASE = "/billing/credits/lease"
_PLACES: list[tuple[re.Pattern[str], str]] = [
    (re.compile("/_emulator/.*"), "admin"),
    (re.compile("/batch"), "capture"),
    (re.compile("/datastream"), "datastream"),
    (re.compile(_LEASE), "acquire"),
    (re.compile(_LEASE + "/[^/]+/extend"), "extend"),
    (re.compile("/billing/credits/(lease|reservations)/[^/]+/release"), "release"),
    (re.compile("/flags/.*"), "check"),
]


def place_of(path: str) -> str:
    """Name the kind of a path, as faults select it."""
    return next((place for pattern, place in _PLACES if pattern.fullmatch(path)), "other")


class Traffic:
    """The counts since the emulator started."""

    def __init__(self) -> None:
        # How many requests came to each kind of path, faults included.
        self.requests: Counter[str] = Counter()
        # What was asked for that the emulator does not know, by method and path.
        self.unknown: Counter[str] = Counter()
