"""A release is complete, or it is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scripts.wheel_set import differences, released

if TYPE_CHECKING:
    from pathlib import Path


def fill(directory: Path) -> None:
    for name in released("1.2.3"):
        (directory / name).touch()


def test_the_whole_release_is_taken(tmp_path: Path) -> None:
    fill(tmp_path)
    assert differences(tmp_path, "1.2.3") == []


def test_a_missing_wheel_and_one_too_many_are_told(tmp_path: Path) -> None:
    fill(tmp_path)
    (tmp_path / "schematic_native-1.2.3-cp310-abi3-win_amd64.whl").unlink()
    (tmp_path / "schematic_native-1.2.3-cp313-cp313-win_amd64.whl").touch()
    assert differences(tmp_path, "1.2.3") == [
        "missing: schematic_native-1.2.3-cp310-abi3-win_amd64.whl",
        "too many: schematic_native-1.2.3-cp313-cp313-win_amd64.whl",
    ]


def test_a_release_of_another_version_is_no_release(tmp_path: Path) -> None:
    fill(tmp_path)
    assert len(differences(tmp_path, "1.2.4")) == 2 * len(released("1.2.4"))
