"""The emulator's own time: real time plus an offset, or a frozen instant."""

from __future__ import annotations

import re
import time
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_RFC_3339 = re.compile(
    r"(\d{4}-\d{2}-\d{2})[Tt ](\d{2}:\d{2}:\d{2})(\.\d+)?([Zz]|[+-]\d{2}:\d{2})", re.ASCII
)


class Clock:
    """Epoch seconds that never run backwards, but for a reset."""

    def __init__(self, real: Callable[[], float] = time.time) -> None:
        self._real = real
        self._latest = 0.0
        self.offset = 0.0
        self.frozen_at: float | None = None

    def reset(self) -> None:
        """Show the real time again, even where that is earlier."""
        self._latest, self.offset, self.frozen_at = 0.0, 0.0, None

    def now(self) -> float:
        """Return the current instant in epoch seconds."""
        instant = self._real() + self.offset if self.frozen_at is None else self.frozen_at
        self._latest = max(self._latest, instant)
        return self._latest

    def advance(self, seconds: float) -> None:
        """Move forward; a frozen clock stays frozen at the later instant."""
        if self.frozen_at is None:
            self.offset += seconds
        else:
            self.frozen_at += seconds

    def freeze(self, at: float | None = None) -> None:
        """Stop at `at` (epoch seconds; the current instant by default)."""
        self.frozen_at = self.now() if at is None else max(at, self.now())

    def resume(self) -> None:
        """Run on from the frozen instant."""
        if self.frozen_at is not None:
            self.offset = self.frozen_at - self._real()
            self.frozen_at = None


def format_instant(epoch_seconds: float) -> str:
    """Write epoch seconds as RFC 3339 in UTC."""
    instant = datetime.fromtimestamp(epoch_seconds, timezone.utc)
    return instant.isoformat(timespec="microseconds").replace("+00:00", "Z")


def parse_instant(text: str) -> float:
    """Read an RFC 3339 instant with any number of fraction digits as epoch seconds.

    Raises:
        ValueError: The text is no RFC 3339 instant.

    """
    match = _RFC_3339.fullmatch(text)
    if match is None:
        raise ValueError(f"not an RFC 3339 instant: {text!r}")
    day, second, fraction, zone = match.groups()
    whole = datetime.fromisoformat(f"{day}T{second}+00:00")
    if zone not in {"Z", "z"}:
        hours, minutes = int(zone[1:3]), int(zone[4:6])
        shift = timedelta(hours=hours, minutes=minutes)
        whole += -shift if zone[0] == "+" else shift
    return whole.timestamp() + float(f"0{fraction or '.0'}")
