"""What was measured: samples of one subject doing one thing."""

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
        call: what it did, for example "check".
        world: "small" or "big", or what else was varied; empty if nothing was.
        subject: who did it.
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
        """What tells this series from others."""
        return self.call, self.world, self.subject


def write(path: Path, series: Sequence[Series]) -> None:
    """Write a run as JSON, with what it ran on."""
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
        ValueError: the file is none, with what is wrong.

    """
    try:
        run: Any = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(run, dict) or run.get("format") != FORMAT:
        raise ValueError(f"{path} is not a benchmark run of format {FORMAT}")
    return [Series(**one) for one in run["series"]]
