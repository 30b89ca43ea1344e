"""A good wheel, and breaking it."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

import pytest
from packaging.tags import sys_tags
from packaging.utils import parse_wheel_filename
from scripts.clean_install import Installation
from scripts.wheel_file import WheelFile

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="session")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel for this interpreter in the folder that SCHEMATIC_DIST names; else one is built."""
    named = os.environ.get("SCHEMATIC_DIST")
    if named:
        here = frozenset(sys_tags())
        wheels = [wheel.resolve() for wheel in Path(named).glob("*.whl")]
        return next(wheel for wheel in wheels if parse_wheel_filename(wheel.name)[3] & here)
    directory = tmp_path_factory.mktemp("good")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    portable = ["--zig", "--compatibility", "manylinux2014"] if sys.platform == "linux" else []
    maturin = [sys.executable, "-m", "maturin", "build", "--quiet", "--release", *portable]
    subprocess.run(
        [*maturin, "--out", str(directory)], cwd=ROOT, env={**os.environ, "PATH": path}, check=True
    )
    (wheel,) = directory.glob("*.whl")
    return wheel


@pytest.fixture(scope="session")
def installation(good: Path, tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """The good wheel, installed with what it depends on."""
    installed = Installation(tmp_path_factory.mktemp("installation"))
    installed.install(f"{good}[emulator]")
    return installed


class Members(dict[str, bytes]):
    """The members of a wheel by name, to be changed and written to another."""

    def __init__(self, wheel: Path) -> None:
        self.good = wheel
        with WheelFile(wheel) as opened:
            super().__init__({name: opened.read(name) for name in opened.names})
            self.info = opened.info
            (self.extension,) = opened.extensions

    def metadata(self, old: bytes, new: bytes) -> None:
        """Replace one text of METADATA, which must be there."""
        name = f"{self.info}/METADATA"
        assert old in self[name]
        self[name] = self[name].replace(old, new, 1)

    def record(self) -> None:
        """Write RECORD anew, so that only what was broken on purpose is at fault."""
        rows = []
        for name, content in self.items():
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=")
            told = not name.endswith("/RECORD")
            rows.append(f"{name},sha256={digest.decode()},{len(content)}" if told else f"{name},,")
        self[f"{self.info}/RECORD"] = "\n".join(rows).encode()

    def write(self, directory: Path, name: str | None = None) -> Path:
        """Write the wheel into `directory`, under the good one's name if none is given."""
        path = directory / (name or self.good.name)
        with ZipFile(path, "w", ZIP_DEFLATED) as opened:
            for member, content in self.items():
                opened.writestr(member, content)
        return path


@pytest.fixture
def members(good: Path) -> Members:
    return Members(good)


@pytest.fixture
def copied(good: Path, tmp_path: Path) -> Path:
    """The good wheel, to be renamed."""
    return Path(shutil.copy(good, tmp_path))
