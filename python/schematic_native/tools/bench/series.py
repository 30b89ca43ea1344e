"""Samples of one subject and one call, and runs of them as JSON files."""

from __future__ import annotations

import json
import platform
import sys
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from schematic_native import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

FORMAT = 1


@dataclass(frozen=True)
class Series:
    """Samples of one subject.

    Attributes:
        call: for example "check".
        world: "small" or "big", or another thing that varies; empty if nothing does.
        subject: the library or client.
        unit: of the values: "us", "ms", "KB" or "M/s".
        values: one for each round, for one call.

    """

    call: str
    world: str
    subject: str
    unit: str
    values: list[float]

    @property
    def name(self) -> tuple[str, str, str]:
        """The identity of this series."""
        return self.call, self.world, self.subject


def write(path: Path, series: Sequence[Series]) -> None:
    """Write a run as JSON, with a description of the machine."""
    run = {
        "format": FORMAT,
        "schematic_native": __version__,
        "python": sys.version.split()[0],
        "machine": platform.machine(),
        "system": platform.platform(),
        "series": [asdict(one) for one in series],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(run, indent=1) + "\n")


def read(path: Path) -> list[Series]:
    """Read a run that `write` wrote.

    Raises:
        ValueError: the file is not such a run; the message says what is wrong.

    """
    try:
        run: Any = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(run, dict) or run.get("format") != FORMAT:
        raise ValueError(f"{path} is not a benchmark run of format {FORMAT}")
    return [Series(**one) for one in run["series"]]
