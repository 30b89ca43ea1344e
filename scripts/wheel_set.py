"""Assert that a folder holds the files of a release: every one, and nothing else.

    python -m scripts.wheel_set dist --tag v1.2.3

One too few would leave somebody to compile, one too many was never tested.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter
from pathlib import Path

# One for every version of CPython from 3.10 on, one for the free-threaded 3.14, which has no stable
# ABI, and one for the free-threaded ones from 3.15 on.
INTERPRETERS = ("cp310-abi3", "cp314-cp314t", r"cp315-abi3\.abi3t")
PLATFORMS = (
    # The older name of the tag goes along, before or after it.
    r"(manylinux2014_x86_64\.)?manylinux_2_17_x86_64(\.manylinux2014_x86_64)?",
    r"(manylinux2014_aarch64\.)?manylinux_2_17_aarch64(\.manylinux2014_aarch64)?",
    "musllinux_1_2_x86_64",
    "musllinux_1_2_aarch64",
    r"macosx_\d+_\d+_x86_64",
    r"macosx_\d+_\d+_arm64",
    "win_amd64",
)


def expected(version: str) -> list[re.Pattern[str]]:
    """Return a pattern for each file of a release."""
    wheel = f"schematic_native-{re.escape(version)}"
    patterns = [rf"{wheel}-{i}-{platform}\.whl" for i in INTERPRETERS for platform in PLATFORMS]
    return [re.compile(pattern) for pattern in [*patterns, rf"{wheel}\.tar\.gz"]]


def faults(names: list[str], version: str) -> list[str]:
    """Say what is missing, what is there twice, and what does not belong."""
    patterns = expected(version)
    found = Counter(
        pattern.pattern for pattern in patterns for name in names if pattern.fullmatch(name)
    )
    missing = [f"missing: {p.pattern}" for p in patterns if found[p.pattern] == 0]
    doubled = [f"more than one: {p.pattern}" for p in patterns if found[p.pattern] > 1]
    strange = [
        f"does not belong: {name}"
        for name in names
        if not any(pattern.fullmatch(name) for pattern in patterns)
    ]
    return missing + doubled + strange


def main() -> int:
    """Check a folder; 0 only if it is exactly a release."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tag", required=True, help="the tag that is released, for example v1.2.3")
    arguments = parser.parse_args()
    names = sorted(path.name for path in arguments.folder.iterdir())
    found = faults(names, arguments.tag.removeprefix("v"))
    print("\n".join(found) if found else f"{len(names)} files, as they should be")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
