"""What a source distribution must show: it builds with nothing but what Cargo.lock names, offline."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NEEDED = (
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "PKG-INFO",
    "README.md",
    "pyproject.toml",
    "rust/core/Cargo.toml",
    "rust/python/build.rs",
    "python/schematic_native/py.typed",
)


def faults(archive: Path, directory: Path) -> Iterator[str]:
    """Yield what is wrong with a source distribution: one sentence each.

    It is unpacked into `directory` and built there, quickly, with the crates that are already on
    this machine.
    """
    with tarfile.open(archive) as opened:
        names = set(opened.getnames())
        opened.extractall(directory, filter="data")
    root = archive.name.removesuffix(".tar.gz")
    for needed in NEEDED:
        if f"{root}/{needed}" not in names:
            yield f"sdist: {needed} is missing"
    for name in sorted(names):
        if name.endswith((".so", ".pyd", ".whl")) or f"{root}/target/" in name:
            yield f"sdist: {name} is built, not source"
    done = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation",
         "--wheel-dir", str(directory), str(directory / root)],
        env={**os.environ, "CARGO_NET_OFFLINE": "true", "MATURIN_PEP517_ARGS": "--profile dev --locked"},
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    if done.returncode != 0:
        yield f"sdist: it does not build offline: {done.stderr.strip()[-800:]}"
