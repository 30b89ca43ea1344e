"""Print the oldest releases that the package says it works with, one requirement a line."""

from __future__ import annotations

import re
import sys
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PROJECT = Path(__file__).parent.parent / "pyproject.toml"
LOWEST = re.compile(r"([\w.-]+)>=([\w.]+)")


def oldest(text: str) -> list[str]:
    """Return what a project needs at run time, each pinned to its lowest release.

    Raises:
        ValueError: a requirement names no lowest release.

    """
    project = tomllib.loads(text)["project"]
    needed = [*project["dependencies"], *project["optional-dependencies"]["emulator"]]
    pins = []
    for requirement in needed:
        found = LOWEST.match(requirement)
        if found is None:
            raise ValueError(f"{requirement!r} must name its lowest release: NAME>=VERSION")
        pins.append(f"{found[1]}=={found[2]}")
    return pins


if __name__ == "__main__":
    print("\n".join(oldest(PROJECT.read_text(encoding="utf-8"))))
