"""Verify what is in dist/: `python -m scripts.verify_package dist/*`.

Wheels are read as files and, if this interpreter can load them, installed into a fresh virtual
environment and used. A source distribution is built offline. The exit status is 0 only if nothing
is wrong; each fault is one line.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from packaging.tags import sys_tags
from packaging.utils import parse_wheel_filename

from scripts import clean_install, source_archive, wheel_file


def wheel_faults(wheel: Path) -> tuple[list[str], str]:
    """Return a wheel's faults, and how far it could be looked at."""
    found = wheel_file.faults(wheel)
    _, version, _, tags = parse_wheel_filename(wheel.name)
    if found:
        return found, "read"
    if tags.isdisjoint(sys_tags()):
        return [], "read; another platform or Python has to install it"
    abis = {tag.abi for tag in tags}
    abi = "abi3t" if "abi3t" in abis else min(abis)
    with tempfile.TemporaryDirectory() as directory:
        found = clean_install.faults(wheel, str(version), abi, Path(directory))
    return found, "read, installed and used"


def archive_faults(archive: Path) -> tuple[list[str], str]:
    """Return a source distribution's faults, and how far it was looked at."""
    with tempfile.TemporaryDirectory() as directory:
        return list(source_archive.faults(archive, Path(directory))), "built offline"


def main() -> int:
    """Verify each file named on the command line."""
    parser = argparse.ArgumentParser(description="verify wheels and source distributions")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    failed = 0
    for file in parser.parse_args().files:
        look = wheel_faults if file.suffix == ".whl" else archive_faults
        found, how = look(file.resolve())
        print(f"{'FAIL' if found else 'ok  '}  {file.name} ({file.stat().st_size:,} bytes): {how}")
        for fault in found:
            print(f"      {fault}")
        failed += bool(found)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
