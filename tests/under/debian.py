"""Programs of other Debian suites in `.debian`, run with the libc that lies beside them.

scripts/install_debian_tree.sh fills a folder for each suite.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tests.under.probe import ROOT

if TYPE_CHECKING:
    from collections.abc import Sequence

FOLDER = ROOT / ".debian"
LIBRARIES = "usr/lib/x86_64-linux-gnu"


def find(name: str, suite: str = "*") -> Sequence[str] | None:
    """Return the command that runs a program of a suite, by default of any; None if it is not there."""
    for root in sorted(FOLDER.glob(suite)):
        program = root / "usr/bin" / name
        if program.exists():
            loader = root / LIBRARIES / "ld-linux-x86-64.so.2"
            return [str(loader), "--library-path", str(root / LIBRARIES), str(program)]
    return None


def root_of(command: Sequence[str]) -> Path:
    """Return the folder of the suite whose program a command runs."""
    return Path(command[-1]).parent.parent.parent
