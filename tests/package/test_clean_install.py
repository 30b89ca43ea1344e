"""What only shows once a wheel is installed is told, too."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from scripts.clean_install import Installation

    from tests.package.conftest import Members

START = "schematic_native/__init__.py"

# What is appended to the package's first file, and the fault that it makes.
BROKEN = {
    "import: Traceback": "\nraise RuntimeError('broken')\n",
    "import: takes ": "\nimport time\nstart = time.process_time()\n"
    "while time.process_time() - start < 0.1: pass\n",
    "check: allowed=": "\nCheckResult.allowed = None\n",
    "build: profile dev": "\nfrom types import SimpleNamespace\n"
    "__build__ = SimpleNamespace(version=__version__, profile='dev', features=('abi3',))\n",
    "build: features": "\nfrom types import SimpleNamespace\n"
    "__build__ = SimpleNamespace(version=__version__, profile='release', features=())\n",
    "build: it has what only tests need": "\nfrom types import SimpleNamespace\n__build__ = "
    "SimpleNamespace(version=__version__, profile='release', features=('abi3', 'testing'))\n",
    "build: __version__ 9": "\n__version__ = '9'\n",
}
BROKEN["check: allowed="] = """
from schematic_native import client as _client
_client.Schematic.check = lambda *_, **__: type("Result", (), {"allowed": False, "reservation": None})
"""


def installed_faults(installation: Installation, wheel: Path) -> list[str]:
    installation.install("--no-deps", "--force-reinstall", str(wheel))
    version = wheel.name.split("-")[1]
    return list(installation.faults(version, "abi3"))


def test_a_good_wheel_has_no_fault(installation: Installation, good: Path) -> None:
    assert installed_faults(installation, good) == []


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_installation_is_told_by_its_fault(
    fault: str, installation: Installation, members: Members, tmp_path: Path
) -> None:
    members[START] += BROKEN[fault].encode()
    members.record()
    found = installed_faults(installation, members.write(tmp_path))
    assert any(told.startswith(fault) for told in found), found


def test_a_wheel_that_cannot_be_installed_is_refused(
    installation: Installation, tmp_path: Path
) -> None:
    wheel = tmp_path / "schematic_native-0.1.0-cp310-abi3-win_arm64.whl"
    wheel.write_bytes(b"")
    with pytest.raises(RuntimeError, match="not a supported wheel"):
        installation.install(str(wheel))
