"""What a pod did, line by line: each is in the file before the pod goes on, so no kill loses it."""

from __future__ import annotations

import json
import os
import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from schematic_native import Reservation


class Journal:
    """Writes one pod's journal."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._lock = threading.Lock()

    def write(self, what: str, *words: Any) -> None:
        line = json.dumps([what, *words]).encode() + b"\n"
        with self._lock:
            os.write(self._file, line)

    def held(self, hold: Reservation) -> None:
        self.write("held", hold.id, hold.lease_id, hold.credits_reserved)


@dataclass
class Settle:
    """A settle that a pod began."""

    units: int
    credits: float
    came_back: bool = False
    late: bool = False  # it came back when its hold had lapsed already


@dataclass
class Story:
    """What one pod's journal tells."""

    killed: bool
    held: dict[str, float] = field(default_factory=dict)
    leases: set[str] = field(default_factory=set)
    settles: dict[str, Settle] = field(default_factory=dict)
    denied: Counter[str] = field(default_factory=Counter)
    raised: list[str] = field(default_factory=list)
    undelivered: int | None = None  # None: it did not come to its end

    def tell(self, what: str, *words: Any) -> None:
        """Take one line in."""
        if what == "held":
            hold_id, lease_id, credits_held = words
            self.held[hold_id] = credits_held
            self.leases.add(lease_id)
        elif what == "settling":
            hold_id, units, credits_used = words
            self.settles[hold_id] = Settle(units, credits_used)
        elif what == "settled":
            hold_id, late = words
            self.settles[hold_id].came_back, self.settles[hold_id].late = True, late
        elif what == "denied":
            self.denied[words[0]] += 1
        elif what == "raised":
            self.raised.append(words[0])
        elif what == "ended":
            self.undelivered = words[0]


def read(path: Path, *, killed: bool) -> Story:
    """Read a journal; of a killed pod the last line may be cut."""
    story = Story(killed)
    lines = path.read_bytes().split(b"\n") if path.exists() else []
    for line in lines[:-1]:
        story.tell(*json.loads(line))
    return story
