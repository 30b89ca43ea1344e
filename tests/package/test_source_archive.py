"""A source distribution that cannot be built as it was tested is told by its fault."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from scripts.source_archive import faults

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("sdist")
    maturin = [sys.executable, "-m", "maturin", "sdist", "--out", str(directory)]
    subprocess.run(maturin, cwd=ROOT, check=True, capture_output=True)
    (archive,) = directory.glob("*.tar.gz")
    return archive


def missing_lock(source: Path) -> None:
    (source / "Cargo.lock").unlink()


def missing_stub_marker(source: Path) -> None:
    (source / "python/schematic_native/py.typed").unlink()


def built_extension(source: Path) -> None:
    (source / "python/schematic_native/_native.abi3.so").touch()


def older_lock(source: Path) -> None:
    manifest = source / "Cargo.toml"
    manifest.write_text(manifest.read_text().replace('thiserror = "2"', 'thiserror = "1"'))


def wrong_source(source: Path) -> None:
    (source / "rust/python/build.rs").write_text("fn main() { no_such_function() }")


BROKEN = {
    "sdist: Cargo.lock is missing": missing_lock,
    "sdist: python/schematic_native/py.typed is missing": missing_stub_marker,
    "is built, not source": built_extension,
    "sdist: Cargo.lock does not fit": older_lock,
    "sdist: it does not build offline": wrong_source,
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_archive_is_told_by_its_fault(fault: str, good: Path, tmp_path: Path) -> None:
    break_it: Callable[[Path], None] = BROKEN[fault]
    root = good.name.removesuffix(".tar.gz")
    with tarfile.open(good) as opened:
        opened.extractall(tmp_path, filter="data")
    break_it(tmp_path / root)
    broken = tmp_path / "broken" / good.name
    broken.parent.mkdir()
    with tarfile.open(broken, "w:gz") as archive:
        archive.add(tmp_path / root, root)
    found = list(faults(broken, tmp_path / "unpacked"))
    assert any(fault in told for told in found), found
