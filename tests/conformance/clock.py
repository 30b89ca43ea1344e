"""The instant at which a vector is: only the vector moves it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

# Epoch milliseconds at which every vector begins.
START = 1_700_000_000_000


class Clock:
    """A clock that stands still until it is moved; reads epoch seconds when called.

    Other clocks may follow it: `on_move` is told the epoch milliseconds.
    """

    def __init__(self, on_move: Callable[[int], None] = lambda _milliseconds: None) -> None:
        self.elapsed = 0  # milliseconds since the start
        self._on_move = on_move
        on_move(START)

    def __call__(self) -> float:
        return instant(self.elapsed)

    def advance(self, milliseconds: int) -> None:
        self.elapsed += milliseconds
        self._on_move(START + self.elapsed)


def instant(offset: float) -> float:
    """Turn milliseconds since the start into epoch seconds."""
    return (START + offset) / 1000


def offset(epoch: float) -> int:
    """Turn epoch seconds into milliseconds since the start."""
    return round(epoch * 1000) - START
