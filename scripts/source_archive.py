"""What a source distribution must show: it builds with nothing but what Cargo.lock names, offline."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent
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

    It is unpacked into `directory` and built there, in a profile that is quick.
    """
    with tarfile.open(archive) as opened:
        names = opened.getnames()
        opened.extractall(directory, filter="data")
    root = archive.name.removesuffix(".tar.gz")
    found = list(_content_faults(names, root))
    yield from found or _build_faults(directory / root)


def _content_faults(names: list[str], root: str) -> Iterator[str]:
    for needed in NEEDED:
        if f"{root}/{needed}" not in names:
            yield f"sdist: {needed} is missing"
    for name in names:
        if name.endswith((".so", ".pyd", ".whl")) or name.startswith(f"{root}/target/"):
            yield f"sdist: {name} is built, not source"


def _build_faults(source: Path) -> Iterator[str]:
    """Fetch the crates, as Cargo.lock has them, and build without a network."""
    fetched = _run(source, "cargo", "fetch", "--quiet", "--locked")
    if fetched.returncode != 0:
        yield f"sdist: Cargo.lock does not fit: {fetched.stderr.strip()[-500:]}"
        return
    # Archives bear one fixed date: cargo would take what it built of another for this one.
    for file in source.rglob("*.rs"):
        file.touch()
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    built = _run(
        source,
        *[*pip, "--wheel-dir", "dist", "."],
        CARGO_NET_OFFLINE="true",
        # Crates that were built for another archive need not be built again.
        CARGO_TARGET_DIR=str(ROOT / "target" / "sdist"),
        MATURIN_PEP517_ARGS="--profile dev --locked",
    )
    if built.returncode != 0:
        yield f"sdist: it does not build offline: {built.stderr.strip()[-800:]}"


def _run(source: Path, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    # The build backend is a program beside this interpreter.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        command,
        cwd=source,
        env={**os.environ, "PATH": path, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
