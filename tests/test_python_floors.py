"""The floors of the Python package, as `make lint` holds them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from scripts.python_floors import MOST_LINES, MOST_PARAMETERS, PACKAGE, check

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parent.parent
HEAD = '"""What this owns."""\n'
SOUND = {
    "__init__.py": f"from {PACKAGE}.client import Client\n",
    "client/__init__.py": f"from {PACKAGE}.client.session import Client\n",
    "client/session.py": f"from {PACKAGE}.leases.store import Store\n",
    "leases/__init__.py": "",
    "leases/store.py": f"from {PACKAGE}._native import Core\nfrom {PACKAGE}.ground import slots\n",
    "leases/checks.py": f"from {PACKAGE}.leases.store import Store\n",
    "ground/__init__.py": "",
    "ground/slots.py": "import json\n",
    "emulator/__init__.py": f"from {PACKAGE}.ground import slots\n",
    "tools/__init__.py": f"from {PACKAGE}.emulator import Emulator\n",
}


@pytest.fixture
def faults_of(tmp_path: Path) -> Callable[..., list[str]]:
    """Check a package that is sound except for the given files; paths are relative to it."""

    def faults_of(**changed: str) -> list[str]:
        for name, text in {**SOUND, **changed}.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text if text.startswith("#") else HEAD + text)
        return [fault.replace(f"{tmp_path}/", "") for fault in check(tmp_path)]

    return faults_of


def test_the_package_keeps_its_floors() -> None:
    assert check(ROOT / "python" / PACKAGE) == []


def test_imports_from_a_lower_floor_are_fine(faults_of: Callable[..., list[str]]) -> None:
    assert faults_of() == []


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (f"from {PACKAGE}.client.session import Client\n", 2),
        (f"from {PACKAGE}.client import session\n", 2),
        (f"import {PACKAGE}.client.session\n", 2),
        (f"def find():\n    from {PACKAGE}.client.session import Client\n", 3),
        (f"if TYPE_CHECKING:\n    from {PACKAGE}.client.session import Client\n", 3),
    ],
    ids=["name", "module", "import", "in_a_function", "for_type_checkers"],
)
def test_an_import_from_a_higher_floor_is_refused(
    faults_of: Callable[..., list[str]], text: str, line: int
) -> None:
    assert faults_of(**{"ground/slots.py": text})[0] == (
        f"ground/slots.py:{line}: ground.slots must not import client.session, which stands above it"
    )


def test_the_emulator_must_not_import_a_client(faults_of: Callable[..., list[str]]) -> None:
    assert faults_of(**{"emulator/app.py": f"import {PACKAGE}.client.session\n"}) == [
        "emulator/app.py:2: emulator.app must not import client.session, which stands above it"
    ]


def test_only_the_top_floors_may_import_the_emulator(faults_of: Callable[..., list[str]]) -> None:
    assert faults_of(**{"ground/slots.py": f"import {PACKAGE}.emulator\n"})[0] == (
        "ground/slots.py:2: ground.slots must not import emulator, which stands above it"
    )


def test_a_module_on_no_floor_is_refused(faults_of: Callable[..., list[str]]) -> None:
    assert faults_of(**{"attic.py": ""}) == [
        "attic.py:1: attic stands on no floor: add it to FLOORS"
    ]


def test_a_circle_within_a_floor_is_refused_once(faults_of: Callable[..., list[str]]) -> None:
    back = f"from {PACKAGE}.leases.checks import check\n"
    assert faults_of(**{"leases/store.py": back}) == [
        "circle of imports: leases.checks, leases.store"
    ]


def test_a_longer_circle_is_refused(faults_of: Callable[..., list[str]]) -> None:
    assert faults_of(
        **{
            "leases/store.py": f"from {PACKAGE}.leases.slabs import Slab\n",
            "leases/slabs.py": f"from {PACKAGE}.leases import checks\n",
        }
    ) == ["circle of imports: leases.checks, leases.slabs, leases.store"]


def test_a_module_that_is_too_long_is_refused(faults_of: Callable[..., list[str]]) -> None:
    text = "\n" * (MOST_LINES - 1)
    assert faults_of(**{"ground/slots.py": text}) == []
    assert faults_of(**{"ground/slots.py": text + "\n"}) == [
        (
            f"ground/slots.py: {MOST_LINES + 1} lines, at most {MOST_LINES} are allowed: "
            "split it by its nouns"
        )
    ]


def test_a_module_without_a_docstring_is_refused(faults_of: Callable[..., list[str]]) -> None:
    assert faults_of(**{"ground/slots.py": "# Slots.\n"}) == [
        "ground/slots.py: opens without a docstring: say what the module owns"
    ]


@pytest.mark.parametrize("name", ["_find", "find", "__init__"])
@pytest.mark.parametrize("keyword", ["def", "async def"])
def test_a_function_with_too_many_parameters_is_refused(
    faults_of: Callable[..., list[str]], keyword: str, name: str
) -> None:
    names = [f"p{number}" for number in range(MOST_PARAMETERS)]
    allowed = f"class Store:\n    {keyword} {name}(self, {', '.join(names)}):\n        pass\n"
    assert faults_of(**{"ground/slots.py": allowed}) == []
    assert faults_of(**{"ground/slots.py": allowed.replace("p0", "p0, *, more")}) == [
        (
            f"ground/slots.py:3: {name} takes {MOST_PARAMETERS + 1} parameters, "
            f"at most {MOST_PARAMETERS} are allowed: pass an object"
        )
    ]


def test_a_public_signature_may_have_more_parameters(faults_of: Callable[..., list[str]]) -> None:
    names = ", ".join(f"p{number}" for number in range(MOST_PARAMETERS + 1))
    hold = f"class Schematic:\n    def hold(self, {names}):\n        pass\n"
    assert faults_of(**{"client/synchronous.py": hold}) == []
