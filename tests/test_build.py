"""`__build__` tells how the extension was built."""

from __future__ import annotations

import platform

import pytest

import schematic_native
from schematic_native import __build__


def test_the_build_tells_version_profile_target_and_compiler() -> None:
    assert __build__.version == schematic_native.__version__
    assert __build__.profile in {"release", "iterate", "dev"}
    machine = {"AMD64": "x86_64", "arm64": "aarch64"}.get(platform.machine(), platform.machine())
    assert __build__.target.startswith(f"{machine}-")
    assert __build__.rustc.startswith("rustc 1.")


def test_the_build_tells_its_abi() -> None:
    assert __build__.features[0] in {"abi3", "abi3t", "version-specific"}
    assert all(feature in repr(__build__) for feature in __build__.features)


def test_the_build_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        __build__.profile = "release"  # type: ignore[misc]
