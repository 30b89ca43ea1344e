"""A release is complete, or it is refused."""

from __future__ import annotations

import pytest
from scripts.wheel_set import faults

INTERPRETERS = ("cp310-abi3", "cp314-cp314t", "cp315-abi3.abi3t")
PLATFORMS = (
    "manylinux2014_x86_64.manylinux_2_17_x86_64",
    "manylinux_2_17_aarch64.manylinux2014_aarch64",
    "musllinux_1_2_x86_64",
    "musllinux_1_2_aarch64",
    "macosx_10_12_x86_64",
    "macosx_11_0_arm64",
    "win_amd64",
)
WHEELS = [
    f"schematic_native-1.2.3-{i}-{platform}.whl" for i in INTERPRETERS for platform in PLATFORMS
]
RELEASE = [*WHEELS, "schematic_native-1.2.3.tar.gz"]


def test_the_whole_release_is_taken() -> None:
    assert len(RELEASE) == 22
    assert faults(RELEASE, "1.2.3") == []


@pytest.mark.parametrize("left_out", RELEASE)
def test_each_missing_file_is_told(left_out: str) -> None:
    (told,) = faults([name for name in RELEASE if name != left_out], "1.2.3")
    assert told.startswith("missing: ")


@pytest.mark.parametrize(
    "stray",
    [
        "schematic_native-1.2.3-cp313-cp313-win_amd64.whl",
        "schematic_native-1.2.4.tar.gz",
        "schematic_native-1.2.3-cp310-abi3-linux_x86_64.whl",
    ],
)
def test_a_file_that_does_not_belong_is_told(stray: str) -> None:
    assert faults([*RELEASE, stray], "1.2.3") == [f"does not belong: {stray}"]


def test_a_wheel_that_was_built_twice_is_told() -> None:
    twice = "schematic_native-1.2.3-cp310-abi3-macosx_12_0_arm64.whl"
    (told,) = faults([*RELEASE, twice], "1.2.3")
    assert told.startswith("more than one: ")
