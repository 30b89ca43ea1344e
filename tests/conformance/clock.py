"""The instant at which a vector is: only the vector moves it."""

from __future__ import annotations

# Epoch milliseconds at which every vector begins.
START = 1_700_000_000_000


class Clock:
    """A clock that stands still until it is moved; reads epoch seconds when called."""

    def __init__(self) -> None:
        self.elapsed = 0  # milliseconds since the start

    def __call__(self) -> float:
        return instant(self.elapsed)

    def advance(self, milliseconds: int) -> None:
        self.elapsed += milliseconds


def instant(offset: float) -> float:
    """Turn milliseconds since the start into epoch seconds."""
    return (START + offset) / 1000


def offset(epoch: float) -> int:
    """Turn epoch seconds into milliseconds since the start."""
    return round(epoch * 1000) - START
