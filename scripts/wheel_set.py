"""Assert what is about to be released: `python -m scripts.wheel_set dist`.

Exactly the wheels below and one source distribution, all of the workspace's version. One too few
would leave somebody to compile, one too many was never tested.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from scripts.wheel_file import workspace_version

# One wheel for every Python from 3.10 on, one for the free-threaded 3.14, which has no stable ABI,
# and one for the free-threaded ones from 3.15 on.
ABIS = ("cp310-abi3", "cp314-cp314t", "cp315-abi3.abi3t")
PLATFORMS = (
    "macosx_10_12_x86_64",
    "macosx_11_0_arm64",
    "manylinux2014_aarch64.manylinux_2_17_aarch64",
    "manylinux2014_x86_64.manylinux_2_17_x86_64",
    "musllinux_1_2_aarch64",
    "musllinux_1_2_x86_64",
    "win_amd64",
)


def released(version: str) -> set[str]:
    """Return the names of the files that make up a release."""
    stem = f"schematic_native-{version}"
    wheels = {f"{stem}-{abi}-{platform}.whl" for abi in ABIS for platform in PLATFORMS}
    return wheels | {f"{stem}.tar.gz"}


def differences(directory: Path, version: str) -> list[str]:
    """Return a line for each file that is missing from a directory or too many in it."""
    wanted, there = released(version), {path.name for path in directory.iterdir()}
    missing = [f"missing: {name}" for name in sorted(wanted - there)]
    return missing + [f"too many: {name}" for name in sorted(there - wanted)]


def main() -> int:
    """Compare the directory named on the command line with the release."""
    parser = argparse.ArgumentParser(description="assert the exact set of files of a release")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--tag", help="the git tag of the release, which must be v<version>")
    arguments = parser.parse_args()
    version = workspace_version()
    found = differences(arguments.directory, version)
    if arguments.tag not in {None, f"v{version}"}:
        found.append(f"tag: {arguments.tag} is not v{version}")
    print("\n".join(found) or f"{len(released(version))} files, the whole release {version}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
