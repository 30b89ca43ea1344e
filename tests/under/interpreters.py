"""Probes of the interpreters of this machine: one extension for the stable ABI serves them all.

An interpreter is looked for on the path, among pyenv's, and in folders that scripts/install_debian_tree.sh filled.
"""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tests.under import debian
from tests.under.probe import ROOT, Finding, NotTriedError, Probe, program

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from schematic_native.emulator import Emulator

VERSIONS = ("3.10", "3.11", "3.12", "3.13", "3.14", "3.15")
# The package's own dependencies, and what the oldest of the interpreters needs besides.
NEEDED = ("httpx>=0.27", "redis>=5.0.1", "sniffio>=1.3", "websockets>=15")
BACKPORTS = ("async-timeout", "exceptiongroup", "typing-extensions")


def find(version: str) -> tuple[Sequence[str], dict[str, str]]:
    """Return the command of an interpreter, and the environment that it needs.

    Raises:
        NotTriedError: there is none.

    """
    for command in _candidates(version):
        found = subprocess.run([*command, "--version"], capture_output=True, text=True, check=False)
        if found.stdout.startswith(f"Python {version}."):
            return command, {}
    command = debian.find(f"python{version}")
    if command is None:
        where = "on the path, among pyenv's, in .debian"
        raise NotTriedError(f"no python{version} was found ({where})")
    return command, {"PYTHONHOME": str(debian.root_of(command) / "usr")}


def _candidates(version: str) -> Iterator[Sequence[str]]:
    if platform.python_version().startswith(f"{version}."):
        yield [sys.executable]
    found = shutil.which(f"python{version}")
    if found is not None:
        yield [found]
    for folder in sorted((Path.home() / ".pyenv/versions").glob(f"{version}.*")):
        yield [str(folder / "bin" / "python")]


def run(version: str, emulator: Emulator) -> Finding:
    """Run the plain program with what it needs, installed for that version."""
    python, env = find(version)
    with tempfile.TemporaryDirectory() as folder:
        install = [sys.executable, "-m", "pip", "install", "--quiet", "--target", folder]
        install += ["--only-binary", ":all:", "--python-version", version, *NEEDED, *BACKPORTS]
        subprocess.run(install, check=True, capture_output=True)
        env |= {"PYTHONPATH": f"{folder}:{ROOT}:{ROOT / 'python'}"}
        told = program(emulator, "plain", python=python, env=env)
    return Finding(told["units"], f"CPython {told['python']}")


PROBES = [Probe("Interpreters", f"CPython {each}", partial(run, each)) for each in VERSIONS]
